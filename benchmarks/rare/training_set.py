"""One setting of the rare-outcome benchmark: a training set thinned to an event rate, its test rows, and a method's scores of them.

Shapes: n training rows, q test rows.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import nearward as nw
from benchmarks.common.cohorts import patients_of
from benchmarks.common.paths import OUT
from benchmarks.rare.fit_cache import clock, shared
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.persistence.artifact import MANIFEST
from nearward.tabular.typing import Floats

Rows = NDArray[Any]

CACHE = OUT / "rare"
RATES = (0.1, 0.01, 0.005)
SEEDS = 3  # as many as there are folds: every seed has test patients of its own
_STORED = 10_000
_TEST_ROWS = {0.1: 5_000}  # test rows; rarer events need more of them
_TEST_ROWS_RARER = 10_000
FEWEST = 10  # events, in training and in test


@dataclass(frozen=True)
class Setting:
    """One training set with its test rows; no patient on both sides, both thinned to the same event rate.

    Parameters
    ----------
    task : str
    rate : float, share of events
    train, test : features of n and q rows
    outcome, test_outcome : (n,), (q,), 0 or 1
    groups, test_groups : (n,), (q,), patients
    schema : Schema, as inferred from the training rows
    seed : int
    """

    task: str
    rate: float
    train: pl.DataFrame
    outcome: Rows
    groups: Rows
    test: pl.DataFrame
    test_outcome: Rows
    test_groups: Rows
    schema: Schema
    seed: int

    @property
    def name(self) -> str:
        """Prefix of its cache files."""
        return f"{self.task}.{self.rate:g}.{self.seed}"

    @cached_property
    def plain(self) -> nw.RiskClassifier:
        """The untouched RiskClassifier, fitted once and cached."""
        if not (self._folder / MANIFEST).exists():
            began = clock()
            model = self.fit()
            seconds = clock() - began
            model.save(self._folder)
            self._seconds_file.write_text(json.dumps(seconds))
        return nw.load(self._folder)

    @property
    def plain_seconds(self) -> float:
        """Processor time of the untouched model's fit, all threads together."""
        return float(json.loads(self._seconds_file.read_text()))

    @property
    def _seconds_file(self) -> Path:
        return self._folder.parent / f"{self._folder.name}.seconds.json"

    def fit(self, **options: Any) -> nw.RiskClassifier:
        """Fit a RiskClassifier with options on the training rows."""
        with warnings.catch_warnings(), shared():
            warnings.simplefilter("ignore")
            return nw.RiskClassifier(**{"random_state": self.seed, "schema": self.schema, **options}).fit(
                self.train, self.outcome, groups=self.groups
            )

    def risk(self, model: nw.RiskClassifier) -> Floats:
        """Return a model's risks of the test rows (q,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(model.predict_proba(self.test)[:, 1])

    def judged(self, **options: Any) -> Scored:
        """Fit a RiskClassifier with options; return its risks of the test rows and the time of the fit."""
        began = clock()
        model = self.fit(**options)
        spent = clock() - began
        return Scored(self.risk(model), seconds=spent)

    @property
    def _folder(self) -> Path:
        return CACHE / f"{self.name}.plain"


@dataclass(frozen=True)
class Scored:
    """A method's scores of a setting's test rows.

    Parameters
    ----------
    risk : (q,), probability, calibrated out of fold
    uncorrected : (q,), optional
        The probability before recalibration.
    alert : (q,), bool, optional
        The method's own alerts; by default the rows at or above the threshold.
    seconds : float, optional
        Processor time of the fit, where the whole call does more.
    """

    risk: Floats
    uncorrected: Floats | None = None
    alert: NDArray[np.bool_] | None = None
    seconds: float | None = None


Method = Callable[[Setting], Scored | None]  # None: the method does not apply (no column blocks, for instance)


def sample_training_set(cohort: Cohort, rate: float, seed: int) -> Setting | None:
    """Draw a setting: test rows of a third of the patients (another third for every seed), up to 10,000 training rows of the others.

    Returns
    -------
    Cell, or None where fewer than 10 events would be left on either side
    """
    group = patients_of(cohort)
    test_side = assign_folds(cohort.outcome, group, SEEDS, 0) == seed
    rng = np.random.default_rng([seed, round(1e4 * rate)])
    stored = thinned(rng, np.flatnonzero(~test_side), cohort.outcome, rate, _STORED)
    test = thinned(rng, np.flatnonzero(test_side), cohort.outcome, rate, _TEST_ROWS.get(rate, _TEST_ROWS_RARER))
    if min(cohort.outcome[stored].sum(), cohort.outcome[test].sum()) < FEWEST:
        return None
    train = cohort.features[stored]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = Schema.infer(train)
    parts = [(cohort.features[rows], cohort.outcome[rows], group[rows]) for rows in (stored, test)]
    return Setting(cohort.name, rate, *parts[0], *parts[1], schema, seed)


def thinned(rng: np.random.Generator, rows: Rows, outcome: Rows, rate: float, most: int) -> Rows:
    """Draw at most ``most`` of the rows with an event rate of ``rate``."""
    shuffled = rng.permutation(rows)
    with_it, without = shuffled[outcome[shuffled] == 1], shuffled[outcome[shuffled] == 0]
    size = int(min(most, len(with_it) / rate, len(without) / (1 - rate)))
    events = round(size * rate)
    return np.sort(np.concatenate([with_it[:events], without[: size - events]]))
