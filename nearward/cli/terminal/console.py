"""Shared by the commands: the class of their app, common arguments and options, and how values of options are read.

One option has one meaning and one type in all commands: an option that several commands have is declared here.
"""

from __future__ import annotations

import atexit
import csv
import functools
import inspect
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.help_text import Command, CommandGroup
from nearward.cli.terminal.output import STANDARD, begin_output, check_files, refuse_overwriting

if TYPE_CHECKING:
    import polars as pl

    from nearward.tabular.data.schema import Schema

_MAGIC = {b"PAR1": ".parquet", b"ARRO": ".arrow"}  # the first bytes of a table; anything else is CSV


def spool(path: Path) -> Path:
    """Copy standard input to a private temporary file, where the path is ``-``: a table is read more than once."""
    if path != STANDARD:
        return path
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    content = sys.stdin.buffer.read()
    copy = Path(folder.name) / f"stdin{_MAGIC.get(content[:4], '.csv')}"
    copy.write_bytes(content)
    return copy


TableFile = Annotated[
    Path,
    typer.Argument(
        help="Parquet, CSV, Arrow, Excel, SPSS, Stata or SAS file; - reads standard input.",
        show_default=False,
        metavar="TABLE",
        callback=spool,
    ),
]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of a fitted model.", show_default=False, metavar="MODEL")]
GeneratorFolder = Annotated[Path, typer.Argument(help="Folder of a fitted generator.", show_default=False, metavar="GENERATOR")]
TableOut = Annotated[
    Path, typer.Option("--out", help="Parquet, CSV or Arrow file to write; - prints CSV.", show_default=False, metavar="FILE")
]
FolderOut = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False, metavar="FOLDER")]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="JSON file to write the results to; - prints them as JSON.", show_default=False, metavar="FILE"),
]
Report = Annotated[Path | None, typer.Option("--report", help="HTML page to write.", show_default=False, metavar="FILE")]
Outcome = Annotated[str, typer.Option("--outcome", help="Column of the outcome.", show_default=False, metavar="COLUMN")]
Events = Annotated[
    list[str] | None,
    typer.Option(
        "--positive",
        help="Outcome value that is the event; repeat it for several.",
        show_default="the greater of the two",
        metavar="VALUE",
    ),
]
Positive = Annotated[
    str | None,
    typer.Option("--positive", help="Outcome value that is the event.", show_default="the greater of the two", metavar="VALUE"),
]
Group = Annotated[
    str | None,
    typer.Option("--group", help="Column with the patient ids, where patients have several rows.", show_default=False, metavar="COLUMN"),
]
RowId = Annotated[str | None, typer.Option("--id", help="Column with the row ids.", show_default=False, metavar="COLUMN")]
Site = Annotated[
    str | None,
    typer.Option(
        "--site",
        help="Column of the site or source file: checked for site leakage, never used as a feature.",
        show_default=False,
        metavar="COLUMN",
    ),
]
Row = Annotated[
    str,
    typer.Option("--row", help="The row: its id where the model knows a column of ids, else its number from 0.", metavar="ROW"),
]
_COMMAS = "several with commas, or repeated; a name with a comma in quotes"


def columns_option(help: str) -> Any:
    """Return a repeatable option that names columns; ``split_names`` reads it."""
    return typer.Option(help=f"{help}; {_COMMAS}.", show_default=False, metavar="COLUMN")


Experts = Annotated[list[str] | None, columns_option("Column of your own score, higher for more risk")]
Drop = Annotated[list[str] | None, columns_option("Column to leave out")]
Category = Annotated[list[str] | None, columns_option("Column of numbers that are codes, such as admission_type_id")]
SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", help="Edited schema (see nearward schema): what each column is.", show_default=False, metavar="FILE"),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        help="Text that means missing; may be repeated. usual: the usual marks (?, N/A, …) in columns of numbers or dates. Of events: a "
        "number that means unknown, or CODE=NUMBER.",
        show_default=False,
        metavar="TEXT",
    ),
]
EventColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="The events' names of columns where they are not those of MEDS: subject_id=stay,numeric_value=value; also time, code, "
        "text_value, unit.",
        show_default=False,
        metavar="NAME=THEIRS",
    ),
]
MedsLabels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="MEDS labels: the subjects and moments of prediction, subject_id, prediction_time and maybe boolean_value.",
        show_default=False,
        metavar="PATH",
    ),
]
Threshold = Annotated[
    float | None, typer.Option(help="Decision threshold: the risk from which on a patient is treated.", show_default="the event rate")
]
Resamples = Annotated[int, typer.Option(help="Bootstrap resamples of patients for each confidence interval.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress and no text; warnings and errors still go to standard error.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the library's log to standard error.")]


