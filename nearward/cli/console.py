"""Shared by the commands: their common arguments and options, values in a column's dtype, tables on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from nearward.risk_model.summary import ClassFigures
    from nearward.tabular.data.schema import Schema

TableFile = Annotated[Path, typer.Argument(help="Parquet, CSV or Arrow/Feather file.", show_default=False)]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of a fitted model.", show_default=False)]
GeneratorFolder = Annotated[Path, typer.Argument(help="Folder of a fitted generator.", show_default=False)]
TableOut = Annotated[Path, typer.Option(help="Parquet, CSV or Arrow file to write.", show_default=False)]
Outcome = Annotated[str, typer.Option(help="Column of the outcome.", show_default=False)]
Events = Annotated[
    list[str] | None,
    typer.Option("--positive", help="Outcome value that is the event; repeat it for several.", show_default="the greater of the two"),
]
Positive = Annotated[str | None, typer.Option(help="Outcome value that is the event.", show_default="the greater of the two")]
Group = Annotated[str | None, typer.Option(help="Column with the patient ids, where patients have several rows.", show_default=False)]
RowId = Annotated[str | None, typer.Option(help="Column with the row ids.", show_default=False)]
Columns = Annotated[
    list[str] | None,
    typer.Option(help="A column, or several with commas; may be repeated. A name with a comma: alone, or in quotes.", show_default=False),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(help="Columns to leave out; may be repeated. A name with a comma: alone, or in quotes.", show_default=False),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(help="Schema (see nearward schema): decides which columns are text and which are numbers.", show_default=False),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        help="Text that means missing; may be repeated. usual: the usual marks (?, N/A, …) in columns of numbers or dates.",
        show_default=False,
    ),
]


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


def show(frame: pl.DataFrame, title: str) -> None:
    """Print a frame under its title."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = RichTable()
    for name in frame.columns:
        table.add_column(escape(name), overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*("" if v is None else f"{v:.3g}" if isinstance(v, float) else escape(str(v)) for v in row))
    typer.echo(title)
    Console().print(table)


def show_classes(classes: Iterable[Any], figures: Sequence[ClassFigures], title: str) -> None:
    """Print the out-of-fold figures of each class."""
    import polars as pl

    show(pl.DataFrame([{"class": str(name), **vars(one)} for name, one in zip(classes, figures, strict=True)]), title)
