"""Methods of the rare-outcome benchmark: the untouched model, logistic regression, resampling, one-class experts in the stack."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

import nearward as nw
from benchmarks.common.baselines import baselines
from benchmarks.rare.report import LOGISTIC, UNTOUCHED
from benchmarks.rare.training_set import Method, Scored, Setting


def _untouched(setting: Setting) -> Scored:
    return Scored(setting.risk(setting.plain), seconds=setting.plain_seconds)


def _logistic(setting: Setting) -> Scored:
    return Scored(np.asarray(baselines()["LogisticRegression"](setting.train, setting.outcome, setting.test)))


def _resampled(setting: Setting, **options: Any) -> Scored:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nw.Resampled(random_state=setting.seed, schema=setting.schema, **options).fit(
            setting.train, setting.outcome, groups=setting.groups
        )
        return Scored(model.predict_proba(setting.test)[:, 1], model.predict_uncorrected(setting.test))


def _one_class(setting: Setting, method: Any) -> Scored:
    return setting.judged(experts=[nw.OneClass(method=method, random_state=setting.seed)])


METHODS: dict[str, Method] = {
    UNTOUCHED: _untouched,
    LOGISTIC: _logistic,
    "trees, no correction": partial(_resampled, sampler=None),
    "trees, SMOTE": partial(_resampled, sampler="smote"),
    "trees, under-sampling": partial(_resampled, sampler="under"),
    "forest, no correction": partial(_resampled, sampler=None, learner="forest"),
    "forest, SMOTE": partial(_resampled, sampler="smote", learner="forest"),
    "one-class expert, DSVDD": partial(_one_class, method="dsvdd"),
    "one-class expert, DROC": partial(_one_class, method="droc"),
}
