"""The console entry ``nearward``: demo, schema, fit, screen, score, watch, similar, inspect, evaluate, synth.

Exit codes: 0 success; 2 invalid input or arguments; 3 an unusable model, or a synthetic table that is refused; 4 a synthetic table that did
not pass, or a scoring job with unscored rows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.console import (
    Columns,
    Drop,
    Events,
    Group,
    Missing,
    ModelFolder,
    Outcome,
    RowId,
    TableFile,
    as_event,
    read_schema,
    show,
    split_names,
)
from nearward.cli.evaluate import app as evaluate_app
from nearward.cli.score import score, watch
from nearward.cli.screen import screen
from nearward.cli.synth import app as synth_app

if TYPE_CHECKING:
    import polars as pl

    from nearward.risk_model.summary import BackboneSummary, ClassFigures

app = typer.Typer(
    help="Calibrated risks of rare outcomes from tables, explained by similar patients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(synth_app, name="synth")


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="Table of your own cohort.", show_default=False)] = None,
    schema: Annotated[
        Path | None, typer.Option(help="Its JSON sidecar; by default the table's path with the suffix .json.", show_default=False)
    ] = None,
    task: Annotated[str | None, typer.Option(help="One of the sidecar's extra targets.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and the model.")] = 0,
) -> None:
    """Fit, compare, explain, save and report on real patients; without --data on biopsies that come with scikit-learn."""
    from nearward.cli.demo import run

    run(data, schema, task, seed)


@app.command()
def schema(
    cohort: TableFile,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("schema.json"),
    group: Group = None,
    missing: Missing = None,
) -> None:
    """Infer the schema of a table (role and kind of each column), print it, and write it as JSON for fit --schema."""
    from nearward.tabular.data.atomic_files import replacing
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import require_columns

    frame = read_table(cohort, missing=missing or ())
    require_columns([group], frame.columns)
    inferred = Schema.infer(frame, missing or (), frame.get_column(group) if group else None).with_roles(group=group)
    show(inferred.review(), f"{cohort.name}: {len(inferred.columns)} columns")
    with replacing(out) as temporary:
        temporary.write_text(inferred.to_json(), encoding="utf-8")
    typer.echo(f"written to {out}: correct it, then nearward fit --schema {out}")


@app.command()
def fit(
    cohort: TableFile,
    outcome: Outcome,
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    positive: Events = None,
    id: RowId = None,
    group: Group = None,
    site: Annotated[
        str | None,
        typer.Option(help="Column of the site or source file: checked for site leakage, never used as a feature.", show_default=False),
    ] = None,
    drop: Drop = None,
    expert: Columns = None,
    schema: Annotated[Path | None, typer.Option(help="Edited schema (see nearward schema).", show_default=False)] = None,
    missing: Missing = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Prevalence of the outcome where the model will be used.", show_default="as trained")
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="In-context model: embedded, tabpfn, tabicl, or none; used where the out-of-fold AUPRC clearly rises.")
    ] = "embedded",
    seed: Annotated[int, typer.Option(help="Seed of the model.")] = 0,
) -> None:
    """Fit a risk model on a cohort and save it in a folder."""
    from nearward.cli.progress import show_progress
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.tabular.data.schema import Column, Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.data.validation import describe_event
    from nearward.tabular.errors import require_columns
    from nearward.tabular.persistence.artifact import check_folder

    declared = read_schema(schema, missing)
    frame = read_table(cohort, declared, missing or ())
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
    folds = RiskClassifier().folds
    with show_progress("fit", 6 + folds) as progress:
        in_context_model = None if backbone == "none" else backbone
        model = RiskClassifier(
            random_state=seed, positive=event, schema=roles, backbone=in_context_model, prevalence=prevalence, verbose=progress
        )
        model.fit(frame, frame.get_column(outcome), groups=patients)
    model.save(out)
    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    if len(model.classes_) > 2:
        show(_by_class(model.classes_, out_of_fold.classes), "out of fold, each class against the rest")
        typer.echo(f"{summary.rows} rows, {len(model.classes_)} classes. Model in {out}: it contains patient records.")
        return
    typer.echo(
        f"{summary.rows} rows, {summary.events} events ({outcome} is {describe_event(model.event_)}); "
        f"out of fold: AUPRC {out_of_fold.auprc:.3f} "
        f"(prevalence {summary.events / summary.rows:.3f}), AUROC {out_of_fold.auroc:.3f}. "
        f"Model in {out}: it contains patient records."
    )


app.command()(screen)
app.command()(score)
app.command()(watch)


@app.command()
def similar(
    model: ModelFolder,
    table: TableFile,
    row: Annotated[int, typer.Option(help="Row of the table, from 0.")] = 0,
    k: Annotated[int, typer.Option("-k", help="How many patients to show.")] = 10,
) -> None:
    """Explain a row's risk by its similar patients: weights, outcomes, feature importance, and the features that differ."""
    from nearward.risk_model.classifier import load
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    classifier = load(model)
    frame = read_table(table, classifier.schema_)
    if not 0 <= row < frame.height:
        raise InputError(f"row {row} is not in {table}: it has rows 0 to {frame.height - 1}")
    query = frame[row : row + 1]
    scores = classifier.predict_frame(query).row(0, named=True)
    if len(classifier.classes_) > 2:
        shares = ", ".join(f"{name} {scores[f'risk: {name}']:.3f} (vote {scores[f'vote: {name}']:.3f})" for name in classifier.classes_)
        typer.echo(f"row {row}: {shares}; {scores['n_similar']} similar patients are near; novelty {scores['novelty']:.2f}")
    else:
        typer.echo(
            f"row {row}: risk {scores['risk']:.3f} ({scores['low']:.3f} to {scores['high']:.3f}); similar patients vote "
            f"{scores['vote']:.3f}; {scores['n_similar']} are near; novelty {scores['novelty']:.2f}"
        )
    gate = ", ".join(f"{name} {share:.0%}" for name, share in classifier.gate(query).head(6).iter_rows())
    typer.echo(f"what makes patients similar to this one: {gate}")
    patients = classifier.similar(query, k=k)
    show(patients.drop(patients.columns[0]), "its similar patients with the largest weights")


