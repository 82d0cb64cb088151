"""Options of the commands that take long: workers, memory, engine, and the address of a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

Workers = Annotated[
    int | None, typer.Option("--workers", help="Number of worker processes, or of Ray actors and tasks.", show_default="one per core")
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Memory limit: 6GB, 750MB. Of a scoring job for all processes together: fewer workers, smaller shards. Of a fit from Parquet "
        "files: smaller blocks of rows.",
    ),
]
Engine = Annotated[str, typer.Option("--engine", help="local, or ray (pip install 'nearward[distributed]').")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Address of the Ray cluster; auto for this machine's.", show_default="a new cluster"),
]
