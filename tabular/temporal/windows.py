"""Leak-free features of repeated measurements before each moment of prediction: time windows and regular grids, in Polars.

A window ends *before* its moment. A measurement at the same time is excluded, because the order is unknown (a lab drawn with the
admission it is to predict, a result stamped with the time of death). Where results arrive later than they are measured, give the time of
arrival. The order of the rows does not matter.

Everything is one lazy query; for a ``pl.LazyFrame``, nothing is read until the result is collected or sunk.

Shapes: n moments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.errors import InputError, require_columns

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
AnyFrame = pl.DataFrame | pl.LazyFrame
Span = str | int | timedelta | None

_TIME, _ROW, _MEASURED_AT, _AGE, _STEP, _INTERVAL = "(time)", "(row)", "(measured at)", "(age)", "(step)", "(interval)"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_HOUR = 3.6e9  # microseconds
_STATISTICS = ("min", "max", "slope", "count")


def windows(
    moments: Frame,
    measurements: AnyFrame,
    *,
    patient: str,
    time: str,
    values: Sequence[str] | None = None,
    spans: Sequence[Span] = (None,),
) -> Frame:
    """Summarise each patient's measurements before each moment.

    Parameters
    ----------
    moments : n rows
        The columns ``patient`` and ``time`` of the predictions, and any others, which stay.
    measurements : rows in any order
        The same two columns, and one number column per measured value; null and NaN are not measurements.
    patient, time : str
        Times are dates, date-times, or whole numbers (minutes since admission, for instance), of the same kind in both frames.
    values : names of columns, optional
        By default all number columns of the measurements except these two.
    spans : sequence
        Lengths of the windows: "90m", "6h", "7d" or a timedelta for dates, whole numbers for whole numbers, None for all earlier
        measurements.

    Returns
    -------
    frame of the type of ``moments``, its n rows in their order, with these columns for each value
        ``value: last``, carried forward without limit; ``value: since``, its age (hours, or units of a whole-number time); and for each
        span ``value: min``, ``max``, ``slope`` (per hour or unit; null below two different times) and ``count``, with the span in the name
        unless it is None (``lactate: min, 6h``). Null where nothing was measured; ``count`` is then 0.

    Raises
    ------
    MissingColumns, InputError
        Columns that are missing, are not numbers, or would be overwritten; times of different types; a span of another type
        than the times.

    Examples
    --------
    >>> stays = pl.DataFrame({"patient": [1, 1], "hour": [5, 9]})
    >>> labs = pl.DataFrame({"patient": [1, 1, 1, 2], "hour": [9, 1, 3, 2], "lactate": [9.0, 1.0, 2.0, 7.0]})
    >>> windows(stays, labs, patient="patient", time="hour")["lactate: last", "lactate: since", "lactate: slope", "lactate: count"].rows()
    [(2.0, 2.0, 0.5, 2), (2.0, 6.0, 0.5, 2)]
    """
    queries, points, measured, names = _prepare(moments, measurements, patient, time, values, spans)
    unit = 1.0 if queries.collect_schema()[time].is_integer() else _HOUR
    points, measured = points.sort(patient, _TIME), measured.sort(patient, _TIME)
    different_spans = dict.fromkeys(spans)
    features = [_last_values(points, measured, patient, names, unit, None in spans)]
    features += [_in_span(points, measured, patient, names, span, unit) for span in different_spans if span is not None]
    out = queries
    for part in features:
        out = out.join(part, on=_ROW, how="left")
    counts = [_column(name, "count", span) for name in names for span in spans]
    order = [_column(name, statistic) for name in names for statistic in ("last", "since")]
    order += [_column(name, statistic, span) for span in different_spans for name in names for statistic in _STATISTICS]
    own = [name for name in queries.collect_schema().names() if name != _ROW]
    out = out.sort(_ROW).with_columns(pl.col(counts).fill_null(0)).select(*own, *order)
    return out if isinstance(moments, pl.LazyFrame) else out.collect()


def regular_series(
    moments: Frame,
    measurements: AnyFrame,
    *,
    patient: str,
    time: str,
    every: str | int | timedelta,
    steps: int,
    values: Sequence[str] | None = None,
) -> Frame:
    """Average each patient's measurements before each moment on a regular time grid, as list columns for ``SeriesEncoder``.

    Parameters
    ----------
    moments, measurements, patient, time, values : as ``windows``
    every : str, int or timedelta
        Length of a step, as a span of ``windows``.
    steps : int
        Number of steps; the last one ends before the moment.

    Returns
    -------
    frame of the type of ``moments``, with a list column of ``steps`` numbers for each value, the oldest first: the mean of the
        measurements in the step, null where there is none.

    Raises
    ------
    MissingColumns, InputError
        As ``windows``; steps below 2.

    Examples
    --------
    >>> stays = pl.DataFrame({"patient": [1], "hour": [6]})
    >>> vitals = pl.DataFrame({"patient": [1, 1, 1], "hour": [1, 5, 6], "pulse": [80.0, 90.0, 200.0]})
    >>> regular_series(stays, vitals, patient="patient", time="hour", every=2, steps=3)["pulse"].to_list()
    [[80.0, None, 90.0]]
    """
    if not isinstance(steps, int) or steps < 2:
        raise InputError(f"steps must be a whole number from 2, got steps={steps!r}")
    queries, points, measured, names = _prepare(moments, measurements, patient, time, values, [every])
    _refuse_overwriting(names, queries)
    step = _length(every)
    index = (steps - 1 - (pl.col(_AGE) - 1) // step).cast(pl.Int64).alias(_STEP)
    means = _pairs(points, measured, patient, step * steps).group_by(_ROW, index).agg(pl.col(names).mean())
    grid = queries.select(_ROW).join(pl.LazyFrame({_STEP: range(steps)}, schema={_STEP: pl.Int64}), how="cross")
    lists = grid.join(means, on=[_ROW, _STEP], how="left").group_by(_ROW).agg(pl.col(names).sort_by(_STEP))
    out = queries.join(lists, on=_ROW, how="left").sort(_ROW).drop(_ROW)
    return out if isinstance(moments, pl.LazyFrame) else out.collect()


# ---- queries ----------------------------------------------------------------------------------------------------------------------


def _prepare(
    moments: pl.DataFrame | pl.LazyFrame,
    measurements: AnyFrame,
    patient: str,
    time: str,
    values: Sequence[str] | None,
    spans: Sequence[Span],
) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame, list[str]]:
    """Validate the arguments, and number the moments; return them, their points in time, the measurements and the names of the values.

    Times of the points and of the measurements are whole numbers: as they are, or dates in microseconds.
    """
    queries, measured = _lazy(moments), _lazy(measurements)
    names = _validate(queries, measured, patient, time, values, spans)
    integer_time = queries.collect_schema()[time].is_integer()
    at = (pl.col(time) if integer_time else pl.col(time).cast(pl.Datetime("us")).to_physical()).cast(pl.Int64).alias(_TIME)
    numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in names]
    queries = queries.with_row_index(_ROW)
    points = queries.select(_ROW, patient, at).drop_nulls()
    return queries, points, measured.select(patient, at, *numbers).drop_nulls([patient, _TIME]), names


def _last_values(
    points: pl.LazyFrame, measured: pl.LazyFrame, patient: str, names: list[str], unit: float, unlimited: bool
) -> pl.LazyFrame:
    """Last values with their age and, if ``unlimited``, statistics of all earlier ones, by an as-of join without equal times."""
    running, ages = [], []
    for name in names:
        value, last, since = pl.col(name), _column(name, "last"), _column(name, "since")
        running.append(value.mean().over(patient, _TIME).forward_fill().over(patient).alias(last))  # the mean of equal times
        running.append(pl.when(value.is_not_null()).then(pl.col(_TIME)).forward_fill().over(patient).alias(since))
        ages.append(((pl.col(_TIME) - pl.col(since)) / unit).alias(since))
        if unlimited:
            time, centred = _since_first(value, unit)
            sums = [term.fill_null(0.0).cum_sum() for term in (time, centred, time * centred, time**2)]
            statistics = {
                "min": value.cum_min().forward_fill(),
                "max": value.cum_max().forward_fill(),
                "slope": _slope(*(total / value.cum_count() for total in sums)),
                "count": value.cum_count(),
            }
            running += [expression.over(patient).alias(_column(name, key, None)) for key, expression in statistics.items()]
    state = measured.with_columns(running).drop(names).unique([patient, _TIME], keep="last", maintain_order=True)
    joined = points.join_asof(state, on=_TIME, by=patient, strategy="backward", allow_exact_matches=False, check_sortedness=False)
    return joined.with_columns(ages).drop(patient, _TIME)


def _in_span(points: pl.LazyFrame, measured: pl.LazyFrame, patient: str, names: list[str], span: Span, unit: float) -> pl.LazyFrame:
    """Minimum, maximum, slope and count of the measurements within a span before each point, its far end included."""
    aggregations = []
    for name in names:
        value = pl.col(name)
        time = pl.when(value.is_not_null()).then(-pl.col(_AGE) / unit)
        variance = time.var()
        slope = pl.cov(time, value) / pl.when(variance > 0).then(variance)
        statistics = {"min": value.min(), "max": value.max(), "slope": slope, "count": value.count()}
        aggregations += [expression.alias(_column(name, key, span)) for key, expression in statistics.items()]
    return _pairs(points, measured, patient, _length(span)).group_by(_ROW).agg(aggregations)


def _pairs(points: pl.LazyFrame, measured: pl.LazyFrame, patient: str, length: int) -> pl.LazyFrame:
    """Pair each point with the measurements before it, at most ``length`` old.

    Time is cut into intervals of that length, so that the join of a point is limited to its own interval and the one before.
    """
    intervals = pl.concat_list(pl.col(_TIME) // length, pl.col(_TIME) // length - 1)
    points = points.with_columns(intervals.alias(_INTERVAL)).explode(_INTERVAL)
    measured = measured.rename({_TIME: _MEASURED_AT}).with_columns((pl.col(_MEASURED_AT) // length).alias(_INTERVAL))
    pairs = points.join(measured, on=[patient, _INTERVAL]).with_columns((pl.col(_TIME) - pl.col(_MEASURED_AT)).alias(_AGE))
    return pairs.filter(pl.col(_AGE) > 0, pl.col(_AGE) <= length)


def _since_first(value: pl.Expr, unit: float) -> tuple[pl.Expr, pl.Expr]:
    """Times and values minus the first measurement's: squares of dates would lose all precision."""
    time = pl.when(value.is_not_null()).then(pl.col(_TIME))
    return (time - time.drop_nulls().first()) / unit, value - value.drop_nulls().first()


