"""Values stored as text: the dtype that texts ask for, marks of missing values, and numbers that other text keeps from being numbers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import polars as pl

from nearward.tabular.errors import DataWarning, InputError

NUMBER_LIKE = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
ISO_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
BOOLEAN = r"^(?i:true|false)$"
USUAL = "usual"  # stands for the marks below, in columns whose other values are numbers or dates
USUAL_MARKS = (
    *("", "?", ".", "-", "--", "\N{EN DASH}", "\N{EM DASH}", "*", "\\n"),
    *("na", "n/a", "n.a.", "nan", "none", "null", "nil", "missing", "unknown", "#n/a", "#na", "#value!", "#div/0!"),
)  # in lower case

_WHOLE = r"^(0|-?[1-9]\d{0,17})$"  # written back as it stood, and within Int64
_DECIMAL = r"^[+-]?(?:(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf)$"
_CODE = r"^[+-]?(0\d.*|\d+[eE]\d+|\d{16,})$"  # leading zeros, 1E5, and too many digits for a number
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_DATETIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?$"
_ZONED = _DATETIME.removesuffix("$") + r"(Z|[+-]\d{2}:?\d{2})$"

_BOUND = r"^\s*(<|>|≤|≥|<=|>=)\s*\d+([.,]\d+)?\s*$"
_WITH_UNIT = r"^\s*[+-]?\d+([.,]\d+)?(\s*%|\s+[A-Za-zµμ°][\w/%°²³.]*|\s*[A-Za-zµμ°][\w°²³.]*/[\w/%°²³.]+|\s*[A-Za-zµμ]{2,})\s*$"
_COMMA = r"^\s*[+-]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}(\.\d{3})+,\d+)\s*$"
_THREES = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})$"  # 1,100: eleven hundred, or 1.1 written with three decimals
_THOUSANDS = r"^\s*[+-]?\d{1,3}((,\d{3}){2,}(\.\d+)?|,\d{3}\.\d+)\s*$"  # 1,234,567 and 1,100.5
_FORMS = {
    "with <, > or ≤": _BOUND,
    "with a unit or %": _WITH_UNIT,
    "with a comma": _COMMA,
}
_NUMBERS, _FEW_VALUES = 0.9, 16  # share of numbers, and different values, up to which a column is taken as categories without a word


def check_marks(missing: str | Sequence[str]) -> tuple[str, ...]:
    """Return marks of missing values as a tuple.

    Raises
    ------
    InputError
        A mark that is no text, or that is a number: -9 and 999 mean missing in some columns and a value in others.

    Examples
    --------
    >>> check_marks("usual"), check_marks(["?", "unk"])
    (('usual',), ('?', 'unk'))
    """
    marks = (missing,) if isinstance(missing, str) else tuple(missing)
    for mark in marks:
        if not isinstance(mark, str):
            raise InputError(f"missing must hold texts, or be {USUAL!r}, got a mark of type {type(mark).__name__}")
        if re.match(NUMBER_LIKE, mark):
            raise InputError(f"missing={mark!r} is a number, which may be a value in another column: make it null in its own column first")
    return marks


def are_marks(text: pl.Series, marks: Sequence[str]) -> pl.Series:
    """Return which values of a text column are marks of missing values; a null is none.

    Examples
    --------
    >>> are_marks(pl.Series(["N/A", " ? ", "5"]), ["usual"]).to_list(), are_marks(pl.Series(["unk", "UNK"]), ["unk"]).to_list()
    ([True, True, False], [True, False])
    """
    plain = text.str.strip_chars()
    matches = plain.is_in([mark.strip() for mark in marks if mark != USUAL])
    if USUAL in marks:
        matches |= plain.str.to_lowercase().is_in(list(USUAL_MARKS))
    return matches.fill_null(value=False)


def without_marks(series: pl.Series, marks: Sequence[str]) -> pl.Series:
    """Return a column of text with marks of missing values as null; other columns, and without marks, unchanged."""
    if not marks or not is_text(series.dtype):
        return series
    text = series.cast(pl.String)
    return text.set(are_marks(text, marks), None)


def is_text(dtype: pl.DataType) -> bool:
    """Return whether values of a dtype are text: strings or categories."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def read_missing(frame: pl.DataFrame, missing: str | Sequence[str]) -> pl.DataFrame:
    """Return a frame whose marks of missing values are null; a column of text that is numbers or dates without them becomes that.

    Parameters
    ----------
    frame : n rows
    missing : str or sequence of str
        Marks, which are missing in every column of text; and ``"usual"`` for the usual ones (``?``, ``.``, ``-``, ``N/A``, ``None``,
        ``\\N``, blanks …), which are missing in columns whose other values are numbers, dates or booleans.

    Examples
    --------
    >>> frame = pl.DataFrame({"crp": ["5.1", "?"], "protein": ["-", "trace"]})
    >>> read_missing(frame, "usual").to_dict(as_series=False)
    {'crp': [5.1, None], 'protein': ['-', 'trace']}
    """
    marks = check_marks(missing)
    if not marks:
        return frame
    text = [series for series in frame.iter_columns() if is_text(series.dtype)]
    return frame.with_columns(_read_missing(series, marks) for series in text)


def _read_missing(series: pl.Series, marks: Sequence[str]) -> pl.Series:
    text = series.cast(pl.String)
    exact = [mark for mark in marks if mark != USUAL]
    values = text.set(are_marks(text, exact), None)
    if USUAL in marks:
        others = values.set(are_marks(values, [USUAL]), None)
        if others.count() == 0 or infer_dtype(others) != pl.String:
            values = others
    return series if values.null_count() == text.null_count() else parse(values)


