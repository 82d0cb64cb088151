"""``nearward fit``: fits a risk model on a cohort, or on events with labels, and saves it in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import (
    Category,
    Drop,
    EventColumns,
    Events,
    Experts,
    FolderOut,
    Group,
    Json,
    MedsLabels,
    Missing,
    Outcome,
    RowId,
    SchemaFile,
    Seed,
    Site,
    as_categories,
    as_event,
    read_columns,
    read_missing_numbers,
    read_schema,
    split_names,
    spool,
)
from nearward.cli.terminal.output import STANDARD, say, show, show_classes, write_json
from nearward.cli.terminal.resources import Address, Engine, MaxMemory, Workers

if TYPE_CHECKING:
    from nearward.risk_model.classifier import RiskClassifier

_SAMPLED = 1_000  # rows of an archive in which numbers that look like codes are looked for


def fit(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="Parquet, CSV, Arrow, Excel, SPSS, Stata or SAS file; several Parquet files, or folders or patterns of them; - reads "
            "standard input.",
            show_default=False,
            metavar="TABLE...",
        ),
    ],
    out: FolderOut,
    outcome: Outcome = "",
    labels: MedsLabels = None,
    columns: EventColumns = None,
    positive: Events = None,
    id: RowId = None,
    group: Group = None,
    site: Site = None,
    drop: Drop = None,
    category: Category = None,
    expert: Experts = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    spans: Annotated[
        str | None,
        typer.Option(help="Of events: spans of time before a moment, with commas; all: everything before.", show_default="6h,24h,all"),
    ] = None,
    max_columns: Annotated[
        int | None, typer.Option(help="Of events: at most so many columns of codes, the most frequent codes first.", show_default="1000")
    ] = None,
    min_subjects: Annotated[
        int | None, typer.Option(help="Of events: codes of fewer subjects have no columns of their own.", show_default="50")
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Prevalence of the outcome where the model will be used.", show_default="as trained")
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="In-context model: embedded, tabpfn, tabicl, or none; used where the out-of-fold AUPRC clearly rises.", metavar="NAME"
        ),
    ] = "embedded",
    effort: Annotated[
        str, typer.Option(help="Time to spend: fast (half of it), default, or thorough (repeats where rows are few).", metavar="NAME")
    ] = "default",
    max_memory: MaxMemory = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Fit a risk model and save it in a folder.

    On a table with an --outcome; or on time-stamped events (a MEDS folder or a file of events) with the moments of prediction in --labels.

    Of several Parquet files, of many rows, or with --max-memory, no more than a block of rows is in memory at a time. Beyond about 100,000
    rows the model learns from the events and a weighted sample of the others, and indexes all. The same command goes on after a kill.

    \b
    Examples:
      nearward fit cohort.parquet --outcome died --group patient --out model/
      nearward fit cohort.csv --outcome readmitted --positive '<30' \\
        --category admission_type_id --missing usual --out model/
      nearward fit archive/*.parquet --outcome died --group patient \\
        --max-memory 6GB --out model/
      nearward fit events/ --labels labels.parquet --out model/
      nearward fit events/ --labels labels.parquet --missing Height=-1 \\
        --out model/
    """
    from nearward.tabular.errors import InputError
    from nearward.tabular.parallel import engine as parallel_engine

    options: dict[str, Any] = {"random_state": seed, "prevalence": prevalence, "effort": effort}
    options["backbone"] = None if backbone == "none" else backbone
    cluster: dict[str, Any] = {"name": engine, "address": address, "workers": workers}
    if labels is not None:
        of_tables = {
            "--outcome": outcome, "--positive": positive, "--id": id, "--group": group, "--site": site, "--drop": drop,
            "--category": category, "--expert": expert, "--schema": schema, "--max-memory": max_memory,
        }  # fmt: skip
        if given := [name for name, value in of_tables.items() if value]:
            raise InputError(f"only for tables: {', '.join(given)}. With --labels the outcome is boolean_value, and the group subject_id")
        if len(tables) > 1:
            raise InputError(f"events are one MEDS folder or one file, got {len(tables)}")
        read_spans = None if spans is None else [None if span.strip() == "all" else span.strip() for span in spans.split(",")]
        chosen = {"spans": read_spans, "max_columns": max_columns, "min_subjects": min_subjects}
        feature_options = {
            "missing": read_missing_numbers(missing),
            "seed": seed,
            **{name: value for name, value in chosen.items() if value is not None},
        }
        with parallel_engine(**cluster):
            _fit_events(spool(tables[0]), labels, read_columns(columns), feature_options, out, options, json)
        return
    if not outcome:
        raise InputError("--outcome must name the outcome's column of a table; of events, --labels must name a file of moments")
    of_events = {"--columns": columns, "--spans": spans, "--max-columns": max_columns, "--min-subjects": min_subjects}
    if given := [name for name, value in of_events.items() if value is not None]:
        raise InputError(f"only for events, with --labels: {', '.join(given)}")
    roles = _Roles(outcome, positive, id, group, site, drop, category, expert, schema, missing or [])
    if STANDARD in tables and (len(tables) > 1 or max_memory):
        raise InputError("- (standard input) is one table, and is read at once: give Parquet files")
    if max_memory or len(tables) > 1 or _has_many_rows(tables[0], effort):
        model = _fit_archive(
            tables, out, roles, options, {"max_memory": max_memory, "engine": engine, "address": address, "workers": workers}
        )
    else:
        with parallel_engine(**cluster):
            model = _fit_table(spool(tables[0]), out, roles, options)
    _report(model, outcome, out, json)


