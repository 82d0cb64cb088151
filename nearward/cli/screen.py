"""``nearward screen``: rank patients for review where events are too few to fit a risk model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.terminal.console import (
    Drop,
    Events,
    Group,
    Json,
    Missing,
    Outcome,
    RowId,
    SchemaFile,
    Seed,
    TableFile,
    TableOut,
    as_event,
    read_schema,
    split_names,
)
from nearward.cli.terminal.output import say, show, write_json, write_rows

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
        Path | None,
        typer.Option(help="Table of new rows to rank; without it TABLE's own, each by a model without its patient.", metavar="TABLE"),
    ] = None,
    positive: Events = None,
    id: RowId = None,
    drop: Drop = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Rank rows for review, from one event up.

    By an anomaly score against rows without the event, with an estimate of the recall of known events.

    \b
    Examples:
      nearward screen cohort.parquet --outcome died --budget .05 \\
        --out first.parquet
      nearward screen cohort.parquet --outcome died --new new.parquet \\
        --out first.csv
    """
    from nearward.screening import screen as screen_rows
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
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
    write_rows(ranked, out)
    _show(screening, outcome)
    write_json({"events": screening.events, "recall": screening.recall, "linear": screening.linear, "budget": screening.budget}, json)
    say(f"{ranked.height} rows ranked in {out}, {int(ranked.get_column('alert').sum())} of them to review")


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
