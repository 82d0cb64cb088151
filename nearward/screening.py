"""Screening where events are too few to fit a risk model: rows are ranked by how unlike the event-free rows they are.

The recall is reported beside that of a logistic regression on the same few events, which found more on every cohort tried.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import clone

from nearward.evaluation.stats.confidence import Estimate, clopper_pearson
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.validation import describe_event, validate_fit_inputs, validate_integers
from nearward.tabular.ensemble.logistic_regression import fit_logistic_regression
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.novelty.one_class import OneClass
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats, Ints

ENOUGH = 20  # events from which a risk is worth fitting (docs/guide/rare-outcomes.md)


@dataclass(frozen=True)
class Screening:
    """A one-class ranker, and its recall of the known events at a budget.

    Parameters
    ----------
    ranker : OneClass, fitted on all rows of patients without the event
    recall : Estimate
        Share of the events that are among the alerts, each fold ranked by a model without its patients, with the exact interval.
        Rows of one patient count as independent.
    linear : Estimate or None
        The recall of a logistic regression on the other folds' events; None where one fold has all events.
    budget : float, share of rows alerted
    events : int
    event : str, the outcome value that is the event
    out_of_fold : pl.DataFrame
        The n rows, the most unusual first, each ranked by a model without its patient's rows: ``row``, ``share`` of the fold's rows
        that are less unusual, ``alert`` for the budget's share of each fold. ``recall`` is the recall of these alerts.
    """

    ranker: OneClass
    recall: Estimate
    linear: Estimate | None
    budget: float
    events: int
    event: str
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
        Share of rows that can be reviewed; ties are broken at random.
    ranker : OneClass, optional
        By default ``OneClass(random_state=seed)``.
    folds, seed : int

    Returns
    -------
    Screening

    Raises
    ------
    InputError
        Unusable data or arguments; fewer than 50 training rows of patients without the event in a fold.

    Warns
    -----
    DataWarning
        From 20 events up: fit a ``RiskClassifier``. Also where a logistic regression on the same few events has a higher recall.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = pl.DataFrame(rng.normal(size=(400, 3)) + 4 * (np.arange(400) < 6)[:, None], schema=["a", "b", "c"])
    >>> screening = screen(frame, np.arange(400) < 6, ranker=OneClass(steps=50))
    >>> print(screening.recall)
    1.000 (0.541 to 1.000)
    """
    if not 0 < budget < 1:
        raise InputError(f"budget must lie between 0 and 1, got budget={budget!r}")
    validate_integers(2, folds=folds)
    ranker = OneClass(random_state=seed) if ranker is None else ranker
    if not isinstance(ranker, OneClass):
        raise InputError(f"ranker must be a OneClass(), got {ranker!r}")
    frame, target, patient_ids = validate_fit_inputs(X, y, groups, ranker.positive)
    outcome, events = target.outcome, target.events
    fold = assign_folds(outcome, patient_ids, folds, seed)
    has_linear = len(np.unique(fold[outcome == 1])) > 1  # else one training part has no event
    linear_hits, parts = 0, []
    for f in np.unique(fold):
        test, fold_seed = fold == f, (seed, int(f))
        train, train_outcome, queries = frame.filter(~test), outcome[~test], frame.filter(test)
        fold_ranker = clone(ranker).set_params(positive=1).fit(train, train_outcome, groups=patient_ids[~test])
        parts.append(_rank(np.flatnonzero(test), fold_ranker.decision_function(queries), budget, fold_seed))
        if has_linear and outcome[test].any():
            linear_score = _logistic_regression(train, train_outcome, queries, ranker.schema)
            linear_hits += _count_hits(linear_score, outcome[test], budget, fold_seed)
    out_of_fold = pl.concat(parts).sort(["share", "row"], descending=[True, False])
    hits = int(outcome[out_of_fold.filter("alert")["row"].to_numpy()].sum())
    if events >= ENOUGH:
        message = f"{events} events: from {ENOUGH} up fit a RiskClassifier, which ranks better and whose risks are calibrated"
        warnings.warn(message, DataWarning, stacklevel=2)
    elif linear_hits > hits:
        message = f"a logistic regression on the same few events finds {linear_hits} of {events}, this ranker {hits}: consider it instead"
        warnings.warn(message, DataWarning, stacklevel=2)
    final_ranker = clone(ranker).set_params(positive=1).fit(frame, outcome, groups=patient_ids)
    linear = clopper_pearson(linear_hits, events) if has_linear else None
    return Screening(final_ranker, clopper_pearson(hits, events), linear, budget, events, describe_event(target.event), out_of_fold)


def _rank(rows: Ints, score: Floats, budget: float, seed: tuple[int, int]) -> pl.DataFrame:
    """Rank a fold's rows: the share of its rows that are less unusual, and the budget's share of them as alerts."""
    order = _order(score, seed)
    alert = np.arange(len(rows)) < round(budget * len(rows))
    share = np.searchsorted(np.sort(score), score[order]) / len(rows)  # equal scores have equal shares
    return pl.DataFrame({"row": rows[order], "share": share, "alert": alert})


def _count_hits(score: Floats, outcome: Ints, budget: float, seed: tuple[int, int]) -> int:
    """Count events among the budget's share of rows with the highest scores."""
    return int(outcome[_order(score, seed)[: round(budget * len(score))]].sum())


def _order(score: Floats, seed: tuple[int, int]) -> Ints:
    """Return indices by descending score; ties are broken at random, so that the order of the table has no influence."""
    return np.lexsort((np.random.default_rng(seed).permutation(len(score)), -score))


def _logistic_regression(train: pl.DataFrame, outcome: Ints, queries: pl.DataFrame, schema: Schema | None) -> Floats:
    encoder = FrameEncoder.fit(train, schema)
    model = fit_logistic_regression(encoder.transform(train), outcome)
    return np.asarray(model.decision_function(encoder.transform(queries)))
