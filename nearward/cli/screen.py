"""``nearward screen``: whom to look at first, where events are too few to learn a risk from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.console import as_value, show, split_names

if TYPE_CHECKING:
    import polars as pl

    from nearward.screening import Screening


def screen(
    table: Annotated[Path, typer.Argument(help="Parquet, CSV or Arrow/Feather file.", show_default=False)],
    outcome: Annotated[str, typer.Option(help="Column of the outcome.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet, CSV or Arrow file to write.", show_default=False)],
    group: Annotated[str | None, typer.Option(help="Column that names the patients, where patients repeat.", show_default=False)] = None,
    budget: Annotated[float, typer.Option(help="Share of rows that can be looked at.")] = 0.05,
    new: Annotated[
        Path | None, typer.Option(help="Table of new rows to rank.", show_default="the rows of TABLE, each by a model without its patient")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="Outcome value that is the event.", show_default="the greater of the two")] = None,
    id: Annotated[str | None, typer.Option(help="Column that names the rows.", show_default=False)] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Columns to leave out; may be repeated.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the folds and the ranker.")] = 0,
) -> None:
    """Rank rows by how unlike those without the event they are, and tell how many of the few known events that finds. From one event up."""
    from nearward.screening import screen as screen_rows
    from nearward.tabular.data.table_io import read_table, write_table
    from nearward.tabular.errors import InputError, MissingColumns
    from nearward.tabular.novelty.one_class import OneClass

    frame = read_table(table)
    out_of_fold = [name for name in [outcome, group, id, *split_names(drop)] if name]
    missing = [name for name in out_of_fold if name not in frame.columns]
    if missing:
        raise MissingColumns(missing, frame.columns)
    taken = sorted({outcome, id or ""} & {"row", "score", "share", "alert"})
    if taken:
        raise InputError(f"{out} gets columns of its own named {taken}: rename them in {table}")
    asked = None if new is None else read_table(new)
    if asked is not None and id and id not in asked.columns:
        raise InputError(f"{new} has no column {id!r}, which names the rows")
    column = frame.get_column(outcome)
    ranker = OneClass(seed=seed, positive=as_value(positive, column))
    groups = frame.get_column(group) if group else None
    found = screen_rows(frame.drop(out_of_fold), column, groups, budget=budget, ranker=ranker, seed=seed)
    if asked is None:
        ranked = _named(found.out_of_fold, frame, id).with_columns(column.gather(found.out_of_fold["row"]))
    else:
        ranked = _named(found.rank(asked.drop(out_of_fold, strict=False)), asked, id)
    write_table(ranked, out)
    _tell(found)
    typer.echo(f"{ranked.height} rows ranked in {out}, {int(ranked.get_column('alert').sum())} of them to look at")


def _named(ranked: pl.DataFrame, frame: pl.DataFrame, id: str | None) -> pl.DataFrame:
    """Name ranked rows by a column of their table, where there is one."""
    if id is None:
        return ranked
    return ranked.select(frame.get_column(id).gather(ranked["row"]), *(name for name in ranked.columns if name != "row"))


def _tell(found: Screening) -> None:
    import polars as pl

    rows = [("this ranker", str(found.recall)), ("alerts by lot", f"{found.budget:.3f}")]
    if found.linear is not None:
        rows.insert(1, ("logistic regression on the same events", str(found.linear)))
    share = f"{100 * found.budget:.3g}"
    show(
        pl.DataFrame(rows, schema=["looking at", "events found (95 %)"], orient="row"),
        f"{found.events} events; {share} of 100 rows looked at",
    )
