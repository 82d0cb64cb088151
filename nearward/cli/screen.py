"""``nearward screen``: rank patients for review where events are too few to fit a risk model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.console import (
    Drop,
    Events,
    Group,
    Missing,
    Outcome,
    RowId,
    SchemaFile,
    TableFile,
    TableOut,
    as_event,
    read_schema,
    show,
    split_names,
)

if TYPE_CHECKING:
    import polars as pl

    from nearward.screening import Screening


def screen(
    table: TableFile,
    outcome: Outcome,
    out: TableOut,
    group: Group = None,
    budget: Annotated[float, typer.Option(help="Share of rows that can be reviewed.")] = 0.05,
    new: Annotated[
        Path | None, typer.Option(help="Table of new rows to rank.", show_default="the rows of TABLE, each by a model without its patient")
    ] = None,
    positive: Events = None,
    id: RowId = None,
    drop: Drop = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    seed: Annotated[int, typer.Option(help="Seed of the folds and the ranker.")] = 0,
) -> None:
    """Rank rows by anomaly score against rows without the event, and estimate the recall of known events. From one event up."""
    from nearward.screening import screen as screen_rows
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table, write_table
    from nearward.tabular.errors import InputError, require_columns
    from nearward.tabular.novelty.one_class import OneClass

    declared = read_schema(schema, missing)
    frame = read_table(table, declared, missing or ())
    excluded = [name for name in [outcome, group, id, *split_names(drop, frame.columns)] if name]
    require_columns(excluded, frame.columns)
    taken = sorted({outcome, id or ""} & {"row", "score", "share", "alert"})
    if taken:
        raise InputError(f"{out} gets columns of its own named {taken}: rename them in {table}")
    read_alike = declared or Schema.from_dtypes(frame).with_roles(id=id).with_missing(missing or ())
    new_rows = None if new is None else read_table(new, read_alike, missing or ())
    if new_rows is not None and id and id not in new_rows.columns:
        raise InputError(f"{new} has no column {id!r}, which has the row ids")
    column = frame.get_column(outcome)
    ranker = OneClass(random_state=seed, positive=as_event(positive, column))
    groups = frame.get_column(group) if group else None
    screening = screen_rows(frame.drop(excluded), column, groups, budget=budget, ranker=ranker, seed=seed)
    if new_rows is None:
        ranked = _with_ids(screening.out_of_fold, frame, id).with_columns(column.gather(screening.out_of_fold["row"]))
    else:
        ranked = _with_ids(screening.rank(new_rows.drop(excluded, strict=False)), new_rows, id)
    write_table(ranked, out)
    _show(screening, outcome)
    typer.echo(f"{ranked.height} rows ranked in {out}, {int(ranked.get_column('alert').sum())} of them to review")


def _with_ids(ranked: pl.DataFrame, frame: pl.DataFrame, id: str | None) -> pl.DataFrame:
    """Replace the row numbers of ranked rows by the ids of their table, where it has ids."""
    if id is None:
        return ranked
    return ranked.select(frame.get_column(id).gather(ranked["row"]), *(name for name in ranked.columns if name != "row"))


def _show(screening: Screening, outcome: str) -> None:
    import polars as pl

    rows = [("this ranker", str(screening.recall)), ("random alerts", f"{screening.budget:.3f}")]
    if screening.linear is not None:
        rows.insert(1, ("logistic regression on the same events", str(screening.linear)))
    share = f"{100 * screening.budget:.3g}"
    show(
        pl.DataFrame(rows, schema=["ranker", "recall (95 %)"], orient="row"),
        f"{screening.events} events ({outcome} is {screening.event}); {share} of 100 rows reviewed",
    )
