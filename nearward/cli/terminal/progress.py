"""Progress of long tasks: a bar on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from nearward.cli.terminal.output import is_quiet

_BAR_FROM = 60  # columns of a terminal; on a narrower one numbers and words have the room


@contextmanager
def show_progress(what: str, total: int, stream: TextIO | None = None) -> Iterator[Callable[..., None]]:
    """Yield a function to call after each step with its description and the number of units done (by default 1).

    With ``--quiet`` it does nothing.

    Parameters
    ----------
    what : str
    total : int, units of work
    stream : text stream, optional
        Standard error by default.
    """
    stream = stream or sys.stderr
    if is_quiet():
        yield lambda words="", done=1: None
        return
    if stream.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        console = Console(file=stream)
        narrow = console.width < _BAR_FROM
        words_column = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True) if narrow else None)
        columns = (words_column, *(() if narrow else (BarColumn(),)), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, expand=narrow) as bar:
            task = bar.add_task(what, total=total)
            yield lambda words="", done=1: bar.update(task, advance=done, description=f"{what}: {words}" if words else what)
        return
    started, count = time.monotonic(), 0

    def line(words: str = "", done: int = 1) -> None:
        nonlocal count
        count += done
        record = {"what": what, "step": words, "done": count, "of": total, "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps({key: value for key, value in record.items() if value != ""}), file=stream, flush=True)

    yield line
