"""Independent tasks in parallel threads, or on a Ray cluster, each limited to one thread of the numerical libraries.

One thread a task is faster than many threads on one task: the tasks are small, and on a busy machine threads wait long for each other.
It also makes sums, and so results, the same on every number of cores.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Literal, TypeVar

from nearward.tabular.errors import ForkedProcess, InputError
from nearward.tabular.ray_tasks import RayCluster, RayTasks, Shared

Item = TypeVar("Item")
Result = TypeVar("Result")

_requested: ContextVar[int | None] = ContextVar("n_jobs", default=None)
_ray: ContextVar[RayTasks | None] = ContextVar("ray", default=None)
_process: list[int] = []  # the process that used this package first


def cpu_count() -> int:
    """Return how many CPUs to use here: those of ``limit_jobs``, else all that the process may use.

    These are its affinity mask, or fewer by the CPU quota of its container (cgroup v1 and v2, rounded up), by ``LOKY_MAX_CPU_COUNT`` or by
    ``OMP_NUM_THREADS``.
    """
    from joblib import cpu_count as available_cpus

    if (requested := _requested.get()) is not None:
        return requested
    available, limit = int(available_cpus()), os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) > 0 else available


@contextmanager
def limit_jobs(n_jobs: int | None) -> Iterator[None]:
    """Run at most ``n_jobs`` tasks at a time inside the block: None for one a CPU; -1 for all CPUs, -2 for all but one.

    Examples
    --------
    >>> with limit_jobs(3):
    ...     cpu_count()
    3
    """
    if n_jobs == 0 or isinstance(n_jobs, bool) or not isinstance(n_jobs, int | None):
        raise InputError(f"n_jobs must be a whole number other than 0, or None, got n_jobs={n_jobs!r}")
    token = _requested.set(None)
    try:
        if n_jobs is not None:
            _requested.set(n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1))
        yield
    finally:
        _requested.reset(token)


@contextmanager
def engine(name: Literal["local", "ray"], *, address: str | None = None, workers: int | None = None) -> Iterator[None]:
    """Choose where the long tasks of a fit run inside the block: base learners by fold, metrics, encoders, in-context predictions.

    Results are the same under both engines. The data are read, the stack is fitted and the model is saved by this process.

    Parameters
    ----------
    name : "local" or "ray"
        In threads of this process, as without an engine; or as tasks on a Ray cluster (``pip install 'nearward[distributed]'``).
    address : str, optional
        Of a cluster: ``host:port``, or ``auto`` for the one that this machine belongs to. By default Ray starts one on this machine, which
        ends with the block.
    workers : int, optional
        Tasks of Ray at a time, each with one CPU: as many as there are CPUs by default.

    Raises
    ------
    InputError
        Ray is not installed, no cluster answers, or a node has other versions of Python or of a package.

    Examples
    --------
    >>> with engine("local"):
    ...     list(parallel_map(abs, [-1, -2], remote=True))
    [1, 2]
    """
    if name not in ("local", "ray"):
        raise InputError(f"engine must be local or ray, got {name!r}")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers must be a whole number of at least 1, got workers={workers!r}")
    if name == "local" and (address is not None or workers is not None):
        raise InputError("address and workers are for the engine 'ray'")
    cluster = RayCluster(address, workers or cpu_count()) if name == "ray" else None
    token = _ray.set(None if cluster is None else RayTasks(cluster, workers))
    try:
        yield
    finally:
        _ray.reset(token)
        if cluster is not None:
            cluster.close()


def runs_remotely() -> bool:
    """Return whether tasks that may be remote run on a cluster now: in other processes, on copies of what they get."""
    return _ray.get() is not None


def share(value: Item) -> Shared[Item]:
    """Return a value for many tasks to read: under the engine ``ray`` it is put into Ray's object store, once."""
    tasks = _ray.get()
    return Shared(value, None if tasks is None else tasks.put(value))


