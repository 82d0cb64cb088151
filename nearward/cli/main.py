"""The command line: demo, schema, fit, screen, score, watch, similar, inspect, evaluate, synth.

Exit codes: 0 done, 2 the user can mend it, 3 the model is unusable or a synthetic table may not leave, 4 a synthetic
table did not pass, or a scoring job left rows unscored.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from nearward.cli.console import as_value, show, split_names
from nearward.cli.evaluate import app as evaluate_app
from nearward.cli.score import score, watch
from nearward.cli.screen import screen
from nearward.cli.synth import app as synth_app

app = typer.Typer(
    help="Calibrated risks of rare outcomes from tables, explained by similar patients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(synth_app, name="synth")

Table = Annotated[Path, typer.Argument(help="Parquet, CSV or Arrow/Feather file.", show_default=False)]
Model = Annotated[Path, typer.Argument(help="Folder of a fitted model.", show_default=False)]
Names = Annotated[list[str] | None, typer.Option(help="A column, or several with commas; may be repeated.", show_default=False)]


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="A cohort of your own: a table.", show_default=False)] = None,
    schema: Annotated[Path | None, typer.Option(help="Its JSON sidecar; by default beside the table.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="One of the sidecar's extra targets.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and the model.")] = 0,
) -> None:
    """Fit, compare, explain, save and report on real patients; without --data on biopsies that come with scikit-learn."""
    from nearward.cli.demo import run

    run(data, schema, task, seed)


@app.command()
def schema(cohort: Table, out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("schema.json")) -> None:
    """Infer what each column is, show it, and write it down to be edited and handed to fit --schema."""
    from nearward.tabular.data.atomic_files import replacing
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table

    inferred = Schema.infer(read_table(cohort))
    show(inferred.review(), f"{cohort.name}: {len(inferred.columns)} columns")
    with replacing(out) as temporary:
        temporary.write_text(inferred.to_json(), encoding="utf-8")
    typer.echo(f"written to {out}: correct it, then nearward fit --schema {out}")


@app.command()
def fit(
    cohort: Table,
    outcome: Annotated[str, typer.Option(help="Column of the outcome.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    positive: Annotated[str | None, typer.Option(help="Outcome value that is the event.", show_default="the greater of the two")] = None,
    id: Annotated[str | None, typer.Option(help="Column that names the rows.", show_default=False)] = None,
    group: Annotated[str | None, typer.Option(help="Column that names the patients, where patients repeat.", show_default=False)] = None,
    site: Annotated[
        str | None, typer.Option(help="Column of the site or source file: checked for a leak, never a feature.", show_default=False)
    ] = None,
    drop: Names = None,
    expert: Names = None,
    schema: Annotated[Path | None, typer.Option(help="Edited schema (see nearward schema).", show_default=False)] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Of the outcome where the model will be used.", show_default="as trained")
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="In-context model: embedded, tabpfn, tabicl, or none; in use where it ranks better out of fold.")
    ] = "embedded",
    seed: Annotated[int, typer.Option(help="Seed of the model.")] = 0,
) -> None:
    """Fit a risk model on a cohort and keep it in a folder."""
    from nearward.cli.progress import show_progress
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.tabular.data.schema import Column, Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import MissingColumns
    from nearward.tabular.persistence.artifact import check_folder

    frame = read_table(cohort)
    named = [outcome, *filter(None, [id, group, site]), *split_names(drop), *split_names(expert)]
    missing = [name for name in named if name not in frame.columns]
    if missing:
        raise MissingColumns(missing, frame.columns)
    check_folder(out)
    if schema:
        known = Schema.read(schema).with_roles(ignore=split_names(drop))
    else:
        inferred = Schema.infer(frame.drop(split_names(drop)))
        known = Schema((*inferred.columns, *(Column(name, role="ignore") for name in split_names(drop))))
    known = known.with_roles(outcome=outcome, id=id, group=group, site=site, expert=split_names(expert))
    show(known.review(), f"{cohort.name}: {frame.height} rows; check the roles and kinds below")
    event = as_value(positive, frame.get_column(outcome))
    folds = RiskClassifier().folds
    with show_progress("fit", 5 + 2 * folds) as progress:
        asked = None if backbone == "none" else backbone
        model = RiskClassifier(seed=seed, positive=event, schema=known, backbone=asked, prevalence=prevalence, progress=progress)
        model.fit(frame, frame.get_column(outcome), groups=frame.get_column(group) if group else None)
    model.save(out)
    told = model.summary_["out_of_fold"]
    if len(model.classes_) > 2:
        show(_by_class(model.classes_, told["classes"]), "out of fold, each class against the rest")
        typer.echo(f"{model.summary_['rows']} rows, {len(model.classes_)} classes. Model in {out}: it contains patient records.")
        return
    typer.echo(
        f"{model.summary_['rows']} rows, {model.summary_['events']} events; out of fold: AUPRC {told['auprc']:.3f} "
        f"(prevalence {model.summary_['events'] / model.summary_['rows']:.3f}), AUROC {told['auroc']:.3f}. "
        f"Model in {out}: it contains patient records."
    )


app.command()(screen)
app.command()(score)
app.command()(watch)


@app.command()
def similar(
    model: Model,
    table: Table,
    row: Annotated[int, typer.Option(help="Row of the table, from 0.")] = 0,
    k: Annotated[int, typer.Option("-k", help="How many patients to show.")] = 10,
) -> None:
    """Show the patients whose vote a row's is: weights, outcomes, what makes them similar, and the features that differ."""
    from nearward.risk_model.classifier import load
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    fitted, frame = load(model), read_table(table)
    if not 0 <= row < frame.height:
        raise InputError(f"row {row} is not in {table}: it has rows 0 to {frame.height - 1}")
    asked = frame[row : row + 1]
    scores = fitted.predict_frame(asked).row(0, named=True)
    if len(fitted.classes_) > 2:
        shares = ", ".join(f"{name} {scores[f'risk: {name}']:.3f} (vote {scores[f'vote: {name}']:.3f})" for name in fitted.classes_)
        typer.echo(f"row {row}: {shares}; {scores['n_similar']} similar patients are near; novelty {scores['novelty']:.2f}")
    else:
        typer.echo(
            f"row {row}: risk {scores['risk']:.3f} ({scores['low']:.3f} to {scores['high']:.3f}); similar patients vote "
            f"{scores['vote']:.3f}; {scores['n_similar']} are near; novelty {scores['novelty']:.2f}"
        )
    gate = ", ".join(f"{name} {share:.0%}" for name, share in fitted.gate(asked).head(6).iter_rows())
    typer.echo(f"what makes patients similar to this one: {gate}")
    found = fitted.similar(asked, k=k)
    show(found.drop(found.columns[0]), "the weightiest of its similar patients")


