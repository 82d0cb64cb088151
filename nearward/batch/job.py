"""A scoring job: open the job store, add the tables, score the shards that are not done, summarize the scores."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from nearward.batch.engine import Engine, ShardOutcome
from nearward.batch.job_store import JobStore, open_job_store
from nearward.batch.local_engine import LocalEngine
from nearward.batch.memory import Resources, plan_resources
from nearward.batch.options import ScoringJob, read_options, require_utf8
from nearward.batch.records import JobOptions, TableRecord
from nearward.batch.sharding import Shard
from nearward.batch.summary import SUMMARY, JobSummary, summarize, write_summary
from nearward.tabular.errors import ArtifactError, FolderTakenOver, InputError
from nearward.tabular.operating_system import peak_memory

_ATTEMPTS = 2  # at a shard whose worker dies
_MOST_DEATHS = 6  # of workers before any shard was scored: the cause is not the shard
_PASSES = 3  # over shards whose hash does not match, because another job wrote between output and sidecar

Progress = Callable[..., None]


@dataclass(frozen=True)
class JobReport:
    """The result of one run of a job.

    Parameters
    ----------
    shards, rows : int, planned
    done : int, shards that are done
    scored : int, rows scored in this run
    failed : (shard or table, why) of everything that could not be scored
    stopped : str
        Why the run was aborted; empty where it was not.
    seconds : float
    workers : int, processes
    threads : int, of each process
    peak_memory : float, bytes, this process and the workers together; NaN where the system does not tell
    summary : JobSummary
    """

    shards: int
    rows: int
    done: int
    scored: int
    failed: tuple[tuple[str, str], ...]
    stopped: str
    seconds: float
    workers: int
    threads: int
    peak_memory: float
    summary: JobSummary

    @property
    def complete(self) -> bool:
        """Whether every row of every table is scored."""
        return not self.failed and not self.stopped and self.done == self.shards


def run_job(job: ScoringJob, progress: Callable[[int], Any] | None = None) -> JobReport:
    """Score the rows that are not scored yet.

    Parameters
    ----------
    job : ScoringJob
    progress : callable, optional
        Given the number of rows, returns a context whose value is called with ``words`` and ``done=rows`` (see ``cli.terminal.progress``).

    Raises
    ------
    ArtifactError
        The model cannot be used, or was replaced while the job ran.
    InputError
        Invalid arguments, or an output folder with other files or another job.
    FolderTakenOver
        Another job was begun anew in the output folder; its files are untouched.
    OSError
        The output folder is not writable.
    """
    started = time.monotonic()
    require_utf8(job)
    options, sources = read_options(job)
    store = open_job_store(job.out, options, plan(job, options).shard_rows, job.restart)
    resources = plan(job, options, store.shard_rows)
    if job.restart:
        (job.out / SUMMARY).unlink(missing_ok=True)  # of the scores that are discarded
    store.clean_up()
    store.add_tables(sources)
    tables, shards = store.tables(), store.shards()
    rows = sum(shard.rows for shard in shards)
    pending = [shard for shard in shards if not store.is_done(shard)]
    with nullcontext(_no_progress) if progress is None else progress(rows) as advance:
        done_before = rows - sum(shard.rows for shard in pending)
        if done_before:
            advance("already there", done=done_before)
        scheduler = _run_shards(job, store, pending, resources, advance)
    store.clean_up()
    counts = {shard: shard_counts for shard in shards if (shard_counts := store.counts(shard)) is not None}
    failed = _failures(tables, [shard for shard in shards if shard not in counts], scheduler)
    summary = summarize(store, counts, job.model, failed)
    if not scheduler.stopped:
        write_summary(summary, store)
    return JobReport(
        shards=len(shards),
        rows=rows,
        done=len(counts),
        scored=scheduler.scored,
        failed=failed,
        stopped=scheduler.stopped,
        seconds=time.monotonic() - started,
        workers=resources.workers,
        threads=resources.threads,
        peak_memory=peak_memory() + sum(sorted(scheduler.worker_memory.values())[-resources.workers :]) if pending else 0.0,
        summary=summary,
    )


def plan(job: ScoringJob, options: JobOptions, shard_rows: int | None = None) -> Resources:
    """Choose the number of workers and the rows of a shard; ``shard_rows`` is that of a job which is resumed."""
    rows = shard_rows or job.shard_rows
    of_job = {"events": bool(options.events), "divided": bool(job.index_actors)}
    return plan_resources(job.model, len(options.reads), job.workers, job.max_memory, rows, **of_job)


class ShardScheduler:
    """Submits shards to an engine, retries those whose worker died, and records why shards fail.

    Parameters
    ----------
    store : JobStore
    progress : callable

    Attributes
    ----------
    scored : int, rows
    failed : dict, why each failed shard failed
    stopped : str, why the run must be aborted; empty where it need not
    worker_memory : dict, peak bytes by process id
    """

    def __init__(self, store: JobStore, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._deaths: Counter[Shard] = Counter()
        self.scored = 0
        self.failed: dict[Shard, str] = {}
        self.stopped = ""
        self.worker_memory: dict[int, float] = {}

    def run(self, engine: Engine, shards: Sequence[Shard]) -> None:
        """Score shards, those that another job has claimed last; no claim is waited for."""
        unclaimed, last = deque(shards), deque[Shard]()
        while not self.stopped:
            while (unclaimed or last) and engine.free_workers():
                is_last = not unclaimed
                shard = (unclaimed or last).popleft()
                if self._store.is_done(shard):  # by another job, meanwhile
                    self._progress(shard.name, done=shard.rows)
                elif is_last or self._store.claim(shard):
                    engine.submit(shard)
                else:
                    last.append(shard)
            outcomes = engine.wait()
            if not outcomes:
                return
            last.extend(outcome.shard for outcome in outcomes if not self._finish(outcome))

    def _finish(self, outcome: ShardOutcome) -> bool:
        """Record the end of an attempt at a shard; return whether it was the last attempt."""
        shard, reply = outcome.shard, outcome.reply
        if reply is None:
            self._deaths[shard] += 1
            if self._deaths.total() >= _MOST_DEATHS and not self.worker_memory:
                self.stopped = f"workers die before they have scored any shard: {outcome.cause}"
                self._store.release(shard)
                return True
            if self._deaths[shard] < _ATTEMPTS:
                return False
            self.failed[shard] = f"its worker died {_ATTEMPTS} times: {outcome.cause}"
            self._store.save_error(shard, self.failed[shard])
            self._store.release(shard)
        else:
            self._store.release(shard)
            self.worker_memory[reply.pid] = reply.peak_memory
            if reply.kind == "model":
                raise ArtifactError(reply.error)
            if reply.kind == "setup":
                raise InputError(reply.error)
            if reply.kind == "taken over":
                raise FolderTakenOver(self._store.out)
            if reply.kind == "disk":
                self.stopped = f"the output cannot be written: {reply.error}"
            elif reply.error is not None:
                self.failed[shard] = reply.error
            else:
                self.scored += shard.rows
        self._progress(shard.name, done=shard.rows)
        return True


def _run_shards(job: ScoringJob, store: JobStore, pending: Sequence[Shard], resources: Resources, progress: Progress) -> ShardScheduler:
    scheduler = ShardScheduler(store, progress)
    if not pending:
        return scheduler
    engine: Engine
    if job.engine == "ray":
        from nearward.batch.ray_engine import RayEngine

        engine = RayEngine(job.model, store, resources.workers, job.address, resources.threads, job.shard_seconds, job.index_actors)
    else:
        engine = LocalEngine(job.model, store, resources.workers, resources.threads, job.shard_seconds)
    try:
        for _ in range(_PASSES):
            scheduler.run(engine, [shard for shard in pending if shard not in scheduler.failed and not store.is_done(shard)])
            if scheduler.stopped:
                break
    finally:
        engine.close()
    return scheduler


def _failures(tables: Sequence[TableRecord], missing: Sequence[Shard], scheduler: ShardScheduler) -> tuple[tuple[str, str], ...]:
    """Return (table, why) of unreadable tables, then (shard, why) of shards without a result."""
    failures = [(table.name, table.error) for table in tables if table.error is not None]
    for shard in missing:
        why = scheduler.failed.get(shard) or scheduler.stopped or "another job writes into this folder at the same time: run again"
        last_row = shard.offset + shard.rows - 1
        failures.append((f"{shard.name} ({tables[shard.file].name}, rows {shard.offset} to {last_row})", why))
    return tuple(failures)


def _no_progress(words: str = "", done: int = 1) -> None:
    pass
