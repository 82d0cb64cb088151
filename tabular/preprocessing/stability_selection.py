"""Stability selection: the few columns that most half-samples of the patients select.

On each of 100 half-samples (50 pairs of halves that share no patient) a group lasso adds one column after the other, each with all the
features that encode it, up to a maximum. Columns that most half-samples select are selected. The bound on the number of those selected by
chance is Meinshausen and Bühlmann's.

Shapes: n rows, p encoded features, d columns, b half-samples.

References
----------
Meinshausen, Bühlmann: Stability selection (2010). Shah, Samworth: Variable selection with error control (2013), for the pairs of halves.
Yuan, Lin: Model selection and estimation in regression with grouped variables (2006).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_fit_inputs
from nearward.tabular.errors import InputError, TooFewEvents, require_columns
from nearward.tabular.frame_output import FrameOutput, frame_output
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints, RandomState

_PAIRS = 50
_MIN_EVENTS = 20  # ten in either half
_PENALTIES, _MIN_PENALTY = 40, 0.02  # steps of the path, and its end as a share of its beginning
_ITERATIONS = 40  # of the solver at each step, warm-started from the step before


class StableColumns(FrameOutput, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """Select the columns that most half-samples select.

    Parameters
    ----------
    share : float
        Of the half-samples that must select a column, over .5.
    wrong : float
        Bound on the expected number of columns selected by chance; determines how many a half-sample may select.
    schema : Schema, optional
        Inferred by default.
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.

    Attributes
    ----------
    columns_ : tuple of str, the selected ones, in the order of the frame
    table_ : pl.DataFrame, ``column``, ``share`` of the half-samples that selected it, ``selected``; the most stable first
    most_ : int, columns that a half-sample could select

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = pl.DataFrame({name: rng.normal(size=600) for name in "abcdefgh"})
    >>> ill = (2 * frame["c"] - frame["f"] + rng.normal(size=600) > 2).to_numpy()
    >>> StableColumns().fit(frame, ill).columns_
    ('c', 'f')
    """

    schema_: Schema
    most_: int
    columns_: tuple[str, ...]
    table_: pl.DataFrame

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(self, *, share: float = 0.75, wrong: float = 1.0, schema: Schema | None = None, random_state: RandomState = 0) -> None:
        self.share = share
        self.wrong = wrong
        self.schema = schema
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> StableColumns:
        """Select columns.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values
        groups : (n,), optional
            Patients: the halves of a pair share none.

        Raises
        ------
        InputError
            Settings outside their range, an outcome without two values, or events of so few patients that they can't be halved.
        TooFewEvents
            Fewer than 20 events.
        """
        refuse_sample_weight(self, fit_params)
        if not 0.5 < self.share < 1 or not self.wrong > 0:
            raise InputError(f"share must lie between .5 and 1, and wrong must be positive, got share={self.share!r}, wrong={self.wrong!r}")
        frame, target, patient_ids = validate_fit_inputs(X, y, groups)
        rarer = min(target.events, frame.height - target.events)
        if rarer < _MIN_EVENTS:
            raise TooFewEvents(rarer, _MIN_EVENTS, "select columns by stability")
        schema = self.schema or Schema.infer(frame)
        rows = schema.conform(frame)
        encoder = TableEncoder.fit(schema, rows)
        sources = encoder.source_columns
        names = list(dict.fromkeys(sources))
        if not names:
            raise InputError("no feature is left to select from")
        if self.wrong < min(len(names), 1 / ((2 * self.share - 1) * len(names))):
            raise InputError(f"wrong={self.wrong!r} cannot be guaranteed for {len(names)} columns: raise it, or the share")
        most = min(max(int(math.sqrt(self.wrong * (2 * self.share - 1) * len(names))), 1), len(names))
        column = np.array([names.index(source) for source in sources])  # (p,)
        selected = _half_samples(encoder.transform(rows), target.outcome, patient_ids, column, most, seed_of(self.random_state))  # (b, d)
        share = selected.mean(axis=0)
        stable = share >= self.share
        columns = tuple(name for name in frame.columns if name in {names[j] for j in np.flatnonzero(stable)})
        table = pl.DataFrame({"column": names, "share": share, "selected": stable})
        table = table.sort(["share", "column"], descending=[True, False])
        self.__dict__.update(schema_=schema, most_=most, columns_=columns, table_=table)
        return self

    @frame_output
    def transform(self, X: Any) -> pl.DataFrame:
        """Return the frame's selected columns."""
        check_is_fitted(self, "columns_")
        frame = to_frame(X)
        require_columns(self.columns_, frame.columns)
        if not self.columns_:
            raise InputError("no column is stable enough: raise wrong, or lower share")
        return frame.select(self.columns_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the selected columns."""
        check_is_fitted(self, "columns_")
        return np.array(self.columns_, dtype=object)


def _half_samples(x: Floats, outcome: Ints, patient_ids: Ints, column: Ints, most: int, seed: int) -> Bools:
    """Return which columns each half-sample selects (b, d)."""
    deviation = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    gram, gradient = [], []
    for pair in range(_PAIRS):
        half = assign_folds(outcome, patient_ids, 2, seed * _PAIRS + pair)
        for side in (0, 1):
            y = outcome[half == side]
            if not 0 < y.sum() < len(y):
                raise InputError(
                    f"the rows can't be halved: {patient_ids.max() + 1} patients, {len(np.unique(patient_ids[outcome == 1]))} of them "
                    "with the event, and either half needs both outcomes"
                )
            rows = z[half == side]
            rows = rows - rows.mean(axis=0)
            gram.append(rows.T @ rows / len(rows))
            gradient.append(rows.T @ (y - y.mean()) / len(rows))  # of the log-likelihood at coefficients of 0
    return _group_lasso_path(np.stack(gram), np.stack(gradient), column, most)


def _group_lasso_path(gram: Floats, gradient: Floats, column: Ints, most: int) -> Bools:
    """Follow the group lasso of all half-samples at once, as long as each has at most ``most`` columns.

    Solved by accelerated proximal gradient steps (FISTA) along a path of falling penalties.

    Parameters
    ----------
    gram : (b, p, p)
    gradient : (b, p)
    column : (p,), index of the column; features of one column are adjacent
    most : int

    Returns
    -------
    (b, d), bool: the last active set with at most ``most`` columns
    """
    starts = np.flatnonzero(np.append(True, np.diff(column) != 0))
    weight = np.sqrt(np.diff(np.append(starts, len(column))))  # the penalty of a column grows with its features
    step = 1 / np.linalg.eigvalsh(gram)[:, -1].clip(1e-12)  # (b,)

    def norm(beta: Floats) -> Floats:
        return np.asarray(np.sqrt(np.add.reduceat(beta**2, starts, axis=1)))  # (b, d)

    first = (norm(gradient) / weight).max(axis=1)  # the penalty at which the first column enters
    beta = np.zeros_like(gradient)
    selected = np.zeros((len(gram), len(starts)), dtype=bool)
    active = np.ones(len(gram), dtype=bool)
    for penalty in np.geomspace(1, _MIN_PENALTY, _PENALTIES):
        now = np.flatnonzero(active)
        if not len(now):
            break
        threshold = (penalty * first * step)[now, None] * weight  # (b, d)
        old = momentum = beta[now]
        t = 1.0
        for _ in range(_ITERATIONS):
            moved = momentum + step[now, None] * (gradient[now] - np.einsum("bpq,bq->bp", gram[now], momentum))
            shrink = np.maximum(0, 1 - threshold / np.maximum(norm(moved), 1e-300))
            new = moved * shrink[:, column]
            t_new = (1 + math.sqrt(1 + 4 * t**2)) / 2
            old, momentum, t = new, new + (t - 1) / t_new * (new - old), t_new
        beta[now] = old
        entered = norm(old) > 0
        fits = entered.sum(axis=1) <= most
        selected[now[fits]] = entered[fits]
        active[now[~fits]] = False
    return selected
