"""Numbers that stand for an unknown value, such as −1 for a weight that nobody measured: read as if there were none."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence

import polars as pl

from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.events.reading import CODE, VALUE, Events, code_matches

UNKNOWN = "(unknown)"  # whether an event had such a number
ALL_CODES = "*"
_USUAL = (-1.0, -9.0, -99.0, -999.0, -9999.0)
_MIN_COUNT = 5  # of a number such as −1, from which on a warning names the code
_MOST_NAMED = 10

Missing = Mapping[str, float | Sequence[float]] | Sequence[float]


def check_missing(missing: Missing | None) -> dict[str, tuple[float, ...]]:
    """Return the numbers that mean unknown by the pattern of their codes.

    Raises
    ------
    InputError
        Not numbers.

    Examples
    --------
    >>> check_missing([-1]), check_missing({"Height": -1, "LAB//*": [-9, -99]})
    ({'*': (-1.0,)}, {'Height': (-1.0,), 'LAB//*': (-9.0, -99.0)})
    """
    if missing is None:
        return {}
    if isinstance(missing, str) or not isinstance(missing, Mapping | Sequence):
        raise InputError(f"missing must be numbers, or a mapping of codes to numbers, got missing={missing!r}")
    by_code = missing if isinstance(missing, Mapping) else {ALL_CODES: missing} if missing else {}
    numbers = {}
    for code, given in by_code.items():
        values = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not isinstance(code, str) or not values or not all(_is_number(value) for value in values):
            raise InputError(f"missing must be numbers, or a mapping of codes to numbers, got missing={missing!r}")
        numbers[code] = tuple(float(value) for value in values)
    return numbers


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def without_missing(events: Events, missing: Missing | None) -> Events:
    """Return events without the numbers that mean unknown; ``(unknown)`` marks where they were.

    Parameters
    ----------
    events : Events
    missing : numbers of all codes, or by code
        Codes as in ``labels``: exactly, by what stands before ``//``, or with ``*`` for any text.
    """
    by_code = check_missing(missing)
    if not by_code:
        return events
    codes = {code: pl.lit(value=True) if code == ALL_CODES else code_matches([code]) for code in by_code}
    unknown = pl.any_horizontal(pl.col(VALUE).is_in(list(values)) & codes[code] for code, values in by_code.items())
    marked = (part.with_columns(unknown.fill_null(value=False).alias(UNKNOWN)) for part in events.parts)
    parts = tuple(part.with_columns(pl.when(~pl.col(UNKNOWN)).then(VALUE).alias(VALUE)) for part in marked)
    return dataclasses.replace(events, parts=parts)


def warn_of_missing(values: pl.DataFrame, *, named: bool = False) -> None:
    """Warn of codes with a number such as −1 or −99 again and again, whose other numbers are 0 or more; and of names without effect.

    Parameters
    ----------
    values : pl.DataFrame
        ``code`` and ``numeric_value``, without those that mean unknown.
    named : bool
        Whether numbers that mean unknown were named, and none of the training events has one.
    """
    if named:
        warnings.warn("missing= names numbers that no training event has: check the codes and the numbers", DataWarning, stacklevel=4)
    value = pl.col(VALUE)
    usual, negative = value.filter(value.is_in(_USUAL)), value < 0
    codes = values.group_by(CODE).agg(
        pl.len().alias("numbers"),
        usual.len().alias("marks"),
        usual.n_unique().alias("different"),
        usual.min().alias("mark"),
        negative.sum().alias("negative"),
    )
    suspected = codes.filter(
        pl.col("different") == 1,
        pl.col("negative") == pl.col("marks"),
        pl.col("marks") >= _MIN_COUNT,
        pl.col("marks") < pl.col("numbers"),
    ).sort("marks", CODE, descending=[True, False])
    if suspected.height:
        code, mark = suspected.select(CODE, "mark").row(0)
        shown = ", ".join(f"{code!r} ({mark:g})" for code, mark in suspected.select(CODE, "mark").head(_MOST_NAMED).iter_rows())
        shown += f" and {suspected.height - _MOST_NAMED} more codes" if suspected.height > _MOST_NAMED else ""
        warnings.warn(
            f"the numbers of {shown} are 0 or more, but for the one in brackets, which repeats. If it means unknown, say so: "
            f"missing={{{code!r}: {mark:g}}}, or --missing '{code}={mark:g}' on the command line",
            DataWarning,
            stacklevel=4,
        )
