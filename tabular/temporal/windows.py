"""What was measured before each moment of decision, as columns: leak-free windows over repeated measurements, in Polars.

A window ends *before* its moment: a measurement made at the very same time is left out, because nobody knows which came first (a lab drawn
with the admission it is to predict, a result stamped with the death). Where results arrive later than they are measured, give the time at
which they were known. Rows that lie beside each other in the file, or out of order, make no difference.

Everything is one lazy query; with ``pl.LazyFrame`` in, nothing is read until the result is collected or sunk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import polars as pl

from nearward.tabular.errors import InputError, MissingColumns

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
Span = str | int | timedelta | None

_AT, _ROW, _THEN, _AGO = "(time)", "(row)", "(then)", "(ago)"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_HOUR = 3.6e9  # microseconds
_STATISTICS = ("min", "max", "slope", "count")


def windows(
    moments: Frame,
    measurements: pl.DataFrame | pl.LazyFrame,
    *,
    patient: str,
    time: str,
    values: Sequence[str] | None = None,
    spans: Sequence[Span] = (None,),
) -> Frame:
    """Describe each patient's measurements before each moment.

    Parameters
    ----------
    moments : n rows
        Whom and when one asks about: the columns ``patient`` and ``time``, and any others, which stay.
    measurements : rows in any order
        The same two columns, and one number column a measured value; a null or NaN is no measurement.
    patient, time : str
        Times are dates, date-times, or whole numbers (minutes since admission, for instance), of the same kind in both frames.
    values : names of columns, optional
        By default all number columns of the measurements but the first two.
    spans : sequence
        How far back the windows reach: "90m", "6h", "7d" or a timedelta for dates, whole numbers for whole numbers, None for everything
        before.

    Returns
    -------
    frame of the kind of ``moments``, its n rows in their order, with for each value
        ``value: last``, carried forward from however long ago; ``value: since``, how long ago (hours, or units of a whole-number time);
        and for each span ``value: min``, ``max``, ``slope`` (per hour or unit; null under two different times) and ``count``, with the span
        in the name unless it is None (``lactate: min, 6h``). Null where nothing was measured; ``count`` is then 0.

    Raises
    ------
    MissingColumns, InputError
        Columns that are not there, are no numbers, or would be written over; times of different kinds; a span of another kind
        than the times.

    Examples
    --------
    >>> stays = pl.DataFrame({"patient": [1, 1], "hour": [5, 9]})
    >>> labs = pl.DataFrame({"patient": [1, 1, 1, 2], "hour": [9, 1, 3, 2], "lactate": [9.0, 1.0, 2.0, 7.0]})
    >>> windows(stays, labs, patient="patient", time="hour")["lactate: last", "lactate: since", "lactate: slope", "lactate: count"].rows()
    [(2.0, 2.0, 0.5, 2), (2.0, 6.0, 0.5, 2)]
    """
    asked, known = _lazy(moments), _lazy(measurements)
    names = _checked(asked, known, patient, time, values, spans)
    whole = asked.collect_schema()[time].is_integer()
    unit = 1.0 if whole else _HOUR
    asked = asked.with_row_index(_ROW)
    points = asked.select(_ROW, patient, _moment(time, whole)).drop_nulls().sort(patient, _AT)
    numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in names]
    known = known.select(patient, _moment(time, whole), *numbers).drop_nulls([patient, _AT]).sort(patient, _AT)
    told = [_everything(points, known, patient, names, unit, None in spans)]
    told += [_within(points, known, patient, names, span, unit) for span in dict.fromkeys(spans) if span is not None]
    out = asked
    for part in told:
        out = out.join(part, on=_ROW, how="left")
    counts = [_named(name, "count", span) for name in names for span in spans]
    order = [_named(name, what) for name in names for what in ("last", "since")]
    order += [_named(name, what, span) for span in dict.fromkeys(spans) for name in names for what in _STATISTICS]
    kept = [name for name in asked.collect_schema().names() if name != _ROW]
    out = out.sort(_ROW).with_columns(pl.col(counts).fill_null(0)).select(*kept, *order)
    return out if isinstance(moments, pl.LazyFrame) else out.collect()


def regular_series(
    moments: Frame,
    measurements: pl.DataFrame | pl.LazyFrame,
    *,
    patient: str,
    time: str,
    every: str | int | timedelta,
    steps: int,
    values: Sequence[str] | None = None,
) -> Frame:
    """Lay each patient's measurements before each moment on a regular grid, as columns of lists: what ``SeriesEncoder`` reads.

    Parameters
    ----------
    moments, measurements, patient, time, values : as ``windows``
    every : str, int or timedelta
        Length of a step, as a span of ``windows``.
    steps : int
        How many steps, ending before the moment.

    Returns
    -------
    frame of the kind of ``moments``, with one list of ``steps`` numbers for each value, the oldest first: the mean of what was
    measured in the step, null where nothing was.

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
    asked, known = _lazy(moments), _lazy(measurements)
    names = _checked(asked, known, patient, time, values, [every])
    taken = sorted(set(names) & set(asked.collect_schema()))
    if taken:
        raise InputError(f"the moments have columns that would be written over: {taken}. Rename them")
    whole = asked.collect_schema()[time].is_integer()
    asked, step = asked.with_row_index(_ROW), _length(every)
    numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in names]
    known = known.select(patient, _moment(time, whole), *numbers).drop_nulls([patient, _AT])
    points = asked.select(_ROW, patient, _moment(time, whole)).drop_nulls()
    place = (steps - 1 - (pl.col(_AGO) - 1) // step).cast(pl.Int64).alias("(step)")
    cells = _met(points, known, patient, step * steps).group_by(_ROW, place).agg(pl.col(names).mean())
    grid = asked.select(_ROW).join(pl.LazyFrame({"(step)": range(steps)}, schema={"(step)": pl.Int64}), how="cross")
    lists = grid.join(cells, on=[_ROW, "(step)"], how="left").group_by(_ROW).agg(pl.col(names).sort_by("(step)"))
    out = asked.join(lists, on=_ROW, how="left").sort(_ROW).drop(_ROW)
    return out if isinstance(moments, pl.LazyFrame) else out.collect()


def _everything(points: pl.LazyFrame, known: pl.LazyFrame, patient: str, names: list[str], unit: float, whole: bool) -> pl.LazyFrame:
    """The last values and how old they are and, where ``whole``, what all earlier ones were: an as-of join that takes no equal times."""
    told, since = [], []
    for name in names:
        value = pl.col(name)
        told.append(value.mean().over(patient, _AT).forward_fill().over(patient).alias(_named(name, "last")))  # of equal times the mean
        told.append(pl.when(value.is_not_null()).then(pl.col(_AT)).forward_fill().over(patient).alias(_named(name, "since")))
        since.append(((pl.col(_AT) - pl.col(_named(name, "since"))) / unit).alias(_named(name, "since")))
        if whole:
            at, level = _from_zero(value, unit)
            sums = [term.fill_null(0.0).cum_sum() for term in (at, level, at * level, at**2)]
            found = {
                "min": value.cum_min().forward_fill(),
                "max": value.cum_max().forward_fill(),
                "slope": _slope(*(total / value.cum_count() for total in sums)),
                "count": value.cum_count(),
            }
            told += [what.over(patient).alias(_named(name, key, None)) for key, what in found.items()]
    here = known.with_columns(told).drop(names).unique([patient, _AT], keep="last", maintain_order=True)
    joined = points.join_asof(here, on=_AT, by=patient, strategy="backward", allow_exact_matches=False, check_sortedness=False)
    return joined.with_columns(since).drop(patient, _AT)


def _within(points: pl.LazyFrame, known: pl.LazyFrame, patient: str, names: list[str], span: Span, unit: float) -> pl.LazyFrame:
    """Minimum, maximum, slope and count of what lies within a span before each point, the span's far end included."""
    found = []
    for name in names:
        value = pl.col(name)
        at = pl.when(value.is_not_null()).then(-pl.col(_AGO) / unit)
        spread = at.var()
        slope = pl.cov(at, value) / pl.when(spread > 0).then(spread)
        measured = {"min": value.min(), "max": value.max(), "slope": slope, "count": value.count()}
        found += [what.alias(_named(name, key, span)) for key, what in measured.items()]
    return _met(points, known, patient, _length(span)).group_by(_ROW).agg(found)


def _met(points: pl.LazyFrame, known: pl.LazyFrame, patient: str, length: int) -> pl.LazyFrame:
    """Pair each point with what was measured before it, at most ``length`` ago.

    Time is cut into pieces of that length, so that a point meets only what is in its own piece and the one before.
    """
    piece = "(piece)"
    pieces = pl.concat_list(pl.col(_AT) // length, pl.col(_AT) // length - 1)
    asked = points.with_columns(pieces.alias(piece)).explode(piece)
    there = known.rename({_AT: _THEN}).with_columns((pl.col(_THEN) // length).alias(piece))
    met = asked.join(there, on=[patient, piece]).with_columns((pl.col(_AT) - pl.col(_THEN)).alias(_AGO))
    return met.filter(pl.col(_AGO) > 0, pl.col(_AGO) <= length)


def _from_zero(value: pl.Expr, unit: float) -> tuple[pl.Expr, pl.Expr]:
    """Times and values since the first that was measured: squares of dates would swallow a slope."""
    at = pl.when(value.is_not_null()).then(pl.col(_AT))
    return (at - at.drop_nulls().first()) / unit, value - value.drop_nulls().first()


def _slope(at: pl.Expr, level: pl.Expr, product: pl.Expr, square: pl.Expr) -> pl.Expr:
    """Least squares from means; null where the times do not differ."""
    spread = square - at**2
    return (product - at * level) / pl.when(spread > 1e-9 * square).then(spread)


def _lazy(frame: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
        raise InputError(f"moments and measurements must be Polars frames, got {type(frame).__name__}. pl.DataFrame(…) makes one")
    return frame.lazy()


def _named(name: str, what: str, span: Span = None) -> str:
    return f"{name}: {what}" if span is None else f"{name}: {what}, {span}"


def _moment(time: str, whole: bool) -> pl.Expr:
    """Whole numbers as they are, dates in microseconds."""
    return (pl.col(time) if whole else pl.col(time).cast(pl.Datetime("us")).to_physical()).cast(pl.Int64).alias(_AT)


def _length(span: Span) -> int:
    """A span in whole units, or in microseconds."""
    if isinstance(span, int):
        return span
    if isinstance(span, timedelta):
        return round(span / timedelta(microseconds=1))
    found = re.fullmatch(r"(\d+)([smhdw])", span or "")
    if found is None:
        raise InputError(f'spans are text such as "90m", "6h", "7d" (s, m, h, d, w), got {span!r}')
    return int(found[1]) * _SECONDS[found[2]] * 1_000_000


def _checked(
    asked: pl.LazyFrame, known: pl.LazyFrame, patient: str, time: str, values: Sequence[str] | None, spans: Sequence[Span]
) -> list[str]:
    """Refuse what cannot be joined, and return the names of the values."""
    given, there = asked.collect_schema(), known.collect_schema()
    for schema, needed in ((given, [patient, time]), (there, [patient, time, *(values or [])])):
        missing = [name for name in needed if name not in schema]
        if missing:
            raise MissingColumns(missing, list(schema))
    names = list(values) if values is not None else [n for n, kind in there.items() if kind.is_numeric() and n not in (patient, time)]
    numbers = [name for name in names if name not in (patient, time) and (there[name].is_numeric() or there[name] == pl.Boolean)]
    if not names or len(set(numbers)) < len(names):
        raise InputError(f"values must be number columns of the measurements, beside {patient!r} and {time!r}, each once, got {names}")
    if given[patient] != there[patient]:
        raise InputError(f"column {patient!r} is {given[patient]} in the moments and {there[patient]} in the measurements: make them alike")
    kinds = [given[time], there[time]]
    whole = [kind.is_integer() for kind in kinds]
    days, clocks = ([isinstance(kind, what) for kind in kinds] for what in (pl.Date, pl.Datetime))
    if not (all(whole) or all(days) or all(clocks)) or len({getattr(kind, "time_zone", None) for kind in kinds}) > 1:
        told = f"{kinds[0]} in the moments, {kinds[1]} in the measurements"  # a date is no midnight: the day was not over yet
        raise InputError(f"times must be dates, date-times of one zone, or whole numbers, in both frames, however {time!r} is {told}")
    wrong = [span for span in spans if span is not None and (isinstance(span, int) != whole[0] or _length(span) <= 0)]
    if wrong or not spans or isinstance(spans, str):
        raise InputError(f"spans must be whole numbers from 1 for whole-number times, and text or timedelta for dates, got {spans!r}")
    made = [_named(name, what, span) for name in names for what in (*_STATISTICS, "last", "since") for span in (None, *spans)]
    taken = sorted({_ROW, _AT, *made} & set(given))
    if taken:
        raise InputError(f"the moments have columns that would be written over: {taken}. Rename them")
    return names
