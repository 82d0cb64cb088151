"""A dry run: rows, shards, memory and time of a job before anything is written, estimated from a few rows scored by a real worker."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nearward.batch.engine import WorkerReply
from nearward.batch.job import plan
from nearward.batch.job_store import JobStore, has_job, open_job_store
from nearward.batch.local_engine import LocalEngine
from nearward.batch.options import ScoringJob, read_options
from nearward.batch.sharding import Shard
from nearward.tabular.errors import ArtifactError, InputError

_WARM_UP, _TIMED = 64, 2_048  # rows: the first load the model and the libraries


@dataclass(frozen=True)
class DryRun:
    """The expected course of a job.

    Parameters
    ----------
    rows : (quantity, expected value) to print
    unreadable : (table, why)
    """

    rows: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]


def dry_run(job: ScoringJob) -> DryRun:
    """Plan a job in a temporary folder, score a few rows there, and extrapolate.

    Raises
    ------
    ArtifactError, InputError
        As the job itself would.
    """
    options, sources = read_options(job)
    existing = JobStore(job.out) if has_job(job.out) and not job.restart else None
    resources = plan(job, options, existing.shard_rows if existing else None)
    with tempfile.TemporaryDirectory(prefix="nearward-") as folder:
        store = open_job_store(Path(folder), options, resources.shard_rows)
        store.add_tables(sources)
        tables, shards = store.tables(), store.shards()
        unreadable = [(table.name, table.error) for table in tables if table.error is not None]
        timed = min(_TIMED, tables[shards[0].file].rows) if shards else 0
        rate, worker_memory = _measure(job, store, shards[0].file, timed, resources.threads) if shards else (0.0, 0.0)
    done = 0 if existing is None else sum(shard.rows for shard in existing.shards() if existing.is_done(shard))
    rows = sum(shard.rows for shard in shards)
    expected = [
        ("tables", f"{len(tables)}, {len(unreadable)} of them unreadable"),
        ("rows", f"{rows}, {done} of them scored already"),
        ("shards", f"{len(shards)} of up to {resources.shard_rows} rows"),
        ("workers", f"{resources.workers} of {resources.threads} threads" if resources.threads > 1 else str(resources.workers)),
        (
            "memory",
            f"planned for at most {resources.memory / 1e9:.1f} GB; a worker used {_format_memory(worker_memory)} to score {timed} rows",
        ),
    ]
    if rate:
        duration = _format_seconds((rows - done) / (rate * resources.workers))
        expected.append(("time", f"{duration} at {rate:.0f} rows/s per worker, if each has a core to itself"))
    return DryRun(expected, unreadable)


def _measure(job: ScoringJob, store: JobStore, file: int, rows: int, threads: int) -> tuple[float, float]:
    """Return one worker's rows/s and its peak memory in bytes."""
    warm_up, timed = Shard(file, 0, 0, min(_WARM_UP, rows)), Shard(file, 0, 0, rows)
    engine = LocalEngine(job.model, store, 1, threads)
    try:
        _score(engine, warm_up)
        store.output(warm_up).unlink()
        store.sidecar(warm_up).unlink()
        started = time.monotonic()
        reply = _score(engine, timed)
        return timed.rows / (time.monotonic() - started), reply.peak_memory
    finally:
        engine.close()


def _score(engine: LocalEngine, shard: Shard) -> WorkerReply:
    engine.submit(shard)
    reply = engine.wait()[0].reply
    if reply is None:
        raise InputError("a worker died while it scored a few rows: too little memory?")
    if reply.kind == "model":
        raise ArtifactError(reply.error)
    if reply.error is not None:
        raise InputError(f"a few rows were tried and cannot be scored: {reply.error}")
    return reply


def _format_memory(size: float) -> str:
    return "an unknown amount" if math.isnan(size) else f"{size / 1e9:.2f} GB"


def _format_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
