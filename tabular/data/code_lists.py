"""Columns of codes: lists of codes a row, such as diagnoses or drugs, and numbers that are codes.

A list is converted to the one dtype that conformed frames have for it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text, dtype_name
from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import DataWarning, InputError

CODE_LIST = pl.List(pl.String)
_NAMED_AS_CODE = re.compile(r"(?i)(^|[_. ])(id|code|icd\d*|drg|type|category|class)$|(?<=[a-z])(Id|ID|Code|Type)$")
_MOST_CODES = 100  # different values; more are rather ids of rows or patients
_SEPARATORS = (";", "|", ",")
_SEPARATED = 0.3  # share of the texts with a separator, from which on they may be lists
_LONGEST_CODE = 20  # characters; longer parts are rather words of a sentence
_REUSE = 3  # times that codes occur in the mean; parts of names and addresses occur once


def is_code_list(dtype: Any) -> bool:
    """Whether a dtype is a list of texts, categories or whole numbers."""
    if not isinstance(dtype, pl.List | pl.Array):
        return False
    inner: Any = dtype.inner
    return is_text(inner) or inner == pl.Null or bool(inner.is_integer())


def numbers_named_as_codes(frame: pl.DataFrame) -> list[str]:
    """Return the columns of whole numbers whose name and few values say that they are codes.

    Examples
    --------
    >>> frame = pl.DataFrame({"admission_type_id": [1, 2, 8, 1], "age": [61, 70, 55, 61], "diabetes_type": [0, 1, 1, 0]})
    >>> numbers_named_as_codes(frame)
    ['admission_type_id']
    """
    named = [series for series in frame.iter_columns() if _NAMED_AS_CODE.search(series.name) and series.dtype.is_integer()]
    most = min(_MOST_CODES, frame.height - 1)
    return [series.name for series in named if 2 < series.drop_nulls().n_unique() <= most]


def warn_of_lists_as_text(text: pl.Series, stacklevel: int) -> None:
    """Warn where a column of text (n,) holds lists of codes, and say what to do: it becomes a category otherwise."""
    values = text.drop_nulls()
    separator = _find_separator(values)
    if not values.is_empty() and values.str.contains(r"^\s*\[.*\]\s*$").all():
        form = "lists in brackets, as Python prints them: store lists in Parquet, or write the codes with ; between them"
    elif separator is not None:
        form = f'lists of codes with {separator!r} between them: declare them in the schema by "kind": "list", "separator": "{separator}"'
    else:
        return
    warnings.warn(f"column {text.name!r} looks like {form}. As it is, every combination is a category", DataWarning, stacklevel=stacklevel)


def _find_separator(values: pl.Series) -> str | None:
    """Return what separates the codes of texts that are lists of codes, else None."""
    for separator in _SEPARATORS:
        separated = values.str.contains(separator, literal=True)
        if separated.sum() < max(_SEPARATED * len(values), 1):
            continue
        parts = values.str.split(separator).explode().str.strip_chars()
        parts = parts.filter(parts != "")
        short = not (parts.str.contains(r"\s").any() or (parts.str.len_chars() > _LONGEST_CODE).any())
        if short and len(parts) >= _REUSE * parts.n_unique():
            return separator
    return None


def as_code_list(series: pl.Series, name: str, separator: str | None = None) -> pl.Series:
    """Return a column as lists of different texts in their first order: null where missing, empty where there is no code.

    A code is text without blanks around it. Missing and empty codes are left out, and a code twice in a row counts once.

    Parameters
    ----------
    series : (n,), lists of codes; or text, in which ``separator`` stands between codes
    name : str, the column's name in messages
    separator : str, optional

    Raises
    ------
    InputError
        Text without a separator, another dtype.

    Examples
    --------
    >>> as_code_list(pl.Series(["I10; E11;I10", "", None]), "dx", ";").to_list()
    [['I10', 'E11'], [], None]
    >>> as_code_list(pl.Series([[250, None], [], None]), "dx").to_list()
    [['250'], [], None]
    """
    dtype = series.dtype
    if dtype == pl.Null:
        return series.cast(CODE_LIST)
    if is_text(dtype):
        if not separator:
            raise InputError(
                f"column {name!r} must hold a list of codes in each row, but is text: split it (.str.split), or declare before the fit "
                'what separates the codes (separator=";" in the schema), or that it is a category'
            )
        lists = series.cast(pl.String).str.split(separator)
    elif is_code_list(dtype):
        lists = series.arr.to_list() if isinstance(dtype, pl.Array) else series
    else:
        raise InputError(f"column {name!r} must hold a list of codes in each row, got dtype {dtype_name(dtype)}: make it lists of text")
    length = lists.list.len().fill_null(0).cast(pl.UInt32)
    rows = pl.Series("row", range(len(lists)), dtype=pl.UInt32)
    filled = length > 0
    items = lists.filter(filled).explode()
    codes = items.cast(pl.String) if items.dtype == pl.Null else as_text(items, name).str.strip_chars()
    row = rows.filter(filled).gather(np.repeat(np.arange(int(filled.sum())), length.filter(filled).to_numpy()))
    present = pl.DataFrame({"row": row, "code": codes}).filter(pl.col("code").is_not_null() & (pl.col("code") != ""))
    grouped = present.unique(maintain_order=True).group_by("row", maintain_order=True).agg("code")
    every = pl.DataFrame({"row": rows, "missing": lists.is_null()})
    joined = every.join(grouped, on="row", how="left", maintain_order="left")
    empty = pl.lit([], dtype=CODE_LIST)
    column = pl.when("missing").then(None).otherwise(pl.col("code").fill_null(empty))
    return joined.select(column.cast(CODE_LIST).alias(series.name)).to_series()