class App(typer.Typer):
    """A typer app whose commands all have ``--quiet`` and ``--verbose``, and whose help is plain text for any width."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cls=CommandGroup,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    def command(self, *args: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # type: ignore[override]
        """Register a command with the common options."""
        register = super().command(*args, **{"cls": Command, **options})

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_common_options(function))
            return function

        return decorate


def _with_common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def command(quiet: bool = False, verbose: bool = False, **arguments: Any) -> Any:
        begin_output(quiet=quiet, data=any(arguments.get(name) == STANDARD for name in ("out", "json")))
        check_files({f"--{name}": arguments.get(name) for name in ("report", "json", "picture")})
        refuse_overwriting(arguments)
        if verbose:
            logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
            logging.getLogger("nearward").setLevel(logging.INFO)
        return function(**arguments)

    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("quiet", Quiet), ("verbose", Verbose))
    ]
    del command.__wrapped__
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()),
            *common,
        ]
    )
    command.__annotations__ = {p.name: p.annotation for p in command.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return command


def find_row(row: str, frame: pl.DataFrame, id_columns: Sequence[str]) -> int:
    """Return the number of the row that ``--row`` names: by its id where the table has a column of ids, else its number from 0.

    Raises
    ------
    InputError
        There is no such row, or several rows have the id.
    """
    from nearward.tabular.data.conversion import as_text
    from nearward.tabular.errors import InputError

    if id_columns and id_columns[0] in frame.columns:
        numbers = (as_text(frame.get_column(id_columns[0]), id_columns[0]) == row).fill_null(value=False).arg_true()
        if len(numbers) != 1:
            raise InputError(f"--row names a row by its {id_columns[0]!r}: {len(numbers) or 'no'} rows of the table have that id")
        return int(numbers[0])
    if not row.isdecimal() or int(row) >= frame.height:
        raise InputError(f"--row must be the number of a row, 0 to {frame.height - 1}, got {row}")
    return int(row)


def as_categories(frame: pl.DataFrame, schema: Schema | None, category: list[str] | None) -> tuple[pl.DataFrame, Schema | None]:
    """Turn the columns of ``--category`` to categoricals in a frame, and to categories in its schema, where there is one.

    Without a schema, a warning names columns of numbers that look like codes.
    """
    import dataclasses

    import polars as pl

    from nearward.tabular.data.code_lists import numbers_named_as_codes
    from nearward.tabular.data.conversion import as_text
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.errors import DataWarning, require_columns

    names = split_names(category, frame.columns)
    require_columns(names, frame.columns)
    frame = frame.with_columns(as_text(frame.get_column(name), name).cast(pl.Categorical) for name in names)
    numbers = [] if schema is not None else numbers_named_as_codes(frame)
    if numbers:
        option = f"--category {','.join(numbers)}"
        note = f"columns {numbers} are whole numbers with names of codes, and read as numbers. If they are codes: {option}"
        warnings.warn(note, DataWarning, stacklevel=2)
    if schema is not None:
        kinds = {"kind": "category", "low": None, "high": None, "unit": None}
        schema = Schema(tuple(dataclasses.replace(c, **kinds) if c.name in names else c for c in schema.columns))  # type: ignore[arg-type]
    return frame, schema


def split_names(values: list[str] | None, columns: Collection[str] = ()) -> list[str]:
    """Split the values of a repeatable option at commas, except a value that is itself one of the columns, and text in double quotes.

    Examples
    --------
    >>> split_names(["age,sex", "urea, serum"], ["age", "sex", "urea, serum"])
    ['age', 'sex', 'urea, serum']
    >>> split_names(['"urea, serum",age'])
    ['urea, serum', 'age']
    """
    names: list[str] = []
    for value in values or []:
        names += [value] if value in columns else [part.strip() for part in next(csv.reader([value], skipinitialspace=True), [])]
    return [name for name in names if name]


def read_columns(values: list[str] | None) -> dict[str, str] | None:
    """Read the names of ``--columns``.

    Raises
    ------
    InputError
        An entry without ``=``.

    Examples
    --------
    >>> read_columns(["subject_id=stay,numeric_value=value"])
    {'subject_id': 'stay', 'numeric_value': 'value'}
    """
    from nearward.tabular.errors import InputError

    pairs = [[part.strip() for part in entry.partition("=")] for entry in split_names(values)]
    if wrong := [name for name, _, theirs in pairs if not (name and theirs)]:
        raise InputError(f"--columns must be NAME=THEIRS, got {', '.join(wrong)}")
    return {name: theirs for name, _, theirs in pairs} or None


def read_missing_numbers(values: list[str] | None) -> dict[str, list[float]] | None:
    """Read the numbers of ``--missing`` for events: by code, or of all codes (``*``).

    Raises
    ------
    InputError
        Not a number.

    Examples
    --------
    >>> read_missing_numbers(["-1", "Height=-9", "Height=0"])
    {'*': [-1.0], 'Height': [-9.0, 0.0]}
    """
    from nearward.tabular.errors import InputError

    numbers: dict[str, list[float]] = {}
    for entry in values or []:
        code, _, number = entry.rpartition("=")
        try:
            numbers.setdefault(code.strip() or "*", []).append(float(number))
        except ValueError as error:
            raise InputError(f"--missing of events must be a number, or CODE=NUMBER, got {entry}") from error
    return numbers or None


def read_schema(path: Path | None, missing: list[str] | None = None) -> Schema | None:
    """Read the schema of ``--schema``, where it is given, with the marks of ``--missing``."""
    from nearward.tabular.data.schema import Schema

    return None if path is None else Schema.read(path).with_missing(missing or ())


def as_event(texts: list[str] | None, column: pl.Series) -> Any:
    """Return the values of ``--positive`` in the outcome column's dtype: None, one, or a list of several.

    Raises
    ------
    InputError
        No row has one of them.
    """
    from nearward.tabular.errors import InputError

    values = [as_value(text, column) for text in texts or []]
    present = column.drop_nulls().unique().to_list()
    if absent := [text for text, value in zip(texts or [], values, strict=True) if value not in present]:
        raise InputError(f"no row of the outcome has the value of the event, got --positive {', '.join(absent)}")
    return values[0] if len(values) == 1 else values or None


def as_value(text: str | None, column: pl.Series) -> Any:
    """Return the event's value in the outcome column's dtype."""
    if text is None:
        return None
    try:
        number: float | None = float(text)
    except ValueError:
        number = {"true": 1.0, "false": 0.0}.get(text.lower())
    for value in column.drop_nulls().unique().to_list():
        if str(value) == text or (isinstance(value, int | float) and value == number):
            return value
    return text
