"""The console entry ``nearward``: demo, schema, fit, screen, score, watch, similar, inspect, evaluate, synth.

Exit codes: 0 success; 2 invalid input or arguments; 3 an unusable model, or a synthetic table that is refused; 4 a synthetic table that did
not pass, or a scoring job with unscored rows.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from nearward.cli.console import Group, Missing, ModelFolder, TableFile, show
from nearward.cli.evaluate import app as evaluate_app
from nearward.cli.fit import fit
from nearward.cli.inspect import inspect
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


app.command()(fit)
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


app.command()(inspect)


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


if __name__ == "__main__":
    main()
