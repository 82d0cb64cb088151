"""Conditions of a sample, validated: a value by column that every row must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.errors import InputError, require_columns

_LISTED = 20


@dataclass(frozen=True)
class Conditions:
    """Conditions that every row meets.

    Parameters
    ----------
    tokens : dict of column index -> token
    numbers : dict of column index -> value as a number, NaN for missing
    values : tuple of pl.Series of one value, in the column's dtype
    """

    tokens: dict[int, int]
    numbers: dict[int, float]
    values: tuple[pl.Series, ...]


def validate_conditions(
    where: Mapping[str, Any], tokenizer: TableTokenizer, schema: Mapping[str, pl.DataType], train: pl.DataFrame | None
) -> Conditions:
    """Validate conditions against the fitted table.

    Parameters
    ----------
    where : dict of column -> value, None for missing
    tokenizer : TableTokenizer
    schema : dtypes of the table
    train : pl.DataFrame or None
        Training rows, one of which at least must meet all conditions. None where they must not be read (differential privacy).

    Raises
    ------
    MissingColumns
        An unknown column.
    InputError
        A value of another type, an unknown category, a number out of range, or conditions that no training row meets together.
    """
    require_columns(where, [name for name in tokenizer.column_index if name in schema])
    tokens: dict[int, int] = {}
    numbers: dict[int, float] = {}
    values = []
    for name, value in where.items():
        j = tokenizer.column_index[name]
        own = tokenizer.column_tokenizers[j]
        series = _as_column(name, value, schema[name])
        tokens[j] = int(own.encode(series)[0])
        if isinstance(own, CategoryTokenizer) and tokens[j] == own.size - 1:
            known = list(own.categories)[:_LISTED]
            raise InputError(f"where: {name!r} has no such category, or fewer than five patients have it; categories: {known}")
        if isinstance(own, NumberTokenizer):
            numbers[j] = float(own.to_numbers(series)[0])
            if tokens[j] and not own.low[1] <= numbers[j] <= own.high[-1]:
                least, greatest = own.to_series(np.array([own.low[1], own.high[-1]]), schema[name]).cast(pl.String)
                raise InputError(f"where: {name!r} is out of range; training values are {least} to {greatest}")
        values.append(series)
    if train is not None and tokens:
        met = np.ones(train.height, dtype=bool)
        for j, token in tokens.items():
            own = tokenizer.column_tokenizers[j]
            met &= own.encode(train.get_column(own.name)) == token
        if not met.any():
            raise InputError(f"where: no training row meets these conditions together: {sorted(where)}; drop one")
    return Conditions(tokens, numbers, tuple(values))


def _as_column(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    """Return a condition as a column of one value of its dtype: dates also from ISO text, durations also from a number of days."""
    if isinstance(value, float) and math.isnan(value):
        value = None
    if isinstance(dtype, pl.Date | pl.Datetime) and isinstance(value, str):
        value = _as_moment(name, value, dtype)
    elif isinstance(dtype, pl.Duration) and isinstance(value, str | int | float) and _is_number(value):
        value = timedelta(days=float(value))
    original = pl.Series(name, [value], strict=False)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone and original.dtype == pl.Datetime and original.dtype.time_zone is None:  # type: ignore[attr-defined]
        original = original.dt.replace_time_zone(dtype.time_zone)
    try:
        series = original.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        series = pl.Series(name, [None], dtype=dtype)
    if value is not None and series.null_count():
        raise InputError(f"where: {name!r} has dtype {dtype_name(dtype)}, got a value of type {type(value).__name__}")
    if original.dtype.is_float() and dtype.is_integer() and series[0] != value:
        raise InputError(f"where: {name!r} has whole numbers only (dtype {dtype}), got a fraction")
    return series


def _as_moment(name: str, text: str, dtype: pl.DataType) -> date:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"where: {name!r} has dtype {dtype_name(dtype)}: write 2024-05-01, or 2024-05-01T12:30") from None
    if dtype == pl.Date and (moment.hour or moment.minute or moment.second or moment.microsecond):
        raise InputError(f"where: {name!r} has dates without a time of day: write 2024-05-01")
    return moment


def _is_number(value: str | float) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
