"""Files that hospitals have: Excel, SPSS, Stata and SAS tables with their value labels, and the data dictionary of REDCap.

The files are read by fastexcel (calamine) and pyreadstat (ReadStat): ``pip install 'nearward[files]'``.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, InputError, MissingPackage, require_columns

EXCEL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
STATISTICAL = {
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".por": "read_por",
    ".dta": "read_dta",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}
_NAME, _TYPE, _CHOICES = "Variable / Field Name", "Field Type", "Choices, Calculations, OR Slider Labels"
_FORM, _VALIDATION = "Form Name", "Text Validation Type OR Show Slider Number"
_LOW, _HIGH, _IDENTIFIER = "Text Validation Min", "Text Validation Max", "Identifier?"
_NUMBERS = ("number", "integer")  # beginnings of validations: number_1dp, number_comma_decimal, integer


def read_hospital_file(path: Path) -> pl.DataFrame:
    """Read an Excel, SPSS, Stata or SAS file; a column whose values all have labels becomes text of these labels.

    Raises
    ------
    InputError
        The file cannot be read; headings of an Excel sheet are merged, empty or repeated.
    MissingPackage
        The reader is not installed.
    """
    return _read_excel(path) if path.suffix.lower() in EXCEL else _read_statistical(path)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(name, "this kind of file needs it", "nearward[files]") from error


def _read_excel(path: Path) -> pl.DataFrame:
    """Read the first sheet, whose first row has the headings."""
    fastexcel = _package("fastexcel")
    try:
        book = fastexcel.read_excel(path)
        headings = [None if value is None else str(value).strip() for value in _first_row(book)]
        sheet = book.load_sheet(0)
    except fastexcel.FastExcelError as error:
        raise InputError(f"{path} cannot be read as {path.suffix}: {type(error).__name__}") from error
    if empty := sum(not name for name in headings):
        raise InputError(
            f"{path}: {empty} of {len(headings)} headings in the first row of sheet {book.sheet_names[0]!r} are empty, "
            "as merged cells leave them. Give each column one heading of its own in the first row, and remove titles above it"
        )
    if repeated := sorted(name for name, count in Counter(headings).items() if count > 1 and name):
        raise InputError(f"{path}: headings that stand twice in the first row: {repeated}. Give each column a heading of its own")
    if len(book.sheet_names) > 1:
        names = ", ".join(map(repr, book.sheet_names[1:]))
        warnings.warn(f"{path.name}: the first sheet, {book.sheet_names[0]!r}, was read; not {names}", DataWarning, stacklevel=4)
    frame: pl.DataFrame = sheet.to_polars()
    return frame.rename(dict(zip(frame.columns, map(str, headings), strict=True)))


def _first_row(book: Any) -> list[Any]:
    row = book.load_sheet(0, header_row=None, n_rows=1, dtypes="string").to_polars()
    return list(row.row(0)) if row.height else []


def _read_statistical(path: Path) -> pl.DataFrame:
    """Read an SPSS, Stata or SAS file; labels of SAS come from a catalogue ``NAME.sas7bcat`` beside it."""
    pyreadstat = _package("pyreadstat")
    read: Callable[..., Any] = getattr(pyreadstat, STATISTICAL[path.suffix.lower()])
    options: dict[str, Any] = {"output_format": "polars"}
    catalogue = path.with_suffix(".sas7bcat")
    if path.suffix.lower() == ".sas7bdat" and catalogue.is_file():
        options["catalog_file"] = str(catalogue)
    try:
        frame, about = read(str(path), **options)
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix}: {type(error).__name__}") from error
    texts = pl.col(pl.String)
    frame = frame.with_columns(pl.when(texts != "").then(texts).name.keep())  # these formats have no other missing text
    return _with_labels(frame, about.variable_value_labels)


def _with_labels(frame: pl.DataFrame, labels: dict[str, dict[Any, str]]) -> pl.DataFrame:
    """Replace values by their labels in columns whose values all have one, each of its own."""
    partly = []
    for name, label_of in labels.items():
        texts = {_spell(value): label for value, label in label_of.items()}
        values = as_text(frame.get_column(name), name)
        unlabelled = values.drop_nulls().unique().is_in([*texts]).not_().sum()
        if unlabelled or len(set(texts.values())) < len(texts):
            partly.append(name)
        else:
            frame = frame.with_columns(values.replace_strict(texts, return_dtype=pl.String).alias(name))
    if partly:
        text = f"columns {partly} have labels for some of their values only, or one label twice: their values were kept"
        warnings.warn(text, DataWarning, stacklevel=4)
    return frame


def _spell(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_redcap_dictionary(path: str | Path, frame: pl.DataFrame | None = None) -> Schema:
    """Turn a data dictionary of REDCap (CSV) into a schema for an export with raw values.

    Choices become categories, checkboxes their columns ``NAME___CODE``, validated numbers numbers with their range, dates the role
    ``time``; free text, files and identifiers are ignored; the first field is the record and becomes the ``id``, or the ``group`` where it
    repeats in the frame; the form becomes the block.

    Parameters
    ----------
    path : path
    frame : pl.DataFrame, optional
        The export. It decides which fields are kept, and is checked against the dictionary.

    Raises
    ------
    InputError
        Not a data dictionary; or the frame contradicts it: the message names columns and counts rows.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            fields = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a data dictionary: {type(error).__name__}") from error
    if not fields or not {_NAME, _TYPE} <= fields[0].keys():
        raise InputError(f"{path} is not a data dictionary of REDCap: it has no columns {_NAME!r} and {_TYPE!r}")
    columns = [column for i, field in enumerate(fields) for column in _columns(field, first=i == 0)]
    if frame is None:
        return Schema(tuple(columns))
    present = [column for column in columns if column.name in frame.columns]
    if not present:
        require_columns([columns[0].name], frame.columns)
    _check(path, present, frame)
    named = {column.name for column in columns}
    others = [Column(name, role="ignore", kind="category") for name in frame.columns if name not in named]
    if others:
        warnings.warn(f"columns that the dictionary lacks are ignored: {[column.name for column in others]}", DataWarning, stacklevel=2)
    schema = Schema((*present, *others))
    records = [column.name for column in present if column.role == "id"]
    return schema.with_roles(group=records) if records and frame.get_column(records[0]).is_duplicated().any() else schema


