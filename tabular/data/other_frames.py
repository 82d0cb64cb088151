"""Frames of pandas and Arrow, and columns of Python objects, as Polars."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.errors import InputError

_PLAIN = (str, int, float, Decimal, date, time, timedelta, bytes)


def from_other_frame(X: Any) -> pl.DataFrame:
    """Turn a pandas frame, or a table with the Arrow stream protocol, into a Polars frame.

    Raises
    ------
    InputError
        Column names that repeat; a column of Python objects of several kinds.
    """
    names = [str(name) for name in getattr(X, "columns", [])] if hasattr(X, "dtypes") else []
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        raise InputError(f"the frame names columns twice: {duplicates}. Rename or drop one of each.")
    if hasattr(X, "__arrow_c_stream__") and not hasattr(X, "iloc"):  # pandas has iloc: its columns are read alike with and without pyarrow
        frame = pl.DataFrame(X)
        fields = getattr(X, "schema", ())
        coded = [field.name for field in fields if str(getattr(field, "type", "")).startswith("dictionary")]
        return frame.with_columns(_categories_as_text(frame.get_column(name)) for name in coded)
    return pl.DataFrame([_from_other_series(name, X[key]) for name, key in zip(names, X.columns, strict=True)])


def _from_other_series(name: str, column: Any) -> pl.Series:
    dtype = getattr(column, "dtype", None)
    extension = dtype is not None and not isinstance(dtype, np.dtype) and hasattr(column, "astype")
    values = np.asarray(column.astype(object) if extension else column)  # as numbers, Int64 with <NA> would lose digits above 2^53
    if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] not in ("D", "ms", "us", "ns"):
        values = values.astype(f"{values.dtype.kind}8[us]")  # a resolution that Polars has
    if values.dtype != object:
        return pl.Series(name, values)
    lists = [None if _is_missing(value) else value for value in values]
    if any(isinstance(value, list | tuple | np.ndarray) for value in lists):
        return _code_lists(name, lists)
    items = plain_values(f"column {name!r}", values)
    kinds = {type(item) for item in items if item is not None}
    try:
        series = pl.Series(name, [None if item is None else float(item) for item in items] if kinds == {int, float} else items)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        mixed = sorted(kind.__name__ for kind in kinds)
        raise InputError(f"column {name!r} mixes {mixed}, or numbers too large: make it one kind first") from None
    return _categories_as_text(series) if str(dtype) == "category" else series


def _code_lists(name: str, values: list[Any]) -> pl.Series:
    """Return a column of Python lists, tuples or arrays as lists of text or of whole numbers."""
    if any(value is not None and not isinstance(value, list | tuple | np.ndarray) for value in values):
        raise InputError(f"column {name!r} mixes lists with other values: make each a list, an empty one where there is no code")
    lists = [None if value is None else [_plain_code(code) for code in value] for value in values]
    kinds = {type(code) for codes in lists if codes is not None for code in codes if code is not None}
    if kinds - {str} and kinds - {int}:
        raise InputError(f"column {name!r} has lists of {sorted(kind.__name__ for kind in kinds)}: make all codes text")
    try:
        return pl.Series(name, lists, dtype=pl.List(pl.Int64 if kinds == {int} else pl.String))
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        raise InputError(f"column {name!r} has lists of numbers too large: make all codes text") from None


def _plain_code(code: Any) -> Any:
    plain = code.item() if isinstance(code, np.generic) else code
    return None if plain is None or _is_missing(plain) else plain


def _categories_as_text(series: pl.Series) -> pl.Series:
    """Return numbers and booleans that were declared as categories as text."""
    return as_text(series, series.name) if series.dtype.is_numeric() or series.dtype == pl.Boolean else series


def plain_values(name: str, array: np.ndarray[Any, Any]) -> list[Any]:
    """Return plain Python values, None where missing and UUIDs as text; text beside another kind, and other objects, are errors."""
    items = [value.item() if isinstance(value, np.generic) else value for value in array]
    items = [None if _is_missing(value) else str(value) if isinstance(value, UUID) else value for value in items]
    kinds = sorted({type(value).__name__ for value in items if value is not None})
    if "str" in kinds and len(kinds) > 1:
        raise InputError(f"{name} mixes {kinds}: make it one kind first")
    others = sorted({type(value).__name__ for value in items if value is not None and not isinstance(value, _PLAIN)})
    if others:
        raise InputError(f"{name} holds objects of the types {others}: make it text or numbers first")
    return items


def _is_missing(value: Any) -> bool:
    if type(value).__name__ in ("NAType", "NaTType"):  # of pandas, which may not be installed
        return True
    return isinstance(value, float | Decimal) and math.isnan(value)


def refuse_renamed_duplicates(names: Sequence[str]) -> None:
    """Refuse names that Polars gave to the second of two equal names in a CSV's header."""
    repeats = [re.fullmatch(r"(.+)_duplicated_\d+", name) for name in names]  # Polars' name of a CSV's second column of a name
    known = set(names)
    duplicates = sorted({match[1] for match in repeats if match and match[1] in known})
    if duplicates:
        raise InputError(f"the file names columns twice: {duplicates}. Rename or drop one of each.")
