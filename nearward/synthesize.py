"""``nearward synth``: what leaves, and what its stamp says."""

from __future__ import annotations

import typer

from nearward.leaving import check

app = typer.Typer(help="Look at synthetic tables that have left.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Look at synthetic tables that have left."""


app.command()(check)