def infer_dtype(values: pl.Series, *, number: bool = False) -> type[pl.DataType]:
    """Return the dtype that texts ask for; with ``number`` a code such as 007 is the number 7."""
    plain = values.drop_nulls().str.strip_chars()
    if plain.is_empty():
        return pl.String
    if _all(plain, _WHOLE):
        return pl.Int64
    if _all(plain, BOOLEAN):
        return pl.Boolean
    if _all(plain, _DECIMAL) and (number or not plain.str.contains(_CODE).any()):
        whole = number and _all(plain, r"^[+-]?\d{1,18}$")
        return pl.Int64 if whole and not plain.str.contains(r"^\+").any() else pl.Float64
    if _all(plain, _DATE):
        return pl.Date
    return pl.Datetime if _all(plain, _DATETIME) or _all(plain, _ZONED) else pl.String


def parse(values: pl.Series, *, number: bool = False) -> pl.Series:
    """Return texts in the dtype that they ask for; unchanged where one of them cannot be read so."""
    dtype = infer_dtype(values, number=number)
    if dtype == pl.Boolean:
        return values.str.strip_chars().str.to_lowercase() == "true"
    if dtype == pl.Date:
        dates = values.str.to_date("%Y-%m-%d", strict=False)
        return dates if dates.null_count() == values.null_count() else values
    if dtype == pl.Datetime:
        plain = values.str.strip_chars().str.replace("T", " ").str.replace(r"^(\S+ \d{2}:\d{2})([^:\d].*)?$", "${1}:00${2}")
        zoned = _all(plain.drop_nulls(), _ZONED)
        form = "%Y-%m-%d %H:%M:%S%.f" + ("%z" if zoned else "")  # with a zone the time is that of UTC
        times = plain.str.replace("Z$", "+00:00").str.to_datetime(form, time_unit="us", strict=False)
        return times if times.null_count() == values.null_count() else values
    return values if dtype == pl.String else values.str.strip_chars().cast(dtype)


def warn_of_numbers_as_text(text: pl.Series, stacklevel: int) -> None:
    """Warn where a text column is mostly numbers, beside marks of missing values, bounds, units or commas: it becomes a category.

    Named are counts, and those of the usual marks that occur; never another value.
    """
    values = text.drop_nulls()
    is_mark = are_marks(values, [USUAL])
    others = values.filter(~is_mark)
    numbers = int(others.str.contains(NUMBER_LIKE).sum())
    forms = {form: int(others.str.contains(pattern).sum()) for form, pattern in _FORMS.items()}
    if numbers + sum(forms.values()) < max(_NUMBERS * len(others), 1) or others.str.contains(ISO_DATE).all():
        return
    if numbers == len(values) and (values.n_unique() <= _FEW_VALUES or values.str.contains(_CODE).any()):
        return
    beside = [f"{count} {form}" for form, count in forms.items() if count]
    if is_mark.any():
        marks = sorted(values.filter(is_mark).str.strip_chars().unique().to_list())
        beside.append(f"{int(is_mark.sum())} marks of missing values ({', '.join(repr(mark) for mark in marks)})")
    rest = len(others) - numbers - sum(forms.values())
    beside += [f"{rest} of other text"] if rest else []
    besides = f" (besides: {'; '.join(beside)})" if beside else ""
    hints = ["If it is a measurement, make it a number first"]
    hints += ['read such marks as missing: missing="usual" of Schema.infer or read_missing, or --missing usual'] if is_mark.any() else []
    commas = values.filter(values.str.contains(_COMMA))
    hints += [describe_commas(commas)] if len(commas) else []
    warnings.warn(
        f"column {text.name!r} is text, but {numbers} of its {len(values)} values read as numbers{besides}: "
        f"taken as a category. {'; '.join(hints)}",
        DataWarning,
        stacklevel=stacklevel,
    )


def count_commas(text: pl.Series) -> int:
    """Count the values that are numbers written with a comma."""
    return int(text.str.contains(_COMMA).sum())


def describe_invalid(text: pl.Series) -> str:
    """Say what keeps the texts (n,) of a number column from being numbers, where that is known; without a value."""
    values = text.drop_nulls()
    marks, commas = values.filter(are_marks(values, [USUAL])), values.filter(values.str.contains(_COMMA))
    hints = []
    if len(marks):
        shown = ", ".join(repr(mark) for mark in sorted(marks.str.strip_chars().unique().to_list()))
        hints.append(f"Marks of missing values among them ({len(marks)}: {shown}): list them as missing in the schema, or as --missing")
    if len(commas):
        hints.append(f"Numbers with commas among them ({len(commas)}): {describe_commas(commas)}")
    return "".join(f". {hint}" for hint in hints)


def describe_commas(text: pl.Series) -> str:
    """Say what the commas of numbers are: decimal commas, separators of thousands, or which of them cannot be told.

    Examples
    --------
    >>> describe_commas(pl.Series(["1,100", "2,350"]))
    'before groups of three digits commas may separate thousands or be decimal commas: write these numbers without them'
    """
    commas = text.filter(text.str.contains(_COMMA))
    if bool(commas.str.contains(_THREES).all()):
        return "before groups of three digits commas may separate thousands or be decimal commas: write these numbers without them"
    separators = commas.str.contains(_THOUSANDS)
    decimal = int((~separators & ~commas.str.contains(_THREES)).sum())
    if not decimal:
        return "the commas separate thousands: remove them"
    if separators.any():
        return "some commas separate thousands and some are decimal commas: write these numbers without them"
    return "they look like decimal commas: replace them by points"


def _all(texts: pl.Series, pattern: str) -> bool:
    return bool(texts.str.contains(pattern).all())