@dataclass(frozen=True)
class _Roles:
    """The options that say what the columns are, as they were given."""

    outcome: str
    positive: list[str] | None
    id: str | None
    group: str | None
    site: str | None
    drop: list[str] | None
    category: list[str] | None
    expert: list[str] | None
    schema: Path | None
    missing: list[str]


def _has_many_rows(table: Path, effort: str) -> bool:
    """Whether a path stands for Parquet files with more rows than teach, by their footers."""
    from nearward.risk_model.effort import find_effort
    from nearward.tabular.archive.files import open_archive

    is_parquet = table.is_dir() or (table.suffix.lower() == ".parquet" and (table.is_file() or "*" in table.name))
    return is_parquet and open_archive(table).rows > find_effort(effort).teaching_rows


def _fit_table(table: Path, out: Path, roles: _Roles, options: dict[str, Any]) -> RiskClassifier:
    """Fit on a table in memory."""
    from nearward.cli.terminal.progress import show_progress
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.risk_model.effort import count_steps
    from nearward.tabular.data.schema import Column, Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import require_columns
    from nearward.tabular.persistence.artifact import check_folder

    declared, outcome = read_schema(roles.schema, roles.missing), roles.outcome
    frame, declared = as_categories(read_table(table, declared, roles.missing), declared, roles.category)
    dropped, experts = split_names(roles.drop, frame.columns), split_names(roles.expert, frame.columns)
    require_columns([outcome, roles.id, roles.group, roles.site, *dropped, *experts], frame.columns)
    check_folder(out)
    patients = frame.get_column(roles.group) if roles.group else None
    if declared:
        schema = declared.with_roles(ignore=dropped)
    else:
        declared_names = [name for name in dict.fromkeys([*dropped, roles.id]) if name]
        inferred = Schema.infer(frame.drop(declared_names), roles.missing, patients)
        schema = Schema((*inferred.columns, *(Column(name, role="ignore") for name in declared_names)))
    schema = schema.with_roles(outcome=outcome, id=roles.id, group=roles.group, site=roles.site, expert=experts)
    show(schema.review(), f"{table.name}: {frame.height} rows; check the roles and kinds below")
    event = as_event(roles.positive, frame.get_column(outcome))
    with show_progress("fit", count_steps(options["effort"], RiskClassifier().folds)) as progress:
        model = RiskClassifier(positive=event, schema=schema, verbose=progress, **options)
        model.fit(frame, frame.get_column(outcome), groups=patients)
    model.save(out)
    return model


