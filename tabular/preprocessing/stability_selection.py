"""Stability selection: the few columns that are chosen again and again, whichever half of the patients one looks at.

On each of 100 half-samples (50 pairs of halves that share no patient) a group lasso takes in one column after the other, a column with
all that its encoding makes of it, until it has as many as it may have. Kept are the columns that most half-samples chose. The bound on
how many of them are there by chance is Meinshausen and Bühlmann's.

Letters: n rows, p encoded columns, d columns, b half-samples.

References
----------
Meinshausen, Bühlmann: Stability selection (2010). Shah, Samworth: Variable selection with error control (2013), for the pairs of halves.
Yuan, Lin: Model selection and estimation in regression with grouped variables (2006).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints

_PAIRS = 50
_FEWEST_EVENTS = 20  # ten in either half
_PENALTIES, _LEAST_PENALTY = 40, 0.02  # steps of the path, and its end as a share of its beginning
_ROUNDS = 40  # of the solver at each step, begun at the step before


class StableColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Keep the columns that most half-samples choose.

    Parameters
    ----------
    share : float
        Of the half-samples that must choose a column, over .5.
    wrong : float
        How many columns may be kept by chance, at most and on average; settles how many a half-sample may choose.
    schema : Schema, optional
        Inferred by default.
    seed : int

    Attributes
    ----------
    columns_ : tuple of str, the kept ones, in the order of the frame
    table_ : pl.DataFrame, ``column``, ``share`` of the half-samples that chose it, ``kept``; the steadiest first
    most_ : int, columns that a half-sample could choose

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> frame = pl.DataFrame({name: draw.normal(size=600) for name in "abcdefgh"})
    >>> ill = (2 * frame["c"] - frame["f"] + draw.normal(size=600) > 2).to_numpy()
    >>> StableColumns().fit(frame, ill).columns_
    ('c', 'f')
    """

    def __init__(self, *, share: float = 0.75, wrong: float = 1.0, schema: Schema | None = None, seed: int = 0) -> None:
        self.share = share
        self.wrong = wrong
        self.schema = schema
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> StableColumns:
        """Choose.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values
        groups : (n,), optional
            Patients: no two halves of a pair share one.

        Raises
        ------
        InputError
            Settings outside their range, an outcome without two values, or one that a few patients hold, so that they can't be halved.
        TooFewEvents
            Fewer than 20 events.
        """
        if not 0.5 < self.share < 1 or not self.wrong > 0:
            raise InputError(f"share must lie between .5 and 1 and wrong above 0, got share={self.share!r}, wrong={self.wrong!r}")
        frame, target, group = validate_fit_inputs(X, y, groups)
        event = target.outcome
        fewest = int(min(event.sum(), len(event) - event.sum()))
        if fewest < _FEWEST_EVENTS:
            raise TooFewEvents(fewest, _FEWEST_EVENTS, "tell steady columns from others")
        self.schema_ = self.schema or Schema.infer(frame)
        rows = self.schema_.conform(frame)
        encoding = TableEncoder.fit(self.schema_, rows)
        sources = encoding.source_columns
        names = list(dict.fromkeys(sources))
        if not names:
            raise InputError("no feature is left to choose from")
        if self.wrong < min(len(names), 1 / ((2 * self.share - 1) * len(names))):
            raise InputError(f"wrong={self.wrong!r} cannot be promised of {len(names)} columns: raise it, or the share")
        self.most_ = min(max(int(math.sqrt(self.wrong * (2 * self.share - 1) * len(names))), 1), len(names))
        place = np.array([names.index(source) for source in sources])
        chosen = _chosen(encoding.transform(rows), event, group, place, self.most_, self.seed)  # (b, d)
        steady = chosen.mean(axis=0)
        kept = {name for name, often in zip(names, steady.tolist(), strict=True) if often >= self.share}
        self.columns_ = tuple(name for name in frame.columns if name in kept)
        told = pl.DataFrame({"column": names, "share": steady, "kept": [name in kept for name in names]})
        self.table_ = told.sort(["share", "column"], descending=[True, False])
        return self

    def transform(self, X: Any) -> pl.DataFrame:
        """Return the frame's kept columns."""
        check_is_fitted(self, "columns_")
        frame = to_frame(X)
        missing = [name for name in self.columns_ if name not in frame.columns]
        if missing:
            raise MissingColumns(missing, frame.columns)
        if not self.columns_:
            raise InputError("no column is steady enough to be kept: allow more (wrong=), or ask less often (share=)")
        return frame.select(self.columns_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the kept columns."""
        check_is_fitted(self, "columns_")
        return np.array(self.columns_, dtype=object)


def _chosen(x: Floats, event: Ints, group: Ints, place: Ints, most: int, seed: int) -> Bools:
    """Which columns each half-sample chooses: (b, d)."""
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    gram, towards = [], []
    for pair in range(_PAIRS):
        half = assign_folds(event, group, 2, seed * _PAIRS + pair)
        for side in (0, 1):
            own = event[half == side]
            if not 0 < own.sum() < len(own):
                raise InputError(
                    f"the rows can't be halved: {group.max() + 1} patients, {len(np.unique(group[event == 1]))} of them with the event, "
                    "and either half needs both outcomes"
                )
            rows = z[half == side]
            rows = rows - rows.mean(axis=0)
            gram.append(rows.T @ rows / len(rows))
            towards.append(rows.T @ (own - own.mean()) / len(rows))  # the log-likelihood's slope where nothing has an effect
    return _paths(np.stack(gram), np.stack(towards), place, most)


def _paths(gram: Floats, towards: Floats, place: Ints, most: int) -> Bools:
    """Follow the group lasso of all half-samples at once, as far as each has at most ``most`` columns.

    Parameters
    ----------
    gram : (b, p, p)
    towards : (b, p)
    place : (p,), number of the column; encoded columns of one column stand together
    most : int

    Returns
    -------
    (b, d), bool: the columns in, where at most ``most`` were
    """
    starts = np.flatnonzero(np.append(True, np.diff(place) != 0))
    size = np.sqrt(np.diff(np.append(starts, len(place))))  # a column with many parts pays for them
    step = 1 / np.linalg.eigvalsh(gram)[:, -1].clip(1e-12)  # (b,)

    def length(beta: Floats) -> Floats:
        return np.asarray(np.sqrt(np.add.reduceat(beta**2, starts, axis=1)))  # (b, d)

    first = (length(towards) / size).max(axis=1)  # from here down something enters
    beta = np.zeros_like(towards)
    chosen = np.zeros((len(gram), len(starts)), dtype=bool)
    going = np.ones(len(gram), dtype=bool)
    for penalty in np.geomspace(1, _LEAST_PENALTY, _PENALTIES):
        now = np.flatnonzero(going)
        if not len(now):
            break
        limit = (penalty * first * step)[now, None] * size  # (b, d)
        old = fast = beta[now]
        pace = 1.0
        for _ in range(_ROUNDS):
            moved = fast + step[now, None] * (towards[now] - np.einsum("bpq,bq->bp", gram[now], fast))
            shrink = np.maximum(0, 1 - limit / np.maximum(length(moved), 1e-300))
            new = moved * shrink[:, place]
            later = (1 + math.sqrt(1 + 4 * pace**2)) / 2
            old, fast, pace = new, new + (pace - 1) / later * (new - old), later
        beta[now] = old
        inside = length(old) > 0
        fits = inside.sum(axis=1) <= most
        chosen[now[fits]] = inside[fits]
        going[now[~fits]] = False
    return chosen
