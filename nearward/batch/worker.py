"""A worker process: loads the model once, then scores the shards that it is told on standard input, one JSON line each.

It answers on standard output, one JSON line each, and ends when its input does: a job that is killed leaves no worker behind.
Run by ``local.py`` as ``python -P -m nearward.batch.worker MODEL OUT``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nearward.batch.job_store import JobStore
from nearward.batch.memory import resident
from nearward.batch.scoring import LoadedModel, score_shard
from nearward.batch.sharding import Shard
from nearward.tabular.errors import ArtifactError, InputError


class Station:
    """Where a worker stands: the model, loaded when the first shard comes, and the job's ledger.

    Parameters
    ----------
    model, out : path
    """

    def __init__(self, model: str | Path, out: str | Path) -> None:
        self._model, self._out = model, Path(out)
        self._at_hand: tuple[LoadedModel, JobStore] | None = None

    def answer(self, shard: Shard) -> dict[str, Any]:
        """Score a shard and say what became of it; where it went wrong, ``error`` and its ``kind``: input, setup, model or disk."""
        told: dict[str, Any] = asdict(shard)
        kind = "setup"
        try:
            if self._at_hand is None:
                self._at_hand = LoadedModel(self._model), JobStore(self._out)
            kind = "input"
            score_shard(self._at_hand[1], shard, self._at_hand[0])
        except InputError as error:
            told |= {"error": str(error), "kind": kind}
        except ArtifactError as error:
            told |= {"error": str(error), "kind": "model"}
        except OSError as error:
            told |= {"error": error.strerror or type(error).__name__, "kind": "disk"}
        return {**told, "resident": resident(), "pid": os.getpid()}


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job hears Ctrl-C, and lets its workers finish their shard
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not stand between two answers
    warnings.simplefilter("ignore")  # what is odd in the rows is counted shard by shard
    model, out = sys.argv[1:]
    station = Station(model, out)
    for line in sys.stdin:
        told = station.answer(Shard(**json.loads(line)))
        try:
            answers.write(json.dumps(told) + "\n")
            answers.flush()
        except BrokenPipeError:  # the job is gone; what was committed is committed
            os._exit(0)


if __name__ == "__main__":
    main()
