"""Workers on this machine: processes that receive shards through a pipe, and are restarted when they die.

Nothing is forked or pickled: a worker is a fresh interpreter that reads and writes JSON lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from nearward.batch.engine import ShardOutcome, WorkerReply, worker_environment
from nearward.batch.job_store import JobStore
from nearward.batch.sharding import Shard

_POLL = 1.0  # seconds between two looks at workers that do not answer
_MOST_STOPPED = 30  # looks in a row at which a worker is stopped (SIGSTOP) before it is killed

Process = subprocess.Popen[str]


class LocalEngine:
    """An engine of processes.

    Parameters
    ----------
    model : Path
    store : JobStore
    workers : int
    threads : int, of each worker
    """

    def __init__(self, model: Path, store: JobStore, workers: int, threads: int = 1) -> None:
        arguments = [str(model.resolve()), str(store.out.resolve()), store.job_id]
        self._command = [sys.executable, "-P", "-m", "nearward.batch.worker", *arguments]
        self._workers, self._environment = workers, {**os.environ, **worker_environment(threads)}
        self._busy: dict[int, tuple[Process, Shard]] = {}  # by process id
        self._idle: list[Process] = []
        self._stopped: Counter[int] = Counter()  # looks in a row at which a worker was stopped, by process id
        self._selector = selectors.DefaultSelector()

    def free_workers(self) -> int:
        """Return how many more shards can be submitted now."""
        return self._workers - len(self._busy)

    def submit(self, shard: Shard) -> None:
        """Send a shard to an idle worker, started if necessary."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker.pid] = (worker, shard)
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the worker has died: `wait` reports it
            worker.stdin.write(json.dumps(asdict(shard)) + "\n")
            worker.stdin.flush()

    def wait(self) -> list[ShardOutcome]:
        """Block until at least one submitted shard has ended; return at once where none is running."""
        outcomes: list[ShardOutcome] = []
        while not outcomes and self._busy:
            for silent, _ in self._busy.values():
                self._kill_if_stopped(silent)
            for key, _ in self._selector.select(_POLL):
                worker: Process = key.data
                assert worker.stdout is not None
                line = worker.stdout.readline()
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
        self._selector.close()

    def _start(self) -> Process:
        worker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        return worker

    def _stop(self, worker: Process) -> str:
        """Close a worker's input, wait for its end, and describe how it ended."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._selector.unregister(worker.stdout)
        with contextlib.suppress(BrokenPipeError):  # it has died with unread input
            worker.stdin.close()
        while True:
            try:
                code = worker.wait(_POLL)
                break
            except subprocess.TimeoutExpired:
                self._kill_if_stopped(worker)
        worker.stdout.close()
        if self._stopped.pop(worker.pid, 0) >= _MOST_STOPPED:
            return f"it was stopped (SIGSTOP) for {_MOST_STOPPED * _POLL:.0f} s, and was killed"
        return f"killed by signal {-code}; out of memory?" if code < 0 else f"it ended with code {code}"

    def _kill_if_stopped(self, worker: Process) -> None:
        """Kill a worker that has been stopped for long; looks are counted, not seconds, as the job may be stopped together with it."""
        self._stopped[worker.pid] = self._stopped[worker.pid] + 1 if _is_stopped(worker.pid) else 0
        if self._stopped[worker.pid] >= _MOST_STOPPED:
            worker.kill()


def _is_stopped(pid: int) -> bool:
    """Whether a child process is stopped; False where the system has no such state."""
    if not hasattr(os, "waitid"):
        return False
    try:
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # it has ended
        return False
    return state is not None and state.si_pid == pid
