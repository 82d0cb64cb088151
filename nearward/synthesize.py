"""``nearward synth``: synthetic tables, from a cohort to a file that may leave."""

from __future__ import annotations

import typer

from nearward.leaving import check, export

app = typer.Typer(help="Make synthetic tables, and let them leave.", no_args_is_help=True)
app.command()(export)
app.command()(check)
