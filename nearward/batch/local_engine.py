"""Workers on this machine: processes that receive shards through a pipe, and are restarted when they die.

Nothing is forked or pickled: a worker is a fresh interpreter that reads and writes JSON lines. A thread reads the replies of each worker:
not every system can wait for several pipes at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nearward.batch.engine import ShardOutcome, WorkerReply
from nearward.batch.job_store import JobStore
from nearward.batch.sharding import Shard
from nearward.tabular.operating_system import thread_environment

_POLL = 1.0  # seconds between two looks at workers that do not answer
_MOST_STOPPED = 30  # looks in a row at which a worker is stopped (SIGSTOP) before it is killed

_SAY_AFTER = 600.0  # seconds of one shard after which a job without a limit says that it waits

Process = subprocess.Popen[str]


class LocalEngine:
    """An engine of processes.

    Parameters
    ----------
    model : Path
    store : JobStore
    workers : int
    threads : int, of each worker
    shard_seconds : float, optional
        Limit for one shard, see ``ScoringJob``.
    """

    def __init__(self, model: Path, store: JobStore, workers: int, threads: int = 1, shard_seconds: float | None = None) -> None:
        arguments = [str(model.resolve()), str(store.out.resolve()), store.job_id]
        self._command = [sys.executable, "-P", "-m", "nearward.batch.worker", *arguments]
        self._workers, self._environment = workers, {**os.environ, **thread_environment(threads)}
        self._busy: dict[int, tuple[Process, Shard]] = {}  # by process id
        self._idle: list[Process] = []
        self._stopped: Counter[int] = Counter()  # looks in a row at which a worker was stopped, by process id
        self._limit = shard_seconds
        self._seconds: dict[int, float] = {}  # that a worker has been busy with its shard, by process id
        self._looked = time.monotonic()
        self._lines: queue.SimpleQueue[tuple[Process, str]] = queue.SimpleQueue()  # an empty line is a worker's end

    def free_workers(self) -> int:
        """Return how many more shards can be submitted now."""
        return self._workers - len(self._busy)

    def submit(self, shard: Shard) -> None:
        """Send a shard to an idle worker, started if necessary."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker.pid], self._seconds[worker.pid] = (worker, shard), 0.0
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the worker has died: `wait` reports it
            worker.stdin.write(json.dumps(asdict(shard)) + "\n")
            worker.stdin.flush()

    def wait(self) -> list[ShardOutcome]:
        """Block until at least one submitted shard has ended; return at once where none is running."""
        outcomes: list[ShardOutcome] = []
        while not outcomes and self._busy:
            self._look([worker for worker, _ in self._busy.values()])
            try:
                worker, line = self._lines.get(timeout=_POLL)
            except queue.Empty:
                continue
            if worker.pid not in self._busy:
                if worker in self._idle:  # it has ended between two shards
                    self._idle.remove(worker)
                    self._stop(worker)
                continue
            _, shard = self._busy.pop(worker.pid)
            if line.endswith("\n"):
                self._idle.append(worker)
                outcomes.append(ShardOutcome(shard, WorkerReply(**json.loads(line))))
            else:
                outcomes.append(ShardOutcome(shard, None, self._stop(worker)))
        return outcomes

    def close(self) -> None:
        """Stop the workers, after the shards that they are scoring."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._stop(worker)
        self._idle, self._busy = [], {}

    def _start(self) -> Process:
        worker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment)
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: Process) -> None:
        """Pass on a worker's replies, and its end."""
        assert worker.stdout is not None
        with worker.stdout:
            for line in worker.stdout:
                self._lines.put((worker, line))
        self._lines.put((worker, ""))

    def _stop(self, worker: Process) -> str:
        """Close a worker's input, wait for its end, and describe how it ended."""
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died with unread input
            worker.stdin.close()
        while True:
            try:
                code = worker.wait(_POLL)
                break
            except subprocess.TimeoutExpired:
                self._look([worker])
        if self._stopped.pop(worker.pid, 0) >= _MOST_STOPPED:
            return f"it was stopped (SIGSTOP) for {_MOST_STOPPED * _POLL:.0f} s, and was killed"
        if self._limit is not None and self._seconds.pop(worker.pid, 0.0) >= self._limit:
            return f"it took longer than the limit of {self._limit / 60:g} minutes, and was killed"
        return f"killed by signal {-code}; out of memory?" if code < 0 else f"it ended with code {code}"

    def _look(self, workers: Sequence[Process]) -> None:
        """Kill workers that have been stopped or busy for too long, and say which are slow where there is no limit.

        Time counts only while the job looks: it may have been stopped, or the machine asleep, together with its workers.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * _POLL), now
        for worker in workers:
            self._stopped[worker.pid] = self._stopped[worker.pid] + 1 if _is_stopped(worker.pid) else 0
            before = self._seconds.get(worker.pid, 0.0)
            self._seconds[worker.pid] = before + passed
            if self._stopped[worker.pid] >= _MOST_STOPPED or (self._limit is not None and before + passed >= self._limit):
                worker.kill()
            elif self._limit is None and before < _SAY_AFTER <= before + passed:
                warnings.warn(
                    f"a worker has been busy with one shard for {_SAY_AFTER / 60:g} minutes, and is waited for without a limit. "
                    "If it hangs, stop the job and run it again with --shard-minutes",
                    RuntimeWarning,
                    stacklevel=2,
                )


def _is_stopped(pid: int) -> bool:
    """Whether a child process is stopped; False where the system has no such state."""
    if not hasattr(os, "waitid"):
        return False
    try:
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # it has ended
        return False
    return state is not None and state.si_pid == pid
