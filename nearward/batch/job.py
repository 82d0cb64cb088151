"""A job from beginning to end: open the ledger, enter the tables, work through what is not done, tell what came of it."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearward.batch.job_store import JobStore, Options, open_job_store
from nearward.batch.local_engine import Engine, Local, Outcome
from nearward.batch.meds import MOMENT, SUBJECT
from nearward.batch.memory import Budget, plan_memory, resident
from nearward.batch.sharding import Shard, Source, find_tables, fingerprint, header
from nearward.batch.summary import write_summary
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.persistence.artifact import model_hash, read_manifest

_TRIES = 2  # of a shard whose worker dies
_HOPELESS = 6  # deaths before anything was scored: it is not the shard
_PASSES = 3  # over shards whose hash does not hold, because another job wrote between output and sidecar

Tick = Callable[..., None]


@dataclass(frozen=True)
class Task:
    """What a user asks for.

    Parameters
    ----------
    model : path of the model's folder
    tables : paths of Parquet files, or of folders of them
    out : path of the folder for the scores
    schema : "plain" or "meds"
    labels : path, optional
        MEDS labels: a Parquet file or a folder of them; ``tables`` then hold the features.
    threshold : float, optional
        Risk from which on a row counts as flagged; by default the event rate that the model expects.
    workers : int, optional
        One a core by default.
    max_memory : float, bytes, optional
        Of all processes together.
    shard_rows : int, optional
    engine : "local" or "ray"
    address : str, optional
        Of a Ray cluster.
    restart : bool
        Void what is there, and score anew.
    """

    model: Path
    tables: tuple[Path, ...]
    out: Path
    schema: str = "plain"
    labels: Path | None = None
    threshold: float | None = None
    workers: int | None = None
    max_memory: float | None = None
    shard_rows: int | None = None
    engine: str = "local"
    address: str | None = None
    restart: bool = False


@dataclass
class Report:
    """What became of a job.

    Parameters
    ----------
    shards, rows : int, planned
    done : int, shards done
    scored : int, rows scored in this run
    failed : (shard or table, why) of what could not be scored
    stopped : str
        Why the job gave up early; empty where it did not.
    seconds : float
    workers : int, processes
    threads : int, of each
    resident : float, bytes held at most: this process and the workers together
    summary : dict, see ``summary.py``
    """

    shards: int = 0
    rows: int = 0
    done: int = 0
    scored: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0
    workers: int = 0
    threads: int = 0
    resident: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every row of every table is scored."""
        return not self.failed and not self.stopped and self.done == self.shards


def options_of(task: Task) -> tuple[Options, list[Source]]:
    """Read off the model what the job needs, and find the tables.

    Raises
    ------
    ArtefactError
        Not a model.
    InputError
        Arguments that do not go together, or nothing to score.
    """
    if task.schema not in ("plain", "meds"):
        raise InputError(f"--schema must be plain or meds, got {task.schema}")
    if task.engine not in ("local", "ray"):
        raise InputError(f"--engine must be local or ray, got {task.engine}")
    if task.labels and task.schema != "meds":
        raise InputError("--labels are MEDS labels: add --schema meds")
    if task.threshold is not None and not 0 <= task.threshold <= 1:
        raise InputError(f"--threshold is a risk from 0 to 1, got {task.threshold}")
    digest, manifest = model_hash(task.model), read_manifest(task.model)
    _refuse_own_output(task)
    tables = find_tables(task.tables)
    sources = find_tables([task.labels]) if task.labels else tables
    schema = Schema.from_json(json.dumps(manifest["schema"]))
    reads = schema.named("feature", "expert")
    known_as = _id_column(schema, sources) if task.schema == "plain" else None
    keys = (SUBJECT, MOMENT) if task.schema == "meds" else ()
    needs = [*keys, *(() if task.labels else reads), *([known_as] if known_as else [])]
    trained = manifest["summary"]["events"] / manifest["summary"]["rows"]
    threshold = task.threshold if task.threshold is not None else manifest["config"]["prevalence"] or trained
    features = tuple((str(table.path), *fingerprint(table.path)) for table in tables) if task.labels else ()
    return Options(digest, task.schema, float(threshold), tuple(dict.fromkeys(needs)), reads, known_as, features), sources


def budget_of(task: Task, options: Options, shard_rows: int | None = None) -> Budget:
    """Choose workers and rows a shard."""
    return plan_memory(task.model, len(options.reads), task.workers, task.max_memory, shard_rows or task.shard_rows)