@app.command()
def inspect(model: ModelFolder) -> None:
    """Describe a saved model: patient records, training data, out-of-fold performance of each base learner, schema."""
    from nearward.risk_model.classifier import load
    from nearward.tabular.persistence.artifact import loading, read_manifest

    manifest = read_manifest(model)
    with loading(model):
        _describe_manifest(manifest)
    if "kind" in manifest:
        return
    classifier = load(model)  # last: what precedes needs no backbone and no weights
    show(classifier.gate().head(15), "feature importance for similarity: share of the encoders' gate")
    show(classifier.schema_.review(), "schema")


def main() -> None:
    """Run the command line; an error of nearward becomes one line and an exit code."""
    from nearward.tabular.errors import ArtifactError, DataWarning, NearwardError

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        typer.echo(f"{'note' if issubclass(category, DataWarning) else category.__name__}: {message}", err=True)

    warnings.showwarning = show_warning
    try:
        app()
    except ArtifactError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(3)
    except (NearwardError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _describe_manifest(manifest: Mapping[str, Any]) -> None:
    """Print what a saved model's manifest says."""
    import polars as pl

    from nearward.risk_model.summary import PERSISTED_TYPES, FitSummary
    from nearward.tabular.data.validation import describe_event
    from nearward.tabular.persistence.artifact import unpack

    size = sum(file["size"] for file in manifest["files"].values())
    typer.echo(f"contains patient records: {'yes' if manifest['contains_records'] else 'no'}")
    if "kind" in manifest:
        typer.echo(f"a {manifest['kind']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB")
        return
    summary: FitSummary = unpack(manifest["summary"], {}, PERSISTED_TYPES)
    out_of_fold = summary.out_of_fold
    counts = f"{len(out_of_fold.classes)} classes"
    if not out_of_fold.classes:
        counts = f"{summary.events} events (outcome {describe_event(manifest['event'])})"
    setting = summary.retrieval.setting
    typer.echo(
        f"nearward {manifest['package_version']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB; "
        f"{summary.rows} rows of {summary.patients} patients, {counts}; retrieval: {summary.retrieval}; "
        f"{setting.neighbours} neighbours, class floor {'on' if setting.floor else 'off'}, kernel width {setting.width:g}"
    )
    typer.echo(_describe_backbone(summary.backbone))
    if out_of_fold.classes:
        show(_by_class(manifest["classes"], out_of_fold.classes), "out of fold, each class against the rest; below, means over the classes")
    learners = pl.DataFrame([{"base learner": name, **vars(figures)} for name, figures in out_of_fold.base_learners.items()])
    title = f"base learners of the stack, out of fold (stack: AUPRC {out_of_fold.auprc:.3f}, AUROC {out_of_fold.auroc:.3f})"
    show(learners.sort("weight", descending=True), title)


def _describe_backbone(backbone: BackboneSummary) -> str:
    """Describe whether the in-context model and its adapter are used, and why."""
    name = "" if backbone.name is None else f"{backbone.name} "
    text = f"in-context model: {name}{'in use' if backbone.in_use else 'not in use'} ({backbone.why}"
    if backbone.auprc is not None:
        text += f": AUPRC {backbone.auprc_with:.4f} with it, {backbone.auprc_without:.4f} without; alone {backbone.auprc:.4f}"
    adapter = backbone.adapter
    return text + ")" + (f"; adapter {'in use' if adapter.in_use else 'not in use'} ({adapter.why})" if adapter else "")


def _by_class(classes: Any, figures: Sequence[ClassFigures]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame([{"class": str(name), **vars(one)} for name, one in zip(classes, figures, strict=True)])


if __name__ == "__main__":
    main()
