"""Conditions of a sample, checked: a value by column that every row shall have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.errors import InputError, MissingColumns

_LISTED = 20


@dataclass(frozen=True)
class Conditions:
    """What every row shall have.

    Parameters
    ----------
    tokens : dict of column's number -> token
    numbers : dict of column's number -> value as a number, NaN for missing
    values : tuple of pl.Series of one value, as it is written
    """

    tokens: dict[int, int]
    numbers: dict[int, float]
    values: tuple[pl.Series, ...]


def validate_conditions(where: Mapping[str, Any], tokens: TableTokenizer, schema: pl.Schema, train: pl.DataFrame | None) -> Conditions:
    """Check conditions against what was learned.

    Parameters
    ----------
    where : dict of column -> value, None for missing
    tokens : Tokens
    schema : pl.Schema, of the table
    train : pl.DataFrame or None
        Rows that were learned: conditions that none of these meets are refused. None where they may not be looked at.

    Raises
    ------
    MissingColumns
        A column that was not learned.
    InputError
        A value of another type, a level that is not known, a number outside, or conditions that no learned row meets together.
    """
    unknown = [name for name in where if name not in tokens.column_index]
    if unknown:
        raise MissingColumns(unknown, list(tokens.column_index))
    asked: dict[int, int] = {}
    numbers: dict[int, float] = {}
    values = []
    for name, value in where.items():
        j = tokens.column_index[name]
        own = tokens.column_tokenizers[j]
        series = _as_column(name, value, schema[name])
        asked[j] = int(own.encode(series)[0])
        if isinstance(own, CategoryTokenizer) and asked[j] == own.size - 1:
            raise InputError(
                f"where: {name!r} has no such level, or fewer than five patients have it; levels: {list(own.categories)[:_LISTED]}"
            )
        if isinstance(own, NumberTokenizer):
            numbers[j] = float(own.to_numbers(series)[0])
            if asked[j] and not own.low[1] <= numbers[j] <= own.high[-1]:
                raise InputError(f"where: {name!r} lies outside what was learned ({own.low[1]:g} to {own.high[-1]:g})")
        values.append(series)
    if train is not None and asked:
        met = np.ones(train.height, dtype=bool)
        for j, token in asked.items():
            met &= tokens.column_tokenizers[j].encode(train.get_column(tokens.column_tokenizers[j].name)) == token
        if not met.any():
            raise InputError(f"where: no learned row meets these conditions together: {sorted(where)}. Drop one")
    return Conditions(asked, numbers, tuple(values))


def _as_column(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    """Return a condition as a column of one value of its dtype."""
    given = pl.Series(name, [value], strict=False)
    try:
        series = given.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        series = pl.Series(name, [None], dtype=dtype)
    if value is not None and series.null_count():
        raise InputError(f"where: {name!r} cannot have a value of type {type(value).__name__}, its dtype is {dtype}")
    if given.dtype.is_float() and dtype.is_integer() and series[0] != value:
        raise InputError(f"where: {name!r} holds whole numbers, dtype {dtype}")
    return series
