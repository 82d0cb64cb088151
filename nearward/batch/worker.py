"""A worker process: loads the model once, then scores the shards that it reads from standard input, one JSON line each.

It replies on standard output, one JSON line each, and ends when its input does, so a job that is killed leaves no worker behind.
Started by ``local_engine.py`` as ``python -P -m nearward.batch.worker MODEL OUT JOB``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nearward.batch.engine import ErrorKind, WorkerReply
from nearward.batch.job_store import JobStore
from nearward.batch.scoring import LoadedModel, score_shard
from nearward.batch.sharding import Shard
from nearward.tabular.errors import ArtifactError, FolderTakenOver, InputError
from nearward.tabular.operating_system import peak_memory


def main() -> None:
    """Score shards until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the job stops, and lets its workers finish their shard
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output printed by libraries must not end up between two replies
    warnings.simplefilter("ignore")  # anomalies in the rows are counted shard by shard
    worker = ShardWorker(*sys.argv[1:])
    for line in sys.stdin:
        reply = worker.score(Shard(**json.loads(line)))
        try:
            replies.write(json.dumps(asdict(reply)) + "\n")
            replies.flush()
        except BrokenPipeError:  # the job has ended; committed shards stay committed
            os._exit(0)


class ShardWorker:
    """Scores shards with one model, which is loaded when the first shard comes.

    Parameters
    ----------
    model, out : path
    job_id : str
        The job in ``out``: where another one has taken the folder over, nothing is scored.
    index : actors that hold the shards of the model's index, optional
        See ``index_actors``.
    """

    def __init__(self, model: str | Path, out: str | Path, job_id: str, index: Sequence[Any] = ()) -> None:
        self._model, self._out, self._job_id, self._index = model, Path(out), job_id, index
        self._loaded: tuple[LoadedModel, JobStore] | None = None

    def score(self, shard: Shard) -> WorkerReply:
        """Score and commit a shard; errors are part of the reply."""
        error, kind = self._try(shard)
        return WorkerReply(os.getpid(), peak_memory(), error, kind)

    def _try(self, shard: Shard) -> tuple[str, ErrorKind] | tuple[None, None]:
        loading = self._loaded is None
        try:
            if self._loaded is None:
                self._loaded = LoadedModel(self._model, self._index), JobStore(self._out, self._job_id)
            loading = False
            model, store = self._loaded
            score_shard(store, shard, model)
        except InputError as error:
            return str(error), "setup" if loading else "input"
        except FolderTakenOver as error:
            return str(error), "taken over"
        except ArtifactError as error:
            return str(error), "model"
        except OSError as error:
            return error.strerror or type(error).__name__, "disk"
        return None, None


if __name__ == "__main__":
    main()
