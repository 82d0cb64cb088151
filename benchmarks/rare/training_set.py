"""One training set of the rare-outcome benchmark, thinned to a declared event rate, and what a method says of its test rows.

Letters: n training rows, q test rows.
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
from benchmarks.rare.fit_cache import clock, shared
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.persistence.artifact import MANIFEST
from nearward.tabular.typing import Floats

Rows = NDArray[Any]

KEPT = Path(__file__).resolve().parents[1] / "out" / "rare"
RATES = (0.1, 0.01, 0.005)
SEEDS = 3  # as many as there are folds: every seed has test patients of its own
_STORED = 10_000
_ASKED = {0.1: 5_000}  # test rows; rarer events need more of them
_ASKED_RARER = 10_000
FEWEST = 10  # events, in training and in test


@dataclass(frozen=True)
class Cell:
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
        """What its files begin with."""
        return f"{self.task}.{self.rate:g}.{self.seed}"

    @cached_property
    def plain(self) -> nw.RiskClassifier:
        """The untouched RiskClassifier, fitted once and kept on disk."""
        if not (self._folder / MANIFEST).exists():
            began = clock()
            model = self.fit()
            spent = clock() - began
            model.summary_["processor_seconds"] = spent
            model.save(self._folder)
        return nw.load(self._folder)

    @property
    def plain_seconds(self) -> float:
        """Processor time of the untouched model's fit, all threads together."""
        return float(json.loads((self._folder / MANIFEST).read_text())["summary"]["processor_seconds"])

    def fit(self, **how: Any) -> nw.RiskClassifier:
        """Fit a RiskClassifier with options on the training rows."""
        with warnings.catch_warnings(), shared():
            warnings.simplefilter("ignore")
            return nw.RiskClassifier(**{"seed": self.seed, "schema": self.schema, **how}).fit(self.train, self.outcome, groups=self.groups)

    def risk(self, model: nw.RiskClassifier) -> Floats:
        """Return a model's risks of the test rows (q,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(model.predict_proba(self.test)[:, 1])

    def judged(self, **how: Any) -> Scored:
        """Fit a RiskClassifier with options, and take its risks of the test rows and what the fit alone took."""
        began = clock()
        model = self.fit(**how)
        spent = clock() - began
        return Scored(self.risk(model), seconds=spent)

    @property
    def _folder(self) -> Path:
        return KEPT / f"{self.name}.plain"


@dataclass(frozen=True)
class Scored:
    """What a method says of a cell's test rows.

    Parameters
    ----------
    risk : (q,), probability, calibrated on rows left out
    uncorrected : (q,), optional
        The probability before it was calibrated again.
    alert : (q,), bool, optional
        Where the method itself says whom to alert; else whoever reaches the threshold is.
    seconds : float, optional
        Processor time of the fit, where the whole call would count what is not of it.
    """

    risk: Floats
    uncorrected: Floats | None = None
    alert: NDArray[np.bool_] | None = None
    seconds: float | None = None


Method = Callable[[Cell], Scored | None]  # None: the method has nothing to do here (no column blocks, for instance)


def draw_cell(cohort: Cohort, rate: float, seed: int) -> Cell | None:
    """Draw a cell: a third of the patients to test on (another third for every seed), up to 10,000 rows of the others.

    Returns
    -------
    Cell, or None where fewer than 10 events would be left on either side
    """
    group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group
    asked = assign_folds(cohort.outcome, group, SEEDS, 0) == seed
    draw = np.random.default_rng([seed, round(1e4 * rate)])
    stored = thinned(draw, np.flatnonzero(~asked), cohort.outcome, rate, _STORED)
    test = thinned(draw, np.flatnonzero(asked), cohort.outcome, rate, _ASKED.get(rate, _ASKED_RARER))
    if min(cohort.outcome[stored].sum(), cohort.outcome[test].sum()) < FEWEST:
        return None
    train = cohort.features[stored]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = Schema.infer(train)
    parts = [(cohort.features[rows], cohort.outcome[rows], group[rows]) for rows in (stored, test)]
    return Cell(cohort.name, rate, *parts[0], *parts[1], schema, seed)


def thinned(draw: np.random.Generator, rows: Rows, outcome: Rows, rate: float, most: int) -> Rows:
    """Draw at most ``most`` of the rows so that the share ``rate`` of them has the event."""
    shuffled = draw.permutation(rows)
    with_it, without = shuffled[outcome[shuffled] == 1], shuffled[outcome[shuffled] == 0]
    size = int(min(most, len(with_it) / rate, len(without) / (1 - rate)))
    events = round(size * rate)
    return np.sort(np.concatenate([with_it[:events], without[: size - events]]))
