"""Events before each prediction time: labels paired with the earlier events of their subjects, and what was left out, counted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from nearward.tabular.errors import InputError
from nearward.tabular.events.label_table import PREDICTION_TIME
from nearward.tabular.events.missing_values import UNKNOWN
from nearward.tabular.events.reading import CODE, SUBJECT, TIME, UNIT, VALUE

ROW, AGE = "(row)", "(age)"
_HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}
_MICROSECONDS = 3.6e9  # an hour


def span_hours(span: str | None) -> float:
    """Return the hours of a span: "90m", "6h", "7d"; infinite for None.

    Examples
    --------
    >>> span_hours("7d"), span_hours(None)
    (168.0, inf)
    """
    if span is None:
        return math.inf
    match = re.fullmatch(r"(\d+)([smhdw])", span) if isinstance(span, str) else None
    if match is None or int(match[1]) == 0:
        raise InputError(f'spans are text such as "90m", "6h", "7d" (s, m, h, d, w), or None for all earlier events, got {span!r}')
    return int(match[1]) * _HOURS[match[2]]


def check_spans(spans: Sequence[str | None]) -> dict[str | None, float]:
    """Return the hours of each span, the shortest first.

    Raises
    ------
    InputError
        No spans, a span twice, or one that cannot be read.
    """
    if isinstance(spans, str) or not spans:
        raise InputError(f'spans must be a sequence such as ("6h", "24h", None), got spans={spans!r}')
    hours = {span: span_hours(span) for span in spans}
    if len(set(hours.values())) < len(spans):
        raise InputError(f"spans must differ, got spans={tuple(spans)!r}")
    return dict(sorted(hours.items(), key=lambda item: item[1]))


def earlier_events(labels: pl.DataFrame, events: pl.DataFrame, *, include: bool, more: Sequence[str] = (UNIT, UNKNOWN)) -> pl.DataFrame:
    """Pair each label with the events of its subject that are known at its prediction time.

    Parameters
    ----------
    labels : pl.DataFrame, with ``(row)``, subject and prediction time
    events : pl.DataFrame
    include : bool
        Whether events at the very prediction time are known.
    more : sequence of str
        Further columns of the events that are wanted.

    Returns
    -------
    pl.DataFrame : ``(row)``, time, code, ``(age)`` in hours, infinite for static facts, value, and the columns of ``more`` that there are
    """
    pairs = labels.select(ROW, SUBJECT, PREDICTION_TIME).join(events, on=SUBJECT)
    pairs = pairs.with_columns((pl.col(PREDICTION_TIME) - pl.col(TIME)).dt.total_microseconds().alias(AGE))
    known = pl.col(AGE) >= 0 if include else pl.col(AGE) > 0
    pairs = pairs.filter(known.fill_null(value=True))
    microseconds = pairs.get_column(AGE).cast(pl.Float64).to_numpy()  # divided by NumPy: Polars rounds a single row otherwise
    hours = np.where(np.isnan(microseconds), np.inf, microseconds / _MICROSECONDS)
    return pairs.select(ROW, TIME, CODE, pl.Series(AGE, hours), VALUE, *(name for name in more if name in events.columns))


def finite_values() -> pl.Expr:
    """Return the numeric values, null where they are NaN or infinite."""
    return pl.when(pl.col(VALUE).is_finite()).then(pl.col(VALUE))


def same_unit(unit: pl.Expr, expected: pl.Expr) -> pl.Expr:
    """Return whether a number's unit is the expected one; case and blanks do not matter, and an unknown unit is no other one."""
    plain, wanted = (one.str.to_lowercase().str.replace_all(r"\s", "") for one in (unit, expected))
    return (plain == wanted).fill_null(value=True)
