"""A dry run: rows, shards, memory and time of a job before anything is written, from a few rows scored by a real worker."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearward.batch.job import Task, budget_of, options_of
from nearward.batch.job_store import JobStore, open_job_store
from nearward.batch.local_engine import Local
from nearward.batch.sharding import Shard, cut
from nearward.tabular.errors import ArtifactError, InputError

_WARM, _PROBE = 64, 2_048  # rows: the first wake the libraries, the second are timed


@dataclass(frozen=True)
class DryRun:
    """What a job would come to.

    Parameters
    ----------
    rows : (what, expected) for a person to read
    unreadable : (table, why)
    """

    rows: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]


def dry_run(task: Task) -> DryRun:
    """Plan a job in a folder of its own, score a few rows there, and tell what the whole would take.

    Raises
    ------
    ArtefactError, InputError
        As the job itself would.
    """
    options, sources = options_of(task)
    held = JobStore(task.out) if (task.out / "ledger" / "job.json").is_file() and not task.restart else None
    budget = budget_of(task, options, held.shard_rows if held else None)
    with tempfile.TemporaryDirectory(prefix="nearward-") as place:
        ledger = open_job_store(Path(place), options, budget.shard_rows)
        ledger.enter(sources)
        tables = ledger.tables()
        readable = [(file, table["rows"]) for file, table in enumerate(tables) if "error" not in table and table["rows"]]
        shards = ledger.shards()
        rate, worker = _probe(task, ledger, budget.threads, *readable[0]) if readable else (0.0, 0.0)
    done = 0 if held is None else sum(shard.rows for shard in held.shards() if held.done(shard))
    rows = sum(shard.rows for shard in shards)
    told = [
        ("tables", f"{len(tables)}, {sum('error' in table for table in tables)} of them unreadable"),
        ("rows", f"{rows}, {done} of them scored already"),
        ("shards", f"{len(shards)} of up to {budget.shard_rows} rows"),
        ("workers", f"{budget.workers} of {budget.threads} threads" if budget.threads > 1 else str(budget.workers)),
        (
            "memory",
            f"planned for at most {budget.expected / 1e9:.1f} GB; a worker held {worker / 1e9:.2f} GB while {_PROBE} rows were tried",
        ),
    ]
    if rate:
        told.append(
            ("time", _words((rows - done) / (rate * budget.workers)) + f" at {rate:.0f} rows/s a worker, if each has a core to itself")
        )
    return DryRun(told, [(table["name"], table["error"]) for table in tables if "error" in table])


def _probe(task: Task, ledger: JobStore, threads: int, file: int, rows: int) -> tuple[float, float]:
    """Return rows/s of one worker, and the bytes it held at most."""
    warm, timed = Shard(file, 0, 0, min(_WARM, rows)), cut(file, min(_PROBE, rows), _PROBE)[0]
    engine = Local(task.model, ledger.out, 1, threads)
    try:
        _tried(engine, warm)
        ledger.output(warm).unlink()
        (ledger.folder / f"{warm.name}.json").unlink()
        began = time.monotonic()
        told = _tried(engine, timed)
        return timed.rows / (time.monotonic() - began), float(told["resident"])
    finally:
        engine.close()


def _tried(engine: Local, shard: Shard) -> dict[str, Any]:
    """Have one shard scored, and return what the worker tells."""
    engine.give(shard)
    told = engine.wait()[0].told
    if told is None:
        raise InputError("a worker died while a few rows were tried: too little memory?")
    if told.get("kind") == "model":
        raise ArtifactError(told["error"])
    if "kind" in told:
        raise InputError(f"a few rows were tried, and cannot be scored: {told['error']}")
    return told


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