def _columns(field: dict[str, str], first: bool) -> list[Column]:
    """Return the columns of one field."""
    name, kind, block = field[_NAME].strip(), field[_TYPE].strip(), field.get(_FORM) or None
    if first:
        return [Column(name, role="id", kind="category")]
    if kind == "descriptive":
        return []
    if kind == "checkbox":
        return [Column(f"{name}___{code.lower()}", low=0.0, high=1.0, block=block) for code in _codes(field)]
    return [_column(field, name, kind, block)]


def _column(field: dict[str, str], name: str, kind: str, block: str | None) -> Column:
    """Return the one column of a field."""
    validation = (field.get(_VALIDATION) or "").strip()
    identifies = (field.get(_IDENTIFIER) or "").strip().lower() == "y"
    column = Column(name, role="ignore", kind="category")
    if identifies or kind in ("notes", "file", "signature"):
        pass
    elif kind in ("yesno", "truefalse"):
        column = Column(name, low=0.0, high=1.0, block=block)
    elif kind in ("radio", "dropdown", "sql"):
        column = Column(name, kind="category", categories=_codes(field) or None, block=block)
    elif kind in ("calc", "slider") or validation.startswith(_NUMBERS):
        low, high = _number(field.get(_LOW)), _number(field.get(_HIGH))
        known = low is not None and high is not None
        column = Column(name, low=low if known else None, high=high if known else None, block=block)
    elif validation.startswith(("date", "time")):
        column = Column(name, role="time", kind="category", block=block)
    return column


def _codes(field: dict[str, str]) -> tuple[str, ...]:
    return tuple(part.split(",", 1)[0].strip() for part in (field.get(_CHOICES) or "").split("|") if part.strip())


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _check(path: str | Path, columns: list[Column], frame: pl.DataFrame) -> None:
    """Raise where the frame has other values than the dictionary allows."""
    contradictions = []
    for column in columns:
        series = frame.get_column(column.name)
        if column.kind == "category" and column.categories and column.role == "feature":
            unknown = as_text(series, column.name).drop_nulls().is_in(list(column.categories)).not_().sum()
            if unknown:
                contradictions.append(f"{column.name!r} has {unknown} values that are none of its {len(column.categories)} choices")
        elif column.kind == "number" and not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
            contradictions.append(f"{column.name!r} is a number in the dictionary and {series.dtype} in the table")
    if contradictions:
        advice = "Export raw values, not labels, and with the dictionary of the same day"
        raise InputError(f"the table contradicts {path}: {'; '.join(contradictions)}. {advice}")
