"""Schema of a table: each column's role, kind, unit, range, categories and block.

A schema is inferred from a frame, reviewed by a person, edited as JSON, and from then on every frame is validated against it. Every raw
frame passes ``conform``, which returns numbers as Float64, categories as String and lists of codes as List(String), null where missing,
and no other dtype.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from nearward.tabular.data.code_lists import as_code_list, is_code_list, warn_of_lists_as_text
from nearward.tabular.data.conversion import BOOLEANS, as_number, as_text, spell_as
from nearward.tabular.data.limited_reading import read_at_most
from nearward.tabular.data.other_frames import refuse_renamed_duplicates
from nearward.tabular.data.text_values import (
    ISO_DATE,
    USUAL,
    check_marks,
    count_commas,
    describe_commas,
    is_text,
    read_missing,
    warn_of_numbers_as_text,
    without_marks,
)
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, did_you_mean
from nearward.tabular.statistics import patient_range

Role = Literal["feature", "expert", "id", "group", "outcome", "time", "site", "protected", "ignore"]
Kind = Literal["number", "category", "list"]

MAX_CATEGORIES = 200  # categories are listed in the schema up to this many


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
    role : str
        ``feature``; ``expert`` (a clinical score, higher for more risk, such as SOFA); ``id``; ``group`` (the patient, where patients
        repeat); ``outcome``; ``time``; ``site`` (or the source file: checked for a leak before fitting, never a feature); ``protected``
        (for subgroup tables, never a feature); ``ignore``.
    kind : str
        ``number``, ``category``, or ``list``: a list of codes in each row, such as diagnoses.
    unit : str or None
        For readers; never converted.
    low, high : float or None
        Range of the inferred frame without its four most extreme patients on either side, which it could identify; none from fewer than
        ten patients. To be corrected where it is not the usual one; values over 32 times outside are flagged as a slip of units.
    categories : tuple of str or None
        Those of the inferred frame, for columns with at most 200.
    block : str or None
        Columns measured together: ``labs``, ``vitals``, ``questionnaire``.
    separator : str or None
        Of a list that is stored as text, as in CSV files: what stands between its codes.
    missing : tuple of str
        Texts that are read as missing; ``"usual"`` stands for the usual marks, such as ``?`` and ``N/A``.
    """

    name: str
    role: Role = "feature"
    kind: Kind = "number"
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None
    block: str | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, allowed in (("role", get_args(Role)), ("kind", get_args(Kind))):
            value = getattr(self, field)
            if value not in allowed:
                raise InputError(f"column {self.name!r}: {field} must be one of {list(allowed)}, got {value!r}")
        if self.separator is not None and (self.kind != "list" or not self.separator):
            raise InputError(f"column {self.name!r}: separator is what stands between the codes of a list, got kind={self.kind!r}")
        if self.kind == "list" and self.role in ("expert", "outcome", "group", "id", "site"):
            raise InputError(f"column {self.name!r} holds a list of codes and cannot be the {self.role}: make it a feature, or ignore it")


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order.

    Examples
    --------
    >>> import polars as pl
    >>> schema = Schema.infer(pl.DataFrame({"age": [61, 70, None] * 5, "sex": ["f", "m", "f"] * 5}))
    >>> schema["sex"].kind, schema["age"].high
    ('category', 70.0)
    >>> Schema.from_json(schema.to_json()) == schema
    True
    >>> schema.with_roles(protected=["sex"]).features
    ('age',)
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if len(self._by_name) < len(self.columns):
            repeated = [name for name, count in Counter(c.name for c in self.columns).items() if count > 1]
            raise InputError(f"columns named twice in the schema: {sorted(repeated)}")

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def __getitem__(self, name: str) -> Column:
        if name not in self._by_name:
            raise MissingColumns([name], list(self._by_name))
        return self._by_name[name]

    def named(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the columns with one of these roles, in order."""
        return tuple(c.name for c in self.columns if c.role in roles)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the feature columns."""
        return self.named("feature")

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the user's own score columns."""
        return self.named("expert")

    def with_roles(self, **roles: str | Iterable[str] | None) -> Schema:
        """Return a copy with ``role=[names]`` set; a name that is not a column is an error."""
        role_of: dict[str, str] = {}
        for role, names in roles.items():
            for name in [names] if isinstance(names, str) else (names or ()):
                role_of[self[name].name] = role
        return Schema(tuple(dataclasses.replace(c, role=role_of.get(c.name, c.role)) for c in self.columns))  # type: ignore[arg-type]

    def with_missing(self, missing: str | Sequence[str]) -> Schema:
        """Return a copy that reads these marks as missing: the usual ones in number columns, others in all of them."""
        marks = check_marks(missing)
        exact = tuple(mark for mark in marks if mark != USUAL)
        return Schema(
            tuple(
                dataclasses.replace(c, missing=tuple(dict.fromkeys((*c.missing, *(marks if c.kind == "number" else exact)))))
                for c in self.columns
            )
        )

    # ---- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the schema as JSON, one column a line, without empty fields."""
        rows = [{k: v for k, v in dataclasses.asdict(c).items() if v not in (None, ())} for c in self.columns]
        body = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
        return f'{{"nearward_schema": 1, "columns": [\n  {body}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read ``to_json``'s format; an unknown key, role or kind is an error."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the schema is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("nearward_schema") != 1 or not isinstance(data.get("columns"), list):
            raise InputError('not a nearward schema: expected {"nearward_schema": 1, "columns": [...]}')
        return cls(tuple(_column_from_json(row) for row in data["columns"]))

    @classmethod
    def read(cls, path: str | Path) -> Schema:
        """Read a schema from a JSON file."""
        try:
            return cls.from_json(read_at_most(Path(path)).decode("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as a schema: {type(error).__name__}") from error

    def review(self) -> pl.DataFrame:
        """Return the schema as a frame to review, one row a column."""
        rows = [(c.name, c.role, c.kind, c.unit, c.block, _values(c)) for c in self.columns]
        return pl.DataFrame(rows, dict.fromkeys(("column", "role", "kind", "unit", "block", "values"), pl.String), orient="row")

    # ---- frames ----------------------------------------------------------------------------------------------------

    @classmethod
    def infer(cls, frame: pl.DataFrame, missing: str | Sequence[str] = (), groups: pl.Series | None = None) -> Schema:
        """Infer kinds, ranges and categories; the result should be reviewed by somebody who knows the table.

        Parameters
        ----------
        frame : n rows
        missing : str or sequence of str
            Texts that mean missing, in this frame and in those that are read by the schema. ``"usual"`` stands for the usual marks (``?``,
            ``.``, ``-``, ``N/A``, ``None``, blanks …) in columns whose other values are numbers or dates.
        groups : (n,), optional
            The patient of each row, where patients have several.

        Numbers, booleans and decimals become ``number``; text, categoricals and enums ``category``; lists of text, categories or whole
        numbers ``list``; dates and times, also as ISO text, get the role ``time``; columns without a value, and text that differs in every
        row, are ignored with a warning.

        Raises
        ------
        InputError
            No rows or columns; a dtype without an obvious meaning (nested, binary, duration, object); numbers with commas.
        """
        if frame.width == 0 or frame.height == 0:
            raise InputError(f"the frame has {frame.height} rows and {frame.width} columns; at least 1 of each is required")
        refuse_renamed_duplicates(frame.columns)
        frame = read_missing(frame, missing)
        return cls(tuple(_infer_column(frame.get_column(name), groups) for name in frame.columns)).with_missing(missing)

    @classmethod
    def from_dtypes(cls, frame: pl.DataFrame) -> Schema:
        """Return the kinds of a frame's columns by their dtypes alone, with the categories of text: another file is read alike by it.

        Examples
        --------
        >>> Schema.from_dtypes(pl.DataFrame({"ward": ["01", None], "age": [61, 70]})).columns[0].categories
        ('01',)
        """
        columns = []
        for series in frame.iter_columns():
            if series.dtype.is_temporal():
                columns.append(Column(series.name, role="time", kind="category"))
            elif is_text(series.dtype):
                values = series.cast(pl.String).drop_nulls().unique().sort()
                columns.append(Column(series.name, kind="category", categories=tuple(values) if len(values) <= MAX_CATEGORIES else None))
            elif series.dtype.is_numeric() or series.dtype == pl.Boolean:
                columns.append(Column(series.name))
            elif is_code_list(series.dtype):
                columns.append(Column(series.name, kind="list"))
            else:
                columns.append(Column(series.name, role="ignore"))
        return cls(tuple(columns))

    def conform(self, frame: pl.DataFrame, roles: Sequence[Role] = ("feature", "expert")) -> pl.DataFrame:
        """Return the columns of these roles as Float64, String and List(String), null for missing; anything else is an error.

        NaN counts as missing. Columns that the schema does not name are left out.

        Raises
        ------
        MissingColumns, InputError
            With the columns, dtypes and row counts concerned; never with a value.
        """
        columns = [c for c in self.columns if c.role in roles]
        names = set(frame.columns)
        missing = [c.name for c in columns if c.name not in names]
        if missing:
            remedy = "A column that nobody measured may be there without a value (null) in any row"
            raise MissingColumns(missing, [name for name in frame.columns if name not in self._by_name], remedy)
        used = {c.name for c in columns}
        refuse_renamed_duplicates([name for name in frame.columns if name.split("_duplicated_")[0] in used])
        return pl.DataFrame([_conform_column(frame.get_column(c.name), c) for c in columns])


def _column_from_json(row: Any) -> Column:
    known = {f.name for f in dataclasses.fields(Column)}
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise InputError(f"a schema column ({type(row).__name__}) has no 'name', which must be text")
    unknown = sorted(set(row) - known)
    if unknown:
        raise InputError(f"schema column {row['name']!r}: unknown keys {unknown}. {did_you_mean(unknown, sorted(known))}")
    for key in ("low", "high"):
        value = row.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
            raise InputError(f"schema column {row['name']!r}: {key} must be a number")
    for key in ("unit", "block", "separator"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise InputError(f"schema column {row['name']!r}: {key} must be text")
    if (row.get("low") is None) != (row.get("high") is None) or (row.get("low") is not None and row["low"] > row["high"]):
        raise InputError(f"schema column {row['name']!r}: low and high are both needed, and low must not exceed high")
    categories = row.get("categories")
    if categories is not None and not (isinstance(categories, list) and all(isinstance(value, str) for value in categories)):
        raise InputError(f"schema column {row['name']!r}: categories must be a list of texts")
    missing = row.get("missing", ())
    if isinstance(missing, str) or not isinstance(missing, list | tuple):
        raise InputError(f"schema column {row['name']!r}: missing must be a list of texts")
    return Column(**{**row, "categories": None if categories is None else tuple(categories), "missing": check_marks(missing)})


def _values(column: Column) -> str:
    if column.categories is not None:
        shown = ", ".join(column.categories[:6])
        return f"{len(column.categories)} categories: {shown}{', …' if len(column.categories) > 6 else ''}"
    if column.low is not None:
        return f"{column.low:g} to {column.high:g}"
    return ""


def _infer_column(series: pl.Series, groups: pl.Series | None) -> Column:
    name, dtype, values = series.name, series.dtype, series
    is_number = dtype.is_numeric() or dtype == pl.Boolean
    if is_number:
        values = as_number(series, name)
    elif is_code_list(dtype):
        values = as_code_list(series, name).list.len().replace({0: None})
    if dtype == pl.Null or values.null_count() == len(series):
        warnings.warn(f"column {name!r} has no value in any row: ignored", DataWarning, stacklevel=4)
        return Column(name, role="ignore")
    iso_text = dtype == pl.String and bool(series.drop_nulls().str.contains(ISO_DATE).all())
    if iso_text or isinstance(dtype, pl.Date | pl.Datetime | pl.Time):
        holds = "is text of" if iso_text else "holds"
        warnings.warn(f"column {name!r} {holds} dates or times: not used. Durations in numbers could be", DataWarning, stacklevel=4)
        return Column(name, role="time", kind="category")
    if is_number:
        low, high = patient_range(values, groups)
        return Column(name, low=low, high=high, categories=BOOLEANS if dtype == pl.Boolean else None)
    return Column(name, kind="list") if is_code_list(dtype) else _infer_category(series)


def _infer_category(series: pl.Series) -> Column:
    name, text = series.name, as_text(series, series.name).drop_nulls()
    commas = count_commas(text)
    if commas > 0.5 * len(text):
        raise InputError(f"column {name!r} is text of numbers with commas ({commas} of {len(text)} values): {describe_commas(text)}")
    if series.dtype == pl.String:  # a categorical was declared as such
        warn_of_numbers_as_text(text, stacklevel=6)
    warn_of_lists_as_text(text, stacklevel=6)
    categories = text.unique()
    if len(categories) == len(series) and len(series) > 20:
        hint = "If it names the rows, declare it as the id"
        warnings.warn(f"column {name!r} is text that differs in every row: ignored. {hint}", DataWarning, stacklevel=5)
        return Column(name, role="ignore", kind="category")
    listed = tuple(categories.sort().to_list()) if len(categories) <= MAX_CATEGORIES else None
    return Column(name, kind="category", categories=listed)


def _conform_column(series: pl.Series, column: Column) -> pl.Series:
    series = without_marks(series, column.missing)
    if column.kind == "number":
        return as_number(series, column.name)
    if column.kind == "list":
        return as_code_list(series, column.name, column.separator)
    if series.dtype == pl.Null:
        return series.cast(pl.String)
    text = as_text(series, column.name)
    return text if column.categories is None else spell_as(text, column.categories)
