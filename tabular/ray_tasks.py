"""Tasks on a Ray cluster, for ``parallel_map``: what they share is put into Ray's object store once, results come in order.

Scheduling, the transport of arrays and the replacement of workers that die are Ray's own. Tasks are pickled, by Ray, among the processes of
one cluster: whoever can reach a cluster can run code on it, so it belongs behind a firewall.
"""

from __future__ import annotations

import os
import platform
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

from nearward.tabular.errors import InputError, MissingPackage
from nearward.tabular.operating_system import thread_environment

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 5.0  # seconds in which a port must answer: Ray itself tries for many minutes
_WORKER_START = 120.0  # seconds in which every node must start a worker
_SAME = ("nearward", "numpy", "polars", "scikit-learn", "scipy", "torch", "lightgbm", "ray")  # packages of equal versions on all nodes
_AUTO = "ray_current_cluster"  # file in which Ray notes the address of this machine's cluster


class RayCluster:
    """A connection to a Ray cluster.

    Parameters
    ----------
    address : str, optional
        ``auto`` for the cluster that this machine belongs to; by default a new one on this machine, which ends with the connection.
    workers : int
        CPUs of a new cluster.

    Raises
    ------
    InputError
        Ray is not installed, no cluster answers, or a node has other versions of Python or of a package.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingPackage("ray", "the engine 'ray' is of that package", "nearward[distributed]") from error
        self.ray: Any = ray
        self._connected = not ray.is_initialized()
        if not self._connected:
            return
        size: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a new cluster would send statistics of its use
        try:
            _require_answer(address)
            ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **size)
        except (OSError, ValueError) as error:
            raise InputError(f"no Ray cluster answers at address {address!r}: start one with ray start --head") from error
        except RuntimeError as error:  # Ray compares its own version and Python's
            raise InputError(f"the Ray cluster at address {address!r} cannot be used: {error}") from error
        if address:
            try:
                self._require_same_versions()
            except InputError:
                self.close()
                raise

    @property
    def cpus(self) -> int:
        """CPUs of all nodes together."""
        return max(int(self.ray.cluster_resources().get("CPU", 1)), 1)

    @property
    def node_memory(self) -> float:
        """Memory of the smallest node, in bytes, as far as Ray gives it to tasks."""
        return min((node["Resources"].get("memory", float("inf")) for node in self.ray.nodes() if node["Alive"]), default=float("inf"))

    def close(self) -> None:
        """End the connection, and the cluster where this connection started it."""
        if self._connected:
            self.ray.shutdown()

    def _require_same_versions(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def versions(names: tuple[str, ...] = _SAME) -> dict[str, str]:  # a nested function travels by value: nearward may be missing there
            installed = {"Python": platform.python_version()}
            for name in names:
                try:
                    installed[name] = version(name)
                except PackageNotFoundError:
                    installed[name] = "missing"
            return installed

        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        remote = self.ray.remote(versions)
        replies = [remote.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)) for n in nodes]
        try:
            of_nodes = self.ray.get([reply.remote() for reply in replies], timeout=_WORKER_START)
        except self.ray.exceptions.RayError as error:
            raise InputError(f"a node of the Ray cluster starts no worker within {_WORKER_START:.0f} s ({type(error).__name__})") from error
        here = versions()
        for node, there in zip(nodes, of_nodes, strict=True):
            if others := ", ".join(f"{name} {there[name]} (here {here[name]})" for name in here if there[name] != here[name]):
                where = node["NodeManagerAddress"]
                raise InputError(f"the Ray node {where} has {others}: install the same versions on every node")


class RayTasks:
    """Tasks on a cluster, one CPU and one thread each.

    Parameters
    ----------
    cluster : RayCluster
    workers : int, optional
        Tasks at a time: as many as the cluster has CPUs by default.
    """

    def __init__(self, cluster: RayCluster, workers: int | None = None) -> None:
        self._ray, self.workers = cluster.ray, min(workers or cluster.cpus, cluster.cpus)
        self._remote = self._ray.remote(_run).options(num_cpus=1, runtime_env={"env_vars": thread_environment(1)})

    def put(self, value: Any) -> Any:
        """Put a value into the object store, and return its reference."""
        with self._errors():
            return self._ray.put(value)

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield ``task(item)`` for each item in order; a task whose worker dies is run again, by Ray.

        Raises
        ------
        InputError
            Workers died again and again, or the object store is full. Errors of a task are raised as they are.
        """
        shared, waiting = Shared(task, self.put(task)), deque[Any]()
        running: list[Any] = []
        try:
            for item in items:
                while len(running) >= self.workers:
                    running = self._ray.wait(running)[1]
                    while waiting and waiting[0] not in running:
                        yield self._result(waiting.popleft())
                running.append(self._remote.remote(shared, item))
                waiting.append(running[-1])
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for reference in waiting:  # of a map that was left, or that an error ended
                self._ray.cancel(reference)

    def _result(self, reference: Any) -> Any:
        try:
            with self._errors():
                return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in words what went wrong in the cluster; errors of a task pass."""
        try:
            yield
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:
            raise InputError(
                f"the Ray cluster could not run a task, nor its repetitions ({type(error).__name__}). Out of memory or disk? Use fewer "
                "workers a node, or nodes with more memory"
            ) from error


class Shared(Generic[Item]):
    """A value that many tasks read. Under the engine ``ray`` it travels as a reference, and a worker fetches it once; see ``share``."""

    def __init__(self, value: Item | None, reference: Any = None) -> None:
        self._value, self._reference = value, reference

    @property
    def value(self) -> Item:
        """The value; arrays are read-only on Ray's workers."""
        return self._value if self._reference is None or self._value is not None else _fetch(self._reference)  # type: ignore[return-value]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Shared, (self._value, None) if self._reference is None else (None, self._reference))


@lru_cache(maxsize=2)  # the task that is running, and what it shares with others
def _fetch(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _run(task: Shared[Callable[[Any], Any]], item: Any) -> Any:
    return task.value(item)


def _require_answer(address: str | None) -> None:
    """Raise where nothing listens at an address ``host:port`` or ``ray://host:port``, or at that which Ray noted for ``auto``."""
    if address == "auto":
        note = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / _AUTO
        address = os.environ.get("RAY_ADDRESS") or (note.read_text().strip() if note.exists() else None)
    if address is not None:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
