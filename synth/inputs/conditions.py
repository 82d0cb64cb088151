"""Conditions of a sample, validated: a value by column that every row must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    require_columns(where, list(tokenizer.column_index))
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
                raise InputError(f"where: {name!r} is out of range; training values are {own.low[1]:g} to {own.high[-1]:g}")
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
    """Return a condition as a column of one value of its dtype."""
    original = pl.Series(name, [value], strict=False)
    try:
        series = original.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        series = pl.Series(name, [None], dtype=dtype)
    if value is not None and series.null_count():
        raise InputError(f"where: {name!r} has dtype {dtype_name(dtype)}, got a value of type {type(value).__name__}")
    if original.dtype.is_float() and dtype.is_integer() and series[0] != value:
        raise InputError(f"where: {name!r} has whole numbers only (dtype {dtype}), got a fraction")
    return series
