"""Reading of CSV files: a header that names each column once, and dtypes by a schema or by the texts themselves.

A CSV has no dtypes. Where a schema names a column, the schema decides: a category is the text as it stands. Elsewhere texts become numbers,
booleans or dates only where no code is lost by it: leading zeros, ``1E5`` and whole numbers of more digits than a number holds stay text.
"""

from __future__ import annotations

import csv
import gzip
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TextIO

import polars as pl

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.text_values import parse, without_marks
from nearward.tabular.errors import DataWarning, InputError

MISSING = ("", "NA", "NaN", "null")

_AS_UTF_8 = "save it as UTF-8 (in Excel: CSV UTF-8; elsewhere: iconv -f latin1 -t utf-8)"
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_csv(path: Path, schema: Schema | None = None) -> pl.DataFrame:
    """Read a CSV file separated by commas, gzipped or not.

    Parameters
    ----------
    path : Path
    schema : Schema, optional
        Decides the dtypes of the columns that it names. Ids, groups and other columns that are no features become numbers only where no
        code is lost, as columns without a schema do.

    Raises
    ------
    InputError
        An empty file, text that is not UTF-8, another separator, a column without a name, a name twice, or more columns than names.
    """
    _check_header(path)
    try:
        texts = pl.read_csv(path, infer_schema=False, glob=False)
    except pl.exceptions.ComputeError as error:
        _refuse_other_encoding(path, error)
        raise
    columns = {} if schema is None else {column.name: column for column in schema.columns}
    frame = pl.DataFrame([read_texts(texts.get_column(name), columns.get(name)) for name in texts.columns])
    _warn_of_marks(path, texts, frame, columns)
    _warn_of_merged_texts(path, texts, frame, columns)
    return frame


def read_texts(texts: pl.Series, column: Column | None = None) -> pl.Series:
    """Return a column of texts in the dtype that its schema, or the texts themselves, ask for.

    Examples
    --------
    >>> [read_texts(pl.Series(texts)).dtype for texts in (["7", "12"], ["07", "12"], ["1.50", "NA"], ["1E5", "2"])]
    [Int64, String, Float64, String]
    >>> read_texts(pl.Series(["07", "12"]), Column("age")).to_list()
    [7, 12]
    """
    categories = () if column is None else column.categories or ()
    marks = [mark for mark in MISSING if mark not in categories]
    values = texts.set(texts.is_in(marks), None)
    values = values if column is None else without_marks(values, column.missing)
    if column is not None and column.kind in ("category", "list") and column.role != "time":
        return values
    return parse(values, number=column is not None and column.kind == "number" and column.role in ("feature", "expert"))


def _check_header(path: Path) -> None:
    """Refuse a header from which the columns cannot be told."""
    with _open_text(path) as file:
        try:
            records = list(islice((record for record in csv.reader(file) if record), 2))
        except (csv.Error, EOFError, OSError) as error:
            raise InputError(f"{path} cannot be read as .csv: {type(error).__name__}") from error
    if not records:
        raise InputError(f"{path} is empty")
    names = records[0]
    if any("\0" in name for name in names):
        raise InputError(f"{path} is not UTF-8 text but UTF-16, as Excel's Unicode text is: {_AS_UTF_8}")
    for separator, called in _OTHER_SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise InputError(f"{path} is separated by {called} ({separator!r}), not by commas: write it with commas and decimal points")
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if duplicates:
        raise InputError(f"{path}: the file names columns twice: {duplicates}. Rename or drop one of each.")
    row_names = "R and pandas write row names so: write the table without them (row.names=FALSE, index=False)"
    unnamed = [i + 1 for i, name in enumerate(names) if not name]
    if unnamed:
        raise InputError(f"{path}: columns without a name at position {unnamed}: name or drop them. {row_names}")
    if len(records) == 2 and len(records[1]) == len(names) + 1:
        raise InputError(f"{path} has {len(names)} names in its header and {len(names) + 1} values in its first row. {row_names}")


def _refuse_other_encoding(path: Path, error: Exception) -> None:
    """Raise where a line of a file cannot be read as UTF-8."""
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if "\ufffd" in line:
                raise InputError(f"{path} is not UTF-8 text (line {number}): {_AS_UTF_8}") from error


def _open_text(path: Path) -> TextIO:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    if gzipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _warn_of_marks(path: Path, texts: pl.DataFrame, frame: pl.DataFrame, columns: dict[str, Column]) -> None:
    """Warn where NA, NaN or null may be a category of a text column."""
    counts = {}
    for name, dtype in frame.schema.items():
        listed = name in columns and columns[name].categories is not None
        if dtype == pl.String and not listed and frame.get_column(name).count() > 0:
            counts[name] = int(texts.get_column(name).is_in(MISSING[1:]).sum())
    described = ", ".join(f"{name!r} ({count} values)" for name, count in counts.items() if count)
    if described:
        warnings.warn(
            f"{path.name}: NA, NaN and null are read as missing, also in columns of text: {described}. Where one of them is a category, "
            "list it among the column's categories in a schema",
            DataWarning,
            stacklevel=4,
        )


def _warn_of_merged_texts(path: Path, texts: pl.DataFrame, frame: pl.DataFrame, columns: dict[str, Column]) -> None:
    """Warn where different texts became the same number, as the codes 250.0 and 250.00 do."""
    merged = []
    for name, dtype in frame.schema.items():
        if dtype == pl.Float64 and name not in columns:
            plain = texts.get_column(name).filter(frame.get_column(name).is_not_null()).str.strip_chars()
            if plain.n_unique() > frame.get_column(name).drop_nulls().n_unique():
                merged.append(name)
    if merged:
        warnings.warn(
            f"{path.name}: different texts are one number, such as 1.5 and 1.50, in the columns {merged}. Where they are codes, "
            "declare the columns as categories in a schema",
            DataWarning,
            stacklevel=4,
        )
