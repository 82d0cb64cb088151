"""``nearward fit``: fits a risk model on a cohort, or on events with labels, and saves it in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    TableFile,
    as_categories,
    as_event,
    read_columns,
    read_missing_numbers,
    read_schema,
    split_names,
)
from nearward.cli.terminal.output import say, show, show_classes, write_json


def fit(
    cohort: TableFile,
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
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Fit a risk model and save it in a folder.

    On a table with an --outcome; or on time-stamped events (a MEDS folder or a file of events) with the moments of prediction in --labels.

    \b
    Examples:
      nearward fit cohort.parquet --outcome died --group patient --out model/
      nearward fit cohort.csv --outcome readmitted --positive '<30' \\
        --category admission_type_id --missing usual --out model/
      nearward fit events/ --labels labels.parquet --out model/
      nearward fit events/ --labels labels.parquet --missing Height=-1 --out model/
    """
    from nearward.tabular.errors import InputError

    if labels is not None:
        of_tables = {
            "--outcome": outcome, "--positive": positive, "--id": id, "--group": group, "--site": site, "--drop": drop,
            "--category": category, "--expert": expert, "--schema": schema,
        }  # fmt: skip
        if given := [name for name, value in of_tables.items() if value]:
            raise InputError(f"{', '.join(given)} are for tables: with --labels the outcome is boolean_value, the group subject_id")
        _fit_events(cohort, labels, read_columns(columns), read_missing_numbers(missing), out, prevalence, backbone, effort, seed, json)
        return
    if not outcome:
        raise InputError("--outcome must name the outcome's column of a table; of events, --labels must name a file of moments")
    if columns:
        raise InputError("--columns names columns of events: it needs --labels")
    from nearward.cli.terminal.progress import show_progress
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.risk_model.effort import count_steps
    from nearward.tabular.data.schema import Column, Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.data.validation import describe_event
    from nearward.tabular.errors import require_columns
    from nearward.tabular.persistence.artifact import check_folder

    declared = read_schema(schema, missing)
    frame, declared = as_categories(read_table(cohort, declared, missing or ()), declared, category)
    dropped, experts = split_names(drop, frame.columns), split_names(expert, frame.columns)
    require_columns([outcome, id, group, site, *dropped, *experts], frame.columns)
    check_folder(out)
    patients = frame.get_column(group) if group else None
    if declared:
        roles = declared.with_roles(ignore=dropped)
    else:
        inferred = Schema.infer(frame.drop(dropped), missing or (), patients)
        roles = Schema((*inferred.columns, *(Column(name, role="ignore") for name in dropped)))
    roles = roles.with_roles(outcome=outcome, id=id, group=group, site=site, expert=experts)
    show(roles.review(), f"{cohort.name}: {frame.height} rows; check the roles and kinds below")
    event = as_event(positive, frame.get_column(outcome))
    with show_progress("fit", count_steps(effort, RiskClassifier().folds)) as progress:
        in_context_model = None if backbone == "none" else backbone
        options: dict[str, Any] = {"backbone": in_context_model, "prevalence": prevalence, "effort": effort}
        model = RiskClassifier(random_state=seed, positive=event, schema=roles, verbose=progress, **options)
        model.fit(frame, frame.get_column(outcome), groups=patients)
    model.save(out)
    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    write_json({"fit": summary, "event": model.event_, "columns": roles.review()}, json)
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
    missing: dict[str, list[float]] | None,
    out: Path,
    prevalence: float | None,
    backbone: str,
    effort: str,
    seed: int,
    json: Path | None,
) -> None:
    from nearward.cli.terminal.progress import show_progress
    from nearward.event_model.event_risk import EventRisk
    from nearward.event_model.sources import KIND
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.risk_model.effort import count_steps
    from nearward.tabular.events.features import EventFeatures
    from nearward.tabular.persistence.artifact import check_folder

    check_folder(out, KIND)
    with show_progress("fit", count_steps(effort, RiskClassifier().folds)) as progress:
        options: dict[str, Any] = {"backbone": None if backbone == "none" else backbone, "prevalence": prevalence, "effort": effort}
        classifier = RiskClassifier(random_state=seed, verbose=progress, **options)
        model = EventRisk(EventFeatures(missing=missing, seed=seed), classifier, columns=columns).fit(source, labels)
    model.save(out)
    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    write_json({"fit": summary, "events": model.counts_, "columns": model.schema_.review()}, json)
    say(
        f"{summary.rows} labels of {summary.patients} subjects, {summary.events} with the outcome; {model.counts_['events']} events before "
        f"them, {len(model.schema_.columns)} features of {len(model.features_.vocabulary_.columns)} codes; out of fold: "
        f"{out_of_fold.describe('auprc')}, {out_of_fold.describe('auroc')}, prevalence {summary.events / summary.rows:.3f}. "
        f"Model in {out}: it contains patient records."
    )
