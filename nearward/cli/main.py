"""The console entry ``nearward``.

Exit codes: 0 success; 2 invalid input or arguments; 3 an unusable model, or a synthetic table that is refused; 4 a synthetic table that did
not pass, a scoring job with unscored rows, or a drift that ``watch --fail-on`` names.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from nearward.cli.adapt import adapt, extend, forget
from nearward.cli.card import card
from nearward.cli.doctor import doctor
from nearward.cli.evaluate import app as evaluate_app
from nearward.cli.events import app as events_app
from nearward.cli.explain import explain, sheet, similar
from nearward.cli.fit import fit
from nearward.cli.inspect import inspect, schema
from nearward.cli.scoring.score import score
from nearward.cli.scoring.watch import watch
from nearward.cli.screen import screen
from nearward.cli.synth import app as synth_app
from nearward.cli.terminal.console import App, Seed
from nearward.cli.transport import transport

app = App(
    help="""Calibrated risks of rare outcomes from tables, explained by similar patients.

    \b
    Begin with:
      nearward demo                 what it does, in two minutes
      nearward schema cohort.csv    what it takes your columns for
      nearward fit -h               the help of a command, with examples

    \b
    Exit codes:
      0  done
      2  an input or an option that you can correct
      3  an unusable model, or a synthetic table that may not leave
      4  a card that was not passed, a job that left rows unscored,
         or a drift that watch --fail-on names
    """
)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(events_app, name="events")
app.add_typer(synth_app, name="synth")


def _show_version(requested: bool) -> None:
    if requested:
        from nearward import __version__

        typer.echo(f"nearward {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)] = False,
) -> None: ...


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="Table of your own cohort.", show_default=False, metavar="FILE")] = None,
    sidecar: Annotated[
        Path | None,
        typer.Option(
            help="Its JSON file with target and positive; by default the table's path with .json.", show_default=False, metavar="FILE"
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="One of the JSON file's extra targets.", show_default=False, metavar="NAME")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.", metavar="FOLDER")] = Path("nearward-demo"),
    seed: Seed = 0,
) -> None:
    """Show what nearward does, in two minutes.

    Fit, compare, explain, report, score and synthesize: on a made-up ward with known risks and on real biopsies, or on your cohort.

    \b
    Examples:
      nearward demo
      nearward demo --data cohort.parquet --sidecar cohort.json
    """
    from nearward.cli.demo import run

    run(data, sidecar, task, seed, out)


for command in (
    schema, fit, screen, transport, score, watch, similar, explain, sheet, adapt, extend, forget, inspect, card, doctor
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Run the command line; an error of nearward becomes one line and an exit code."""
    from nearward.tabular.errors import ArtifactError, DataWarning, NearwardError

    def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        typer.echo(f"{'note' if issubclass(category, DataWarning) else category.__name__}: {message}", err=True)

    warnings.showwarning = show_warning
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character gets "?" for it, not an error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
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