def run_job(task: Task, progress: Callable[[int], Any] | None = None) -> Report:
    """Score what is not scored yet.

    Parameters
    ----------
    task : Task
    progress : callable, optional
        Given the number of rows, returns a context whose value is called with ``words`` and ``done=rows`` (see ``nearward.cli.progress``).

    Raises
    ------
    ArtefactError
        The model cannot be used, or was replaced while the job ran.
    InputError
        Arguments, or a folder that holds something else or another job.
    OSError
        The folder cannot be written.
    """
    began = time.monotonic()
    options, sources = options_of(task)
    ledger = open_job_store(task.out, options, budget_of(task, options).shard_rows, task.restart)
    budget = budget_of(task, options, ledger.shard_rows)
    ledger.tidy()
    ledger.enter(sources)
    shards = ledger.shards()
    report = Report(len(shards), sum(shard.rows for shard in shards), workers=budget.workers, threads=budget.threads)
    pending = [shard for shard in shards if not ledger.done(shard)]
    with nullcontext(_silent) if progress is None else progress(report.rows) as tick:
        there = report.rows - sum(shard.rows for shard in pending)
        if there:
            tick("already there", done=there)
        failed = _work(task, ledger, pending, budget, report, tick) if pending else {}
    ledger.tidy()
    tables = ledger.tables()
    held = [(shard, ledger.done(shard)) for shard in shards]
    report.done = sum(sidecar is not None for _, sidecar in held)
    report.failed = [(table["name"], table["error"]) for table in tables if "error" in table]
    for shard, sidecar in held:
        if sidecar is None:
            why = failed.get(shard) or report.stopped or "another job has begun this folder anew"
            report.failed.append(
                (f"{shard.name} ({tables[shard.file]['name']}, rows {shard.offset} to {shard.offset + shard.rows - 1})", why)
            )
    report.summary = write_summary(ledger, [sidecar for _, sidecar in held if sidecar], task.model, report.failed, keep=not report.stopped)
    report.seconds = time.monotonic() - began
    return report


def _work(task: Task, ledger: JobStore, pending: list[Shard], budget: Budget, report: Report, tick: Tick) -> dict[Shard, str]:
    """Work through shards; return why some failed."""
    engine: Engine
    if task.engine == "ray":
        from nearward.batch.ray_engine import OnRay

        engine = OnRay(task.model, task.out, budget.workers, task.address, budget.threads)
    else:
        engine = Local(task.model, task.out, budget.workers, budget.threads)
    crew = Crew(ledger, engine, report, tick)
    try:
        for _ in range(_PASSES):
            crew.work_through([shard for shard in pending if shard not in crew.failed and not ledger.done(shard)])
            if report.stopped:
                break
    finally:
        engine.close()
    report.resident = resident() + sum(sorted(crew.held.values())[-budget.workers :])
    return crew.failed


class Crew:
    """Hands shards to an engine and hears what became of them.

    Parameters
    ----------
    ledger : Ledger
    engine : Engine
    report : Report, filled in place
    tick : callable
    """

    def __init__(self, ledger: JobStore, engine: Engine, report: Report, tick: Tick) -> None:
        self._ledger, self._engine, self._report, self._tick = ledger, engine, report, tick
        self._deaths: Counter[Shard] = Counter()
        self.failed: dict[Shard, str] = {}
        self.held: dict[int, float] = {}

    def work_through(self, shards: Sequence[Shard]) -> None:
        """Have shards scored: those that nobody has begun first, those that another job is at last. Nobody is waited for."""
        fresh, late = deque(shards), deque[Shard]()
        while not self._report.stopped:
            while (fresh or late) and self._engine.room():
                shard = fresh[0] if fresh else late[0]
                if self._ledger.done(shard):  # by another job, meanwhile
                    self._tick(shard.name, done=shard.rows)
                elif fresh and not self._ledger.claim(shard):
                    late.append(shard)
                else:
                    self._engine.give(shard)
                (fresh or late).popleft()
            heard = self._engine.wait()
            if not heard:
                return
            for outcome in heard:
                if self._again(outcome):
                    late.append(outcome.shard)

    def _again(self, outcome: Outcome) -> bool:
        """Take note of an outcome; tell whether the shard must be tried again."""
        shard, told = outcome.shard, outcome.told
        if told is None:
            self._deaths[shard] += 1
            if self._deaths.total() >= _HOPELESS and not self.held:
                self._report.stopped = f"workers die before they have scored anything: {outcome.how}"
                self._ledger.release(shard)
                return False
            if self._deaths[shard] < _TRIES:
                return True
            told = {"error": f"its worker died {_TRIES} times: {outcome.how}", "kind": "died"}
            self._ledger.fail(shard, told["error"])
        self._ledger.release(shard)
        if "pid" in told:
            self.held[told["pid"]] = told["resident"]
        kind = told.get("kind")
        if kind == "model":
            raise ArtifactError(told["error"])
        if kind == "setup":
            raise InputError(told["error"])
        if kind == "disk":
            self._report.stopped = f"the output cannot be written: {told['error']}"
        elif kind:
            self.failed[shard] = told["error"]
        else:
            self._report.scored += shard.rows
        self._tick(shard.name, done=shard.rows)
        return False


def _silent(words: str = "", done: int = 1) -> None:
    """Progress that nobody watches."""


def _refuse_own_output(task: Task) -> None:
    for given in (*task.tables, *([task.labels] if task.labels else [])):
        if not given.exists():
            raise InputError(f"{given}: no such file or folder")
        if given.is_dir() and task.out.resolve().is_relative_to(given.resolve()):
            raise InputError(f"--out {task.out} lies in {given}: the next run would score its own scores. Choose a folder beside it")


def _id_column(schema: Schema, sources: Sequence[Source]) -> str | None:
    """Return the id column if the archive has it: the first table that can be read decides, and the others must agree."""
    for name in schema.named("id"):
        for source in sources:
            try:
                return name if name in header(source.path)[1] else None
            except InputError:  # the ledger will say so of this table
                continue
    return None
