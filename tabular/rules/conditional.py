"""Mining of rules that hold where a column has a certain value, and of flags of which exactly one is set.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from nearward.tabular.rules.kinds import ExactlyOne, MissingWhere, RangeWhere
from nearward.tabular.rules.rule import is_missing
from nearward.tabular.typing import Floats, Ints

MIN_ROWS = 150  # with a value: a rule about fewer could not be confirmed
_MAX_VIOLATED = 0.01
_MIN_MISSING = 0.1  # share of all rows in which the column is missing, or is not
_MIN_OUTSIDE = 0.2  # share of all rows whose number lies outside the bounds
_MARGIN = 0.1  # by which bounds are widened, in units of their distance: the fifth most extreme of few patients is far from the last
_MAX_FLAGS = 40  # of a group


def mine_missing_where(
    frame: pl.DataFrame, codes: Mapping[str, tuple[Ints, Sequence[str]]], known: Collection[frozenset[str]] = ()
) -> list[MissingWhere]:
    """Find the values that come with a missing value of another column, always or never.

    Parameters
    ----------
    frame : n rows
    codes : dict of column -> (index of each row's value (n,), -1 for other values and -2 for missing; the values)
    known : sets of columns that are missing together
    """
    rules = []
    for column in frame.iter_columns():
        missing = is_missing(column)
        share = missing.mean() if len(missing) else 0.0
        if not _MIN_MISSING <= share <= 1 - _MIN_MISSING:
            continue
        for where, (index, values) in codes.items():
            if where == column.name or any({where, column.name} <= together for together in known):
                continue
            rows = np.bincount(index[index >= 0], minlength=len(values))
            missed = np.bincount(index[(index >= 0) & missing], minlength=len(values))
            for a in np.flatnonzero(rows >= MIN_ROWS).tolist():
                if min(missed[a], rows[a] - missed[a]) <= _MAX_VIOLATED * rows[a]:
                    rules.append(MissingWhere(where, values[a], column.name, never=bool(2 * missed[a] < rows[a])))
    return rules


def mine_ranges_where(
    frame: pl.DataFrame,
    numbers: Sequence[str],
    codes: Mapping[str, tuple[Ints, Sequence[str]]],
    patient_ids: Ints,
    min_patients: int,
) -> list[RangeWhere]:
    """Find the values that come with a much narrower range of a number; arguments as ``mine_missing_where``.

    Bounds are those of the ``min_patients``-th most extreme patients, widened by a tenth of their distance.
    """
    rules = []
    for name in numbers:
        x = frame.get_column(name).to_numpy()
        present = ~np.isnan(x)
        whole = bool((x[present] == np.round(x[present])).all())
        for where, (index, values) in codes.items():
            if where == name:
                continue
            rows = np.bincount(index[(index >= 0) & present], minlength=len(values))
            for a in np.flatnonzero(rows >= MIN_ROWS).tolist():
                inside = (index == a) & present
                bounds = _bounds(x[inside], patient_ids[inside], min_patients, whole)
                if bounds is not None and ((x < bounds[0]) | (x > bounds[1])).sum() >= _MIN_OUTSIDE * present.sum():
                    rules.append(RangeWhere(where, values[a], name, *bounds))
    return rules


def mine_exactly_one(frame: pl.DataFrame) -> list[ExactlyOne]:
    """Find groups of three or more flags (0 and 1, or Booleans as text) of which one is set in nearly every row.

    Examples
    --------
    >>> ward = np.random.default_rng(0).integers(0, 3, 1000)
    >>> flags = pl.DataFrame({f"ward_{w}": (ward == w).astype(float) for w in range(3)})
    >>> [str(rule) for rule in mine_exactly_one(flags)]
    ['exactly one of ward_0, ward_1, ward_2 is 1']
    """
    flags = {column.name: flag for column in frame.iter_columns() if (flag := _as_flag(column)) is not None}
    rules: list[ExactlyOne] = []
    used: set[str] = set()
    for first, total in flags.items():
        if first in used:
            continue
        group = [first]
        for name, flag in flags.items():
            together = total + flag
            if name not in used and name not in group and len(group) < _MAX_FLAGS and (together > 1).mean() <= _MAX_VIOLATED / 4:
                group, total = [*group, name], together  # noqa: PLW2901
                if (total == 1).mean() >= 1 - _MAX_VIOLATED:
                    break
        if len(group) > 2 and (total == 1).mean() >= 1 - _MAX_VIOLATED:
            rules.append(ExactlyOne(tuple(sorted(group, key=frame.columns.index))))
            used |= set(group)
    return rules


def _as_flag(column: pl.Series) -> Floats | None:
    """Return a column of 0 and 1, or of true and false, as numbers (n,); None for other columns and missing values."""
    if column.null_count() or not len(column):
        return None
    text = column.dtype == pl.String
    values = set(column.unique().to_list())
    if values != ({"true", "false"} if text else {0.0, 1.0}):
        return None
    return np.asarray((column == "true" if text else column).cast(pl.Float64).to_numpy())


def _bounds(x: Floats, patient_ids: Ints, min_patients: int, whole: bool) -> tuple[float, float] | None:
    """Return the widened bounds of values (n,), in the decimals of the column; None where fewer than twice ``min_patients`` have one."""
    extremes = pl.DataFrame({"x": x, "patient": patient_ids}).group_by("patient").agg(low=pl.col("x").min(), high=pl.col("x").max())
    if extremes.height < 2 * min_patients:
        return None
    low, high = float(extremes["low"].sort()[min_patients - 1]), float(extremes["high"].sort()[-min_patients])
    margin = _MARGIN * (high - low)
    if whole:
        return float(np.floor(low - margin)), float(np.ceil(high + margin))
    return float(f"{low - margin:.4g}"), float(f"{high + margin:.4g}")
