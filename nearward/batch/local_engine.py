"""Workers on this machine: processes that are told shards through a pipe, restarted where they die.

Nothing is forked and nothing is pickled: a worker is a fresh interpreter, each library with the threads it is given, and speaks JSON lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from nearward.batch.sharding import Shard

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")


def surroundings(threads: int) -> dict[str, str]:
    """Return the environment in which a worker has so many threads a library, and one heap."""
    return {**dict.fromkeys(_THREADS, str(threads)), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Outcome:
    """What became of a shard.

    Parameters
    ----------
    shard : Shard
    told : dict or None
        The worker's answer (see ``worker.Station``); None where it died.
    how : str
        Why it died.
    """

    shard: Shard
    told: dict[str, Any] | None
    how: str = ""


class Engine(Protocol):
    """Something that works on shards."""

    def room(self) -> int:
        """Return how many more shards can be given out now."""
        ...

    def give(self, shard: Shard) -> None:
        """Give a shard to an idle worker."""
        ...

    def wait(self) -> list[Outcome]:
        """Wait until something is heard of at least one shard."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class Local:
    """An engine of processes.

    Parameters
    ----------
    model, out : Path
    workers : int
    threads : int, of each worker
    """

    def __init__(self, model: Path, out: Path, workers: int, threads: int = 1) -> None:
        self._command = [sys.executable, "-P", "-m", "nearward.batch.worker", str(model.resolve()), str(out.resolve())]
        self._most, self._surroundings = workers, {**os.environ, **surroundings(threads)}
        self._busy: dict[int, tuple[subprocess.Popen[str], Shard]] = {}
        self._idle: list[subprocess.Popen[str]] = []
        self._heard = selectors.DefaultSelector()

    def room(self) -> int:
        """Return how many more shards can be given out now."""
        return self._most - len(self._busy)

    def give(self, shard: Shard) -> None:
        """Give a shard to an idle worker, or start one."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker.pid] = (worker, shard)
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: `wait` hears of that
            worker.stdin.write(json.dumps(asdict(shard)) + "\n")
            worker.stdin.flush()

    def wait(self) -> list[Outcome]:
        """Wait until something is heard of at least one shard."""
        out: list[Outcome] = []
        while not out and self._busy:
            for key, _ in self._heard.select():
                worker: subprocess.Popen[str] = key.data
                assert worker.stdout is not None
                line = worker.stdout.readline()
                told = json.loads(line) if line.endswith("\n") else None
                _, shard = self._busy.pop(worker.pid)
                if told is None:
                    out.append(Outcome(shard, None, self._buried(worker)))
                else:
                    self._idle.append(worker)
                    out.append(Outcome(shard, told))
        return out

    def close(self) -> None:
        """Let the workers finish what they are at, and end."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._buried(worker)
        self._idle, self._busy = [], {}
        self._heard.close()

    def _start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._surroundings)
        self._heard.register(worker.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        return worker

    def _buried(self, worker: subprocess.Popen[str]) -> str:
        """End a worker, and say how it ended."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        self._heard.unregister(worker.stdout)
        with contextlib.suppress(BrokenPipeError):  # what was not sent need not be
            worker.stdin.close()
        code = worker.wait()
        worker.stdout.close()
        return f"killed by signal {-code}; out of memory?" if code < 0 else f"it ended with code {code}"
