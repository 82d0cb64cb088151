"""``nearward transport``: judges a model at sites, or after dates, that it was not fitted on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.evaluate import show_sites, write_reports
from nearward.cli.terminal.console import (
    Drop,
    Events,
    Group,
    Json,
    Missing,
    Outcome,
    Report,
    Resamples,
    SchemaFile,
    Seed,
    TableFile,
    Threshold,
    as_event,
    read_schema,
    split_names,
)
from nearward.cli.terminal.output import say, write_rows
from nearward.cli.terminal.progress import show_progress

if TYPE_CHECKING:
    from nearward.tabular.data.schema import Schema


class Model(StrEnum):
    """Models that the command fits."""

    NEARWARD = "nearward"
    LOGISTIC = "logistic"


def transport(
    cohort: TableFile,
    outcome: Outcome,
    site: Annotated[
        str | None, typer.Option(help="Column of the sites; each is left out once.", show_default=False, metavar="COLUMN")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Column of dates or times: fitted before --cut, judged after.", show_default=False, metavar="COLUMN"),
    ] = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(help="Date to split at, such as 2024-03-01; may be repeated.", show_default=False, metavar="DATE"),
    ] = None,
    group: Group = None,
    positive: Events = None,
    drop: Drop = None,
    model: Annotated[Model, typer.Option(help="Model to fit: nearward's own, or a logistic regression, in seconds.")] = Model.NEARWARD,
    report: Report = None,
    json: Json = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Table to write: the rows with their risks, for evaluate risk.", show_default=False, metavar="FILE"),
    ] = None,
    threshold: Threshold = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Judge a model at sites that it was not fitted on.

    Leaves one site out, fits on the others and judges there (internal-external validation); or fits before a date and judges after it.

    \b
    Examples:
      nearward transport cohort.parquet --outcome died --site hospital \\
        --report transport.html
      nearward transport cohort.parquet --outcome died --time admitted \\
        --cut 2023-01-01 --model logistic
    """
    import polars as pl

    from nearward.evaluation.transport.report import transport as judge
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError, require_columns

    declared = read_schema(schema, missing)
    frame = read_table(cohort, declared, missing or ())
    dropped = split_names(drop, frame.columns)
    require_columns([outcome, site, time, group, *dropped], frame.columns)
    if out is not None and "risk" in frame.columns:
        raise InputError(f"{out} gets a column 'risk', which {cohort} has already: rename it there")
    column = frame.get_column(outcome)
    if declared is not None:
        ignored = [*dropped, *([time] if time else [])]
        declared = declared.with_roles(outcome=outcome, group=group, site=site, ignore=ignored)
    estimator = _estimator(model, declared, seed)
    fits = (1 if site is None else frame.get_column(site).n_unique()) * max(len(cut or []), 1)
    with show_progress("transport", fits) as progress:
        result = judge(
            estimator,
            frame.drop(outcome, *dropped),
            column,
            site=site,
            time=time,
            cut=cut,
            groups=group,
            positive=as_event(positive, column),
            threshold=threshold,
            resamples=resamples,
            seed=seed,
            verbose=progress,
        )
    facts = result.facts
    say(f"{cohort.name}: {facts.rows} rows of {facts.patients} patients judged, {facts.events} events ({outcome} is {facts.event})")
    show_sites(result.results)
    if result.removed:
        say(f"{result.removed} training rows were left out, over all fits, because their patient was judged")
    write_reports({report: result.to_html, json: result.to_json}, (cohort,))
    if out is not None:
        write_rows(frame.with_columns(risk=pl.Series(result.risks, nan_to_null=True)), out)
        say(f"written to {out}")


def _estimator(model: Model, schema: Schema | None, seed: int) -> Any:
    if model is Model.NEARWARD:
        from nearward.risk_model.classifier import RiskClassifier

        return RiskClassifier(random_state=seed, schema=schema)
    from sklearn.linear_model import LogisticRegression

    from nearward.tabular.ensemble.cross_fitting import EncodedClassifier

    return EncodedClassifier(LogisticRegression(solver="newton-cholesky"), schema)