def _slope(time: pl.Expr, value: pl.Expr, product: pl.Expr, square: pl.Expr) -> pl.Expr:
    """Least-squares slope from means; null where all times are equal."""
    variance = square - time**2
    return (product - time * value) / pl.when(variance > 1e-9 * square).then(variance)


def _column(name: str, statistic: str, span: Span = None) -> str:
    return f"{name}: {statistic}" if span is None else f"{name}: {statistic}, {span}"


# ---- validation -------------------------------------------------------------------------------------------------------------------


def _lazy(frame: AnyFrame) -> pl.LazyFrame:
    if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
        raise InputError(f"moments and measurements must be Polars frames, got {type(frame).__name__}. pl.DataFrame(…) makes one")
    return frame.lazy()


def _validate(
    queries: pl.LazyFrame, measured: pl.LazyFrame, patient: str, time: str, values: Sequence[str] | None, spans: Sequence[Span]
) -> list[str]:
    """Check columns, types and spans, and return the names of the values."""
    moments, measurements = queries.collect_schema(), measured.collect_schema()
    for schema, required in ((moments, [patient, time]), (measurements, [patient, time, *(values or [])])):
        require_columns(required, list(schema))
    names = list(values) if values is not None else [n for n, t in measurements.items() if t.is_numeric() and n not in (patient, time)]
    numbers = [n for n in names if n not in (patient, time) and (measurements[n].is_numeric() or measurements[n] == pl.Boolean)]
    if not names or len(set(numbers)) < len(names):
        raise InputError(f"values must be number columns of the measurements, beside {patient!r} and {time!r}, each once, got {names}")
    if moments[patient] != measurements[patient]:
        raise InputError(
            f"column {patient!r} is {dtype_name(moments[patient])} in the moments and {dtype_name(measurements[patient])} in the "
            "measurements: cast both to one dtype, Enums to text"
        )
    types = [moments[time], measurements[time]]
    integer, date, datetime = ([t.is_integer() for t in types], *([isinstance(t, kind) for t in types] for kind in (pl.Date, pl.Datetime)))
    if not (all(integer) or all(date) or all(datetime)) or len({getattr(t, "time_zone", None) for t in types}) > 1:
        raise InputError(  # a date is not a midnight: the day was not over yet
            f"times must be dates, date-times of one zone, or whole numbers, in both frames, got {time!r} as {dtype_name(types[0])} in the "
            f"moments, {dtype_name(types[1])} in the measurements"
        )
    invalid = [span for span in spans if span is not None and (isinstance(span, int) != integer[0] or _length(span) <= 0)]
    if invalid or not spans or isinstance(spans, str):
        raise InputError(f"spans must be whole numbers from 1 for whole-number times, and text or timedelta for dates, got {spans!r}")
    outputs = [_column(name, key, span) for name in names for key in (*_STATISTICS, "last", "since") for span in (None, *spans)]
    _refuse_overwriting([_ROW, _TIME, *outputs], queries)
    return names


def _refuse_overwriting(names: Sequence[str], moments: pl.LazyFrame) -> None:
    conflicts = sorted(set(names) & set(moments.collect_schema()))
    if conflicts:
        raise InputError(f"the moments have columns that would be overwritten: {conflicts}. Rename them")


def _length(span: Span) -> int:
    """A span in whole units, or in microseconds."""
    if isinstance(span, int):
        return span
    if isinstance(span, timedelta):
        return round(span / timedelta(microseconds=1))
    match = re.fullmatch(r"(\d+)([smhdw])", span or "")
    if match is None:
        raise InputError(f'spans are text such as "90m", "6h", "7d" (s, m, h, d, w), got {span!r}')
    return int(match[1]) * _SECONDS[match[2]] * 1_000_000
