"""Conversion of a column of any dtype to one of the two that conformed frames have: Float64 and String."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from nearward.tabular.data.text_values import BOOLEAN, describe_invalid, is_text
from nearward.tabular.errors import InputError

BOOLEANS = ("false", "true")  # as text, and categories of a Boolean column, whose kind is number


def as_number(series: pl.Series, name: str) -> pl.Series:
    """Return Float64, null for missing and for NaN.

    Raises
    ------
    InputError
        Text that is not a number, infinite values, dtypes without an obvious meaning.
    """
    dtype = series.dtype
    if dtype in (pl.Null, pl.Boolean) or dtype.is_numeric():
        values = series.cast(pl.Float64)
    elif is_text(dtype):
        values = _parse_numbers(series.cast(pl.String), name)
    else:
        raise _no_meaning(name, dtype)
    _refuse_infinite(values, name)
    return values.fill_nan(None)


def _refuse_infinite(values: pl.Series, name: str) -> None:
    infinite = int(values.is_infinite().sum())
    if infinite:
        raise InputError(f"column {name!r} holds {infinite} infinite (inf) values: make them null, or a number")


def _parse_numbers(text: pl.Series, name: str) -> pl.Series:
    if text.count() > 0 and bool(text.drop_nulls().str.contains(BOOLEAN).all()):  # as R, pandas and Polars write booleans
        return (text.str.to_lowercase() == "true").cast(pl.Float64)
    values = text.str.strip_chars().cast(pl.Float64, strict=False)
    unread = text.filter(values.is_null() & text.is_not_null())
    if len(unread):
        raise InputError(
            f"column {name!r} must be a number, but {len(unread)} of {len(text)} values are text that is not one{describe_invalid(unread)}"
        )
    return values


def as_text(series: pl.Series, name: str) -> pl.Series:
    """Return String, null for missing; a whole number has the same text in a column of integers, floats or decimals.

    Raises
    ------
    InputError
        Infinite values, dtypes without an obvious meaning.
    """
    dtype = series.dtype
    if isinstance(dtype, pl.String):
        return series
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.Boolean or dtype.is_integer():
        return series.cast(pl.String)
    if dtype.is_float():  # 3.0 and 3 are one category
        values = series.cast(pl.Float64).fill_nan(None)
        _refuse_infinite(values, name)
        whole = (values == values.round()) & (values.abs() < 2**63)
        texts = pl.when(whole).then(values.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(values.cast(pl.String))
        return pl.select(texts.alias(name)).to_series()
    if dtype.is_decimal():  # 3.00 is 3 too, and 1.50 the 1.5 of floats
        return series.cast(pl.String).str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix(".")
    raise _no_meaning(name, dtype)


def spell_as(text: pl.Series, categories: Sequence[str]) -> pl.Series:
    """Spell values as the categories do: True, TRUE and true are one value, and so are 1 and 1.0, but not 1 and 01.

    Examples
    --------
    >>> spell_as(pl.Series(["true", "false", None]), ["FALSE", "TRUE"]).to_list(), spell_as(pl.Series(["1.0", "01"]), ["1"]).to_list()
    (['TRUE', 'FALSE', None], ['1', '01'])
    """
    known = set(categories)
    unseen = [value for value in text.drop_nulls().unique().to_list() if value not in known]
    if not unseen:
        return text
    spellings: dict[str, list[str]] = {}
    for category in categories:
        spellings.setdefault(_plain_spelling(category), []).append(category)
    candidates = {value: spellings.get(_plain_spelling(value), []) for value in unseen}
    return text.replace({value: matches[0] for value, matches in candidates.items() if len(matches) == 1})


def _plain_spelling(value: str) -> str:
    if value.lower() in ("true", "false"):
        return value.lower()
    whole = re.fullmatch(r"(0|-?[1-9]\d*)\.0", value)
    return whole[1] if whole else value


def _no_meaning(name: str, dtype: pl.DataType) -> InputError:
    hint = "turn it into a number first, for instance with .dt.total_hours()"
    if dtype != pl.Duration:
        hint = "drop it, or turn it into numbers or text"
    return InputError(f"column {name!r} has dtype {dtype_name(dtype)}, which has no obvious meaning here: {hint}")


def refuse_nested(series: pl.Series, name: str) -> None:
    """Refuse a column of lists, structs, bytes or objects where one value a row is needed."""
    if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
        raise InputError(f"{name} has dtype {dtype_name(series.dtype)}: numbers or text are needed, one value a row")


def dtype_name(dtype: Any) -> str:
    """Return a dtype's name for messages, without the categories of an Enum: they are patients' values."""
    inner = getattr(dtype, "inner", None)
    if inner is not None:
        return f"{dtype.base_type()}({dtype_name(inner)})"
    return f"{dtype}" if isinstance(dtype, pl.Datetime) else f"{dtype.base_type()}"
