"""Units of numbers: a slip by 10, 1,000, 18 (glucose) and the like between years, sites, or training and scoring.

Numbers are compared by the means of log10 of their absolute values: a slip by 1,000 moves that mean by 3, whatever the unit. Powers of ten
are told apart from chance with few subjects; other factors need more, for numbers that spread widely differ by chance too.
"""

from __future__ import annotations

import warnings
from typing import Literal

import polars as pl

from nearward.tabular.errors import DataWarning, InputError, require_columns
from nearward.tabular.events.reading import CODE, SUBJECT, TIME, VALUE, Events, read_events

YEAR = "(year)"
MIN_VALUES = 20
_TOLERANCE = 0.15  # of log10 of the factor: 1.4 times
_FACTOR, _FOR_FACTOR = 0.4, 50  # log10 of 2.5, the least factor of a usual change of unit; subjects from which on it is no chance
_LOG10 = "(log10)"


def is_slip(log10_factor: pl.Expr, subjects: pl.Expr) -> pl.Expr:
    """Return whether a factor looks like another unit: near a power of ten other than 1; from 50 subjects on, 2.5 or more either way."""
    power = log10_factor.round()
    power_of_ten = (power != 0) & ((log10_factor - power).abs() <= _TOLERANCE)
    return power_of_ten | ((log10_factor.abs() >= _FACTOR) & (subjects >= _FOR_FACTOR))


def check_units(events: Events | pl.DataFrame | pl.LazyFrame, by: Literal["year"] | pl.DataFrame = "year") -> pl.DataFrame:
    """Compare the numbers of each code between years, or between groups of subjects such as sites.

    Parameters
    ----------
    events : Events or frame
    by : "year" or pl.DataFrame
        A frame has ``subject_id`` and one more column, the group of each subject.

    Returns
    -------
    pl.DataFrame, one row for each code and group in which at least 20 subjects have numbers other than 0, slips first
        ``code``, ``group``, ``subjects``, ``factor`` (to the code's group in the middle) and ``slip`` (whether that is close to a power of
        ten other than 1; or, from 50 subjects on, 2.5 or more either way).
    """
    events = read_events(events)
    values = events.frame.filter(pl.col(VALUE).is_finite())
    if isinstance(by, str):
        if by != "year":
            raise InputError(f'by must be "year" or a frame with {SUBJECT!r} and a group, got by={by!r}')
        values = values.filter(pl.col(TIME).is_not_null()).with_columns(pl.col(TIME).dt.year().alias(YEAR))
        group = YEAR
    else:
        require_columns([SUBJECT], by.columns)
        (group,) = [name for name in by.columns if name != SUBJECT][:1] or [SUBJECT]
        values = values.join(by.lazy().select(SUBJECT, group), on=SUBJECT)
    return _compare(values.select(SUBJECT, CODE, pl.col(group).cast(pl.String).alias("group"), VALUE))


def warn_of_slips(values: pl.DataFrame) -> None:
    """Warn of codes whose numbers differ between years as after a change of unit.

    Parameters
    ----------
    values : pl.DataFrame
        ``subject_id``, ``code``, ``(year)`` and ``numeric_value``.
    """
    compared = _compare(values.lazy().drop_nulls(YEAR).select(SUBJECT, CODE, pl.col(YEAR).cast(pl.String).alias("group"), VALUE))
    slips = compared.filter("slip").group_by(CODE).agg(pl.col("group").sort()).sort(CODE)
    if slips.height:
        shown = "; ".join(f"{code!r} in {', '.join(years)}" for code, years in slips.head(5).iter_rows())
        rest = f"; and {slips.height - 5} more codes" if slips.height > 5 else ""
        warnings.warn(
            f"codes whose numbers differ between years as after a change of unit (2.5 times or more): {shown}{rest}. "
            "Convert them, or give the units: read_events(…, columns={'unit': …})",
            DataWarning,
            stacklevel=4,
        )


def _compare(values: pl.LazyFrame) -> pl.DataFrame:
    """Compare groups by the mean over subjects of their mean log10."""
    size = pl.col(VALUE).abs().log10().mean().alias(_LOG10)
    subjects = values.drop_nulls().filter(pl.col(VALUE) != 0).group_by(CODE, "group", SUBJECT).agg(size)
    groups = (
        subjects.group_by(CODE, "group").agg(pl.col(_LOG10).mean(), pl.len().alias("subjects")).filter(pl.col("subjects") >= MIN_VALUES)
    )
    factor = pl.col(_LOG10) - pl.col(_LOG10).quantile(0.5, "lower").over(CODE)
    compared = groups.with_columns(factor.alias(_LOG10)).select(
        CODE,
        "group",
        "subjects",
        pl.lit(10.0).pow(pl.col(_LOG10)).alias("factor"),
        is_slip(pl.col(_LOG10), pl.col("subjects")).alias("slip"),
    )
    return compared.sort("slip", CODE, "group", descending=[True, False, False]).collect(engine="streaming")
