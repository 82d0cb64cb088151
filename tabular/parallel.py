"""Independent tasks in parallel threads, each limited to one thread of the numerical libraries.

One thread a task is faster than many threads on one task: the tasks are small, and on a busy machine threads wait long for each other.
It also makes sums, and so results, the same on every number of cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """Return how many CPUs this process may use: its affinity mask, or fewer where ``OMP_NUM_THREADS`` says so."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) > 0 else available


def parallel_map(task: Callable[[Item], Result], items: Sequence[Item], *libraries: str) -> Iterator[Result]:
    """Yield ``task(item)`` for each item in order, several running at a time, each in one thread.

    ``libraries`` are modules to import first, as in ``single_threaded``.
    """
    from threadpoolctl import threadpool_limits

    for name in libraries:
        import_module(name)

    def run(item: Item) -> Result:
        with threadpool_limits(1, user_api="openmp"):  # a limit of OpenMP holds for the calling thread alone
            return task(item)

    with threadpool_limits(1, user_api="blas"), _one_torch_thread(), ThreadPoolExecutor(min(cpu_count(), max(len(items), 1))) as pool:
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
    from threadpoolctl import threadpool_limits

    for name in libraries:
        import_module(name)
    with threadpool_limits(1), _one_torch_thread():
        yield


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let torch, where it is loaded, use one thread a call inside the block, in whichever thread it is called."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
