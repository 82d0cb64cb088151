"""Adapters of the benchmark: the untouched model, logistic regression, the resampling recipe, one-class experts in the panel."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

import nearward as nw
from benchmarks.common.baselines import baselines
from benchmarks.rare.report import LOGISTIC, UNTOUCHED
from benchmarks.rare.training_set import Cell, Method, Scored


def _untouched(cell: Cell) -> Scored:
    return Scored(cell.risk(cell.plain), seconds=cell.plain_seconds)


def _logistic(cell: Cell) -> Scored:
    return Scored(np.asarray(baselines()["LogisticRegression"](cell.train, cell.outcome, cell.test)))


def _resampled(cell: Cell, **how: Any) -> Scored:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nw.Resampled(seed=cell.seed, schema=cell.schema, **how).fit(cell.train, cell.outcome, groups=cell.groups)
        return Scored(model.predict_proba(cell.test)[:, 1], model.predict_uncorrected(cell.test))


def _one_class(cell: Cell, method: Any) -> Scored:
    return cell.judged(experts=[nw.OneClass(method=method, seed=cell.seed)])


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