def _fit_archive(tables: list[Path], out: Path, roles: _Roles, options: dict[str, Any], resources: dict[str, Any]) -> RiskClassifier:
    """Fit on Parquet files, block by block."""
    from nearward.archive.fit import Roles, count_archive_steps, fit_into_folder
    from nearward.cli.terminal.progress import show_progress
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.tabular.archive.files import open_archive
    from nearward.tabular.archive.inference import sample_rows
    from nearward.tabular.archive.row_keys import distinct_values
    from nearward.tabular.errors import require_columns

    archive = open_archive(tables)
    drop, category, experts = (split_names(names, archive.columns) for names in (roles.drop, roles.category, roles.expert))
    require_columns([roles.outcome, roles.id, roles.group, roles.site, *drop, *category, *experts], archive.columns)
    schema = as_categories(sample_rows(archive, _SAMPLED)[0], read_schema(roles.schema, roles.missing), category)[1]
    event = as_event(roles.positive, distinct_values(archive, roles.outcome)) if roles.positive else None
    model = RiskClassifier(positive=event, schema=schema, experts=experts, **options)
    columns = Roles(roles.outcome, roles.group, roles.id, roles.site, tuple(drop), tuple(category), tuple(roles.missing))
    with show_progress("fit", count_archive_steps(archive, model, resources["max_memory"])) as progress:
        model.fitted_ = fit_into_folder(tables, out, columns, model.set_params(verbose=progress), **resources)
    show(model.schema_.review(), f"{archive.name}: {archive.rows} rows; check the roles and kinds below")
    return model


def _report(model: RiskClassifier, outcome: str, out: Path, json: Path | None) -> None:
    from nearward.tabular.data.validation import describe_event

    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    write_json({"fit": summary, "event": model.event_, "columns": model.schema_.review()}, json)
    if len(model.classes_) > 2:
        show_classes(model.classes_, out_of_fold.classes, "out of fold, each class against the rest")
        say(f"{summary.describe_rows()}; {len(model.classes_)} classes. Model in {out}: it contains patient records.")
        return
    say(
        f"{summary.describe_rows()}; {summary.events} events ({outcome} is {describe_event(model.event_)}); "
        f"out of fold: {out_of_fold.describe('auprc')}, {out_of_fold.describe('auroc')}, prevalence {summary.events / summary.rows:.3f}. "
        f"Model in {out}: it contains patient records."
    )


def _fit_events(
    source: Path,
    labels: Path,
    columns: dict[str, str] | None,
    feature_options: dict[str, Any],
    out: Path,
    options: dict[str, Any],
    json: Path | None,
) -> None:
    import polars as pl

    from nearward.cli.terminal.progress import show_progress
    from nearward.event_model.code_drift import event_rows
    from nearward.event_model.event_risk import EventRisk
    from nearward.event_model.sources import KIND
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.risk_model.effort import count_steps
    from nearward.tabular.events.features import EventFeatures
    from nearward.tabular.persistence.artifact import check_folder

    check_folder(out, KIND)
    with show_progress("fit", count_steps(options["effort"], RiskClassifier().folds)) as progress:
        model = EventRisk(EventFeatures(**feature_options), RiskClassifier(verbose=progress, **options), columns=columns).fit(
            source, labels
        )
    model.save(out)
    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    write_json({"fit": summary, "events": model.counts_, "columns": model.schema_.review()}, json)
    if left_out := event_rows(model.counts_)[1:]:
        show(pl.DataFrame(left_out, ["what", "count"], orient="row"), f"of {model.counts_['events']} events before the labels")
    say(
        f"{summary.rows} labels of {summary.patients} subjects, {summary.events} with the outcome; {model.counts_['events']} events before "
        f"them, {len(model.schema_.columns)} features of {len(model.features_.vocabulary_.columns)} codes; out of fold: "
        f"{out_of_fold.describe('auprc')}, {out_of_fold.describe('auroc')}, prevalence {summary.events / summary.rows:.3f}. "
        f"Model in {out}: it contains patient records."
    )
