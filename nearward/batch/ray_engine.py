"""Workers on a Ray cluster: one actor each, over the same shards and the same job store.

Model, tables and output must be on a file system that every node mounts under the same path, and every node needs nearward installed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nearward.batch.engine import ShardOutcome
from nearward.batch.job_store import JobStore
from nearward.batch.memory import count_shards, mapped_size, model_memory
from nearward.batch.sharding import Shard
from nearward.batch.worker import ShardWorker
from nearward.index_actors import start_index_actors
from nearward.tabular.errors import InputError
from nearward.tabular.operating_system import thread_environment
from nearward.tabular.ray_tasks import RayCluster

_POLL = 1.0  # seconds between two looks at actors that do not answer


class RayEngine:
    """An engine of Ray actors.

    Parameters
    ----------
    model : Path
    store : JobStore
    workers : int
    address : str, optional
        Address of a cluster, ``auto`` for the one that this machine belongs to; by default a new cluster on this machine.
    threads : int, of each actor
    shard_seconds : float, optional
        Limit for one shard, see ``ScoringJob``.
    index_actors : bool, optional
        Whether the model's index is divided over actors; by default where it exceeds the memory of a cluster's smallest node.

    Raises
    ------
    InputError
        Ray is not installed, the cluster does not answer, or it has too few CPUs.
    """

    def __init__(
        self,
        model: Path,
        store: JobStore,
        workers: int,
        address: str | None = None,
        threads: int = 1,
        shard_seconds: float | None = None,
        index_actors: bool | None = None,
    ) -> None:
        shards = count_shards(model) if index_actors else 0
        self._cluster = RayCluster(address, (workers + shards) * threads)
        self._ray = ray = self._cluster.ray
        try:
            if address and index_actors is None and mapped_size(model) > self._cluster.node_memory:
                shards = count_shards(model)
            self._workers = min(workers, self._cluster.cpus // threads - shards)
            if self._workers < 1:
                needs = f"a worker of {threads} CPUs" + (f" and {shards} actors of the index, as many each" if shards else "")
                raise InputError(f"the Ray cluster has {self._cluster.cpus} CPUs, too few for {needs}")
            self._index = start_index_actors(model, store.options.model, shards, model_memory(model, shards), threads) if shards else []
        except BaseException:
            self._cluster.close()
            raise
        self._arguments = (str(model.resolve()), str(store.out.resolve()), store.job_id, self._index)
        self._actor: Any = ray.remote(ShardWorker).options(num_cpus=threads, runtime_env={"env_vars": thread_environment(threads)})
        self._limit = shard_seconds
        self._since: dict[Any, float] = {}  # when each busy actor's shard was submitted
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Shard]] = {}

    def free_workers(self) -> int:
        """Return how many more shards can be submitted now."""
        return self._workers - len(self._busy)

    def submit(self, shard: Shard) -> None:
        """Send a shard to an idle actor, started if necessary."""
        actor: Any = self._idle.pop() if self._idle else self._actor.remote(*self._arguments)
        reply = actor.score.remote(shard)
        self._busy[reply], self._since[reply] = (actor, shard), time.monotonic()

    def wait(self) -> list[ShardOutcome]:
        """Block until at least one submitted shard has ended; return at once where none is running."""
        if not self._busy:
            return []
        outcomes: list[ShardOutcome] = []
        while not (replies := self._ray.wait(list(self._busy), timeout=_POLL)[0]):
            for reply, (actor, shard) in list(self._busy.items()):
                if self._limit is not None and time.monotonic() - self._since[reply] >= self._limit:
                    self._ray.kill(actor)
                    del self._busy[reply], self._since[reply]
                    why = f"it took longer than the limit of {self._limit / 60:g} minutes, and was killed"
                    outcomes.append(ShardOutcome(shard, None, why))
            if outcomes:
                return outcomes
        for reply in replies:
            (actor, shard), _ = self._busy.pop(reply), self._since.pop(reply)
            try:
                outcomes.append(ShardOutcome(shard, self._ray.get(reply)))
                self._idle.append(actor)
            except self._ray.exceptions.RayActorError as error:
                outcomes.append(ShardOutcome(shard, None, f"its actor died ({type(error).__name__})"))
        return outcomes

    def close(self) -> None:
        """Stop the actors, and the cluster where this engine started it."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values()), *self._index]:
            self._ray.kill(actor)
        self._idle, self._busy = [], {}
        self._cluster.close()
