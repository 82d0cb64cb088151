"""Workers on a Ray cluster: one actor each, over the same shards and the same ledger.

Model, archive and output must lie where every node sees them under the same path, and every node needs nearward installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearward.batch.local_engine import Outcome, surroundings
from nearward.batch.sharding import Shard
from nearward.batch.worker import Station
from nearward.tabular.errors import InputError


class OnRay:
    """An engine of Ray actors.

    Parameters
    ----------
    model, out : Path
    workers : int
    address : str, optional
        Of a cluster, ``auto`` for the one this machine belongs to; by default a cluster of its own on this machine.
    threads : int, of each actor

    Raises
    ------
    InputError
        Ray is not installed, or there is no such cluster.
    """

    def __init__(self, model: Path, out: Path, workers: int, address: str | None = None, threads: int = 1) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("--engine ray needs Ray: pip install 'nearward[distributed]'") from error
        self._ray, self._paths, self._most = ray, (str(model.resolve()), str(out.resolve())), workers
        self._ours = not ray.is_initialized()
        if self._ours:
            size: dict[str, Any] = {} if address else {"num_cpus": workers * threads, "include_dashboard": False}
            try:
                ray.init(address=address, log_to_driver=False, configure_logging=False, **size)
            except (ConnectionError, ValueError) as error:
                raise InputError(f"no Ray cluster at --address {address}: start one with ray start --head") from error
        self._actor: Any = ray.remote(Station).options(num_cpus=threads, runtime_env={"env_vars": surroundings(threads)})
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Shard]] = {}

    def room(self) -> int:
        """Return how many more shards can be given out now."""
        return self._most - len(self._busy)

    def give(self, shard: Shard) -> None:
        """Give a shard to an idle actor, or make one."""
        actor: Any = self._idle.pop() if self._idle else self._actor.remote(*self._paths)
        self._busy[actor.answer.remote(shard)] = (actor, shard)

    def wait(self) -> list[Outcome]:
        """Wait until something is heard of at least one shard."""
        if not self._busy:
            return []
        out = []
        for answer in self._ray.wait(list(self._busy))[0]:
            actor, shard = self._busy.pop(answer)
            try:
                out.append(Outcome(shard, self._ray.get(answer)))
                self._idle.append(actor)
            except self._ray.exceptions.RayActorError as error:
                out.append(Outcome(shard, None, f"its actor died ({type(error).__name__})"))
        return out

    def close(self) -> None:
        """Let the actors go, and the cluster if it is ours."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            self._ray.kill(actor)
        self._idle, self._busy = [], {}
        if self._ours:
            self._ray.shutdown()
