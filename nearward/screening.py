"""Screening where events are too few to learn a risk from: rank by how unlike the event-free a row is, and say what that finds.

Beside it stands what a logistic regression finds that learns from the few events: on every cohort tried, more, from a single event up.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import clone

from nearward.evaluation.stats.confidence import Estimate, clopper_pearson
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.novelty.one_class import OneClass
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder

ENOUGH = 20  # events from which a risk is worth fitting (docs/guide/rare-outcomes.md)


@dataclass(frozen=True)
class Screening:
    """A one-class ranker, and how many of the known events it would have found.

    Parameters
    ----------
    ranker : OneClass, fitted on all rows of patients without the event
    recall : Estimate
        Share of the events among the rows alerted, each fold ranked by a model that saw none of its patients; its interval is exact.
        Rows of one patient count as if they were independent.
    linear : Estimate or None
        The same of a logistic regression that learns from the other folds' events; None where one fold holds all events.
    budget : float, share of rows alerted
    events : int
    out_of_fold : pl.DataFrame
        The n rows, the most unusual first, each judged by a model that saw none of its patient's rows: ``row``, ``share`` of the fold's
        rows that are less unusual, ``alert`` for the budget's share of each fold. The recall is that of these alerts.
    """

    ranker: OneClass
    recall: Estimate
    linear: Estimate | None
    budget: float
    events: int
    out_of_fold: pl.DataFrame

    def rank(self, X: Any) -> pl.DataFrame:
        """Return q rows, the most unusual first: ``row``, ``score``, ``share``, and ``alert`` for the budget's share of these rows."""
        ranked = self.ranker.rank(X).sort("score", descending=True, maintain_order=True)
        alerts = round(self.budget * ranked.height)
        return ranked.with_columns(alert=pl.int_range(ranked.height) < alerts)


def screen(
    X: Any, y: Any, groups: Any = None, *, budget: float = 0.05, ranker: OneClass | None = None, folds: int = 5, seed: int = 0
) -> Screening:
    """Fit a screening ranker and measure its recall at a budget, from one event up.

    Parameters
    ----------
    X : frame of n rows
    y : (n,), the outcome
    groups : (n,), optional, patients
    budget : float
        Share of rows that can be looked at; among rows with equal scores the seed's lot decides.
    ranker : OneClass, optional
        By default ``OneClass(seed=seed)``.
    folds, seed : int

    Returns
    -------
    Screening

    Raises
    ------
    InputError
        What cannot be read; fewer than 50 rows of patients without the event beside each fold.

    Warns
    -----
    DataWarning
        From 20 events up: fit a ``RiskClassifier``. Where a logistic regression on the same few events finds more of them.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> frame = pl.DataFrame(draw.normal(size=(400, 3)) + 4 * (np.arange(400) < 6)[:, None], schema=["a", "b", "c"])
    >>> found = screen(frame, np.arange(400) < 6, ranker=OneClass(steps=50))
    >>> print(found.recall)
    1.000 (0.541 to 1.000)
    """
    if not 0 < budget < 1:
        raise InputError(f"budget must lie between 0 and 1, got budget={budget!r}")
    if not isinstance(folds, int | np.integer) or folds < 2:
        raise InputError(f"folds must be a whole number from 2, got folds={folds!r}")
    asked = OneClass(seed=seed) if ranker is None else ranker
    if not isinstance(asked, OneClass):
        raise InputError(f"ranker must be a OneClass(), got {asked!r}")
    frame, target, group = validate_fit_inputs(X, y, groups, asked.positive)
    outcome, events = target.outcome, target.events
    fold = assign_folds(outcome, group, folds, seed)
    several = len(np.unique(fold[outcome == 1])) > 1
    linear, parts = 0, []
    for f in np.unique(fold):
        inside = fold == f
        train, label, asked_now = frame.filter(~inside), outcome[~inside], frame.filter(inside)
        alone = clone(asked).set_params(positive=None).fit(train, label, groups=group[~inside])
        parts.append(_placed(np.flatnonzero(inside), alone.decision_function(asked_now), budget, (seed, int(f))))
        if several and outcome[inside].any():
            linear += _hits(_linear(train, label, asked_now, asked.schema), outcome[inside], budget, (seed, int(f)))
    out_of_fold = pl.concat(parts).sort(["share", "row"], descending=[True, False])
    found = int(outcome[out_of_fold.filter("alert")["row"].to_numpy()].sum())
    if events >= ENOUGH:
        told = f"{events} events: from {ENOUGH} up fit a RiskClassifier, which ranks better and whose risks are calibrated"
        warnings.warn(told, DataWarning, stacklevel=2)
    elif linear > found:
        told = f"a logistic regression on the same few events finds {linear} of {events}, this ranker {found}: consider it instead"
        warnings.warn(told, DataWarning, stacklevel=2)
    ranker = clone(asked).set_params(positive=None).fit(frame, outcome, groups=group)
    return Screening(
        ranker, clopper_pearson(found, events), clopper_pearson(linear, events) if several else None, budget, events, out_of_fold
    )


def _order(score: NDArray[np.float64], seed: tuple[int, int]) -> NDArray[np.int64]:
    """Return places from the highest score down; equal scores fall by lot, lest how a table is sorted decides what is found."""
    return np.lexsort((np.random.default_rng(seed).permutation(len(score)), -score))


def _placed(rows: NDArray[np.int64], score: NDArray[np.float64], budget: float, seed: tuple[int, int]) -> pl.DataFrame:
    """Return where each of a fold's rows stands among them, and the budget's share of them as alerts."""
    order = _order(score, seed)
    alert = np.arange(len(rows)) < round(budget * len(rows))
    share = np.searchsorted(np.sort(score), score[order]) / len(rows)  # equal scores stand level
    return pl.DataFrame({"row": rows[order], "share": share, "alert": alert})


def _hits(score: NDArray[np.float64], outcome: NDArray[np.int64], budget: float, seed: tuple[int, int]) -> int:
    """Events among the budget's share of rows with the highest scores."""
    return int(outcome[_order(score, seed)[: round(budget * len(score))]].sum())


def _linear(train: pl.DataFrame, outcome: NDArray[np.int64], asked: pl.DataFrame, schema: Schema | None) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    reading = FrameEncoder.fit(train, schema)
    model = LogisticRegression(C=0.3, solver="newton-cholesky").fit(reading.transform(train), outcome)
    return np.asarray(model.decision_function(reading.transform(asked)))
