"""Shared by the commands: comma-separated names, values in a column's dtype, tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl


def split_names(names: list[str] | None) -> list[str]:
    """Split the values of a repeatable option at commas."""
    return [part.strip() for name in names or [] for part in name.split(",") if part.strip()]


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