def parallel_map(task: Callable[[Item], Result], items: Sequence[Item], *libraries: str, remote: bool = False) -> Iterator[Result]:
    """Yield ``task(item)`` for each item in order, several running at a time, each in one thread.

    Parameters
    ----------
    task : callable
        What it reads from outside is put into Ray's object store once a call, where the tasks are remote; such arrays are read-only.
    items : sequence
    libraries : names of modules
        Imported first, as in ``single_threaded``.
    remote : bool
        Whether the tasks may run on the workers of an ``engine``: they take long, and items and results are small beside that. Inside a
        task, and in threads, all further tasks are local.
    """
    tasks = _ray.get()
    if remote and tasks is not None and len(items) > 1:

        def run_alone(item: Item) -> Result:
            with limit_jobs(1), single_threaded(*libraries):
                return task(item)

        yield from tasks.map(run_alone, items)
        return
    requested = _requested.get()

    def run(item: Item) -> Result:
        _requested.set(requested)  # a thread has a context of its own
        with _limit_openmp():
            return task(item)

    with single_threaded(*libraries), ThreadPoolExecutor(min(cpu_count(), max(len(items), 1))) as pool:
        yield from pool.map(run, items)


@contextmanager
def single_threaded(*libraries: str) -> Iterator[None]:
    """Limit numpy, scikit-learn, faiss and torch to one thread inside the block.

    Two threads on two busy cores took 221 s for what one does in 9: each waits for the other at every small step.

    Parameters
    ----------
    libraries : names of modules
        Imported first: libraries that are loaded inside the block are not limited.
    """
    for name in libraries:
        import_module(name)
    torch = sys.modules.get("torch")
    torch_threads = None if torch is None else torch.get_num_threads()  # before OpenMP's limit, which torch would report
    with _limit_openmp(), _process_limit.block(torch_threads):
        yield


def _limit_openmp() -> AbstractContextManager[Any]:
    """Limit OpenMP, and BLAS on top of it, to one thread: a setting of the calling thread alone."""
    from threadpoolctl import ThreadpoolController

    limit: AbstractContextManager[Any] = ThreadpoolController().select(user_api="openmp", threading_layer="openmp").limit(limits=1)
    return limit


class _ProcessLimit:
    """The limit of BLAS and torch, a setting of the whole process: blocks that overlap in several threads share one.

    The first block sets it and the last one lifts it. With a limit a block, one that begins while another runs would take the limit of 1
    for the user's setting, and restore that for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._torch_is_limited = False
        self._limits = ExitStack()

    @contextmanager
    def block(self, torch_threads: int | None) -> Iterator[None]:
        """Hold the limit; ``torch_threads`` is torch's setting before it, None where torch is not loaded."""
        with self._lock:
            self._blocks += 1
            self._limit_blas()
            if torch_threads is not None and not self._torch_is_limited:
                self._limits.callback(sys.modules["torch"].set_num_threads, torch_threads)
                sys.modules["torch"].set_num_threads(1)
                self._torch_is_limited = True
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    _take_control_of_blas()  # from the thread that set the limit
                    self._limits.close()
                    self._torch_is_limited = False

    def _limit_blas(self) -> None:
        from threadpoolctl import ThreadpoolController

        controller = ThreadpoolController()
        blas = [library for library in controller.select(user_api="blas").info() if library["threading_layer"] != "openmp"]
        unlimited = [library["filepath"] for library in blas if library["num_threads"] != 1]
        if unlimited:  # also where a library was loaded while other blocks run
            _take_control_of_blas()
            self._limits.enter_context(controller.select(filepath=unlimited).limit(limits=1))


def _take_control_of_blas() -> None:
    """Let this thread set OpenBLAS's threads: threadpoolctl lets one thread only, which may be another and still alive."""
    from threadpoolctl import OpenBLASController

    OpenBLASController.clear_controlling_thread(force=True)


_process_limit = _ProcessLimit()


def require_own_process() -> None:
    """Raise where this process was forked from one that had used this package.

    Polars, OpenMP and FAISS keep threads. A fork has none of them, and waits for them without end.

    Raises
    ------
    ForkedProcess
    """
    if not _process:
        _process.append(os.getpid())
    elif _process[0] != os.getpid():
        raise ForkedProcess