@app.command()
def inspect(model: Model) -> None:
    """Tell what a model is: whether it holds patient records, what it was trained on, how each member ranked."""
    import polars as pl

    from nearward.risk_model.classifier import load
    from nearward.tabular.persistence.artifact import read_manifest

    manifest = read_manifest(model)
    size = sum(file["size"] for file in manifest["files"].values())
    typer.echo(f"contains patient records: {'yes' if manifest['contains_records'] else 'no'}")
    if "kind" in manifest:
        typer.echo(f"a {manifest['kind']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB")
        return
    told, found = manifest["summary"], manifest["summary"]["out_of_fold"]
    counted = f"{len(found['classes'])} classes" if "classes" in found else f"{told['events']} events"
    typer.echo(
        f"nearward {manifest['package_version']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB; "
        f"{told['rows']} rows of {told['patients']} patients, {counted}; retrieval: {told['retrieval']}, {told['context']}"
    )
    typer.echo(_in_context(told["backbone"]))
    if "classes" in found:
        show(_by_class(manifest["classes"], found["classes"]), "out of fold, each class against the rest; below, means over the classes")
    members = pl.DataFrame([{"member": name, **facts} for name, facts in found["members"].items()]).sort("weight", descending=True)
    show(members, f"members of the stack, out of fold (stack: AUPRC {found['auprc']:.3f}, AUROC {found['auroc']:.3f})")
    fitted = load(model)
    show(fitted.gate().head(15), "what made patients similar: share of the encoders' gate")
    show(fitted.schema_.review(), "schema")


def main() -> None:
    """Run the command line; an error that nearward raises on purpose becomes one line and an exit code."""
    from nearward.tabular.errors import ArtifactError, DataWarning, NearwardError

    def tell(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        typer.echo(f"{'note' if issubclass(category, DataWarning) else category.__name__}: {message}", err=True)

    warnings.showwarning = tell
    try:
        app()
    except ArtifactError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(3)
    except (NearwardError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _in_context(told: dict[str, Any]) -> str:
    """Tell whether the in-context model is in use, why, and what became of its adapter."""
    words = f"in-context model: {told['name']} " if "name" in told else "in-context model: "
    words += f"{'in use' if told['in_use'] else 'not in use'} ({told['why']}"
    if "auprc" in told:
        words += f": AUPRC {told['auprc_together']:.4f} with it, {told['auprc_panel_alone']:.4f} without; alone {told['auprc']:.4f}"
    adapter = told.get("adapter")
    return words + ")" + (f"; adapter {'kept' if adapter['kept'] else 'not kept'} ({adapter['why']})" if adapter else "")


def _by_class(classes: Any, told: list[dict[str, Any]]) -> Any:
    import polars as pl

    return pl.DataFrame([{"class": str(name), **one} for name, one in zip(classes, told, strict=True)])


if __name__ == "__main__":
    main()
