"""Work that is the same for every fold, done for as many folds at a time as there are cores.

One thread a fold beats many threads on one fold: the pieces are small, and on a busy machine threads that wait for each other wait long.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_fold(work: Callable[[int], Result], folds: int) -> Iterator[Result]:
    """Yield ``work(0)``, ``work(1)``, … in order, several running at a time, each with one thread of its own."""
    from threadpoolctl import threadpool_limits

    def alone(fold: int) -> Result:
        with threadpool_limits(1, user_api="openmp"):  # holds for the calling thread
            return work(fold)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(cores(), folds)) as pool:
        yield from pool.map(alone, range(folds))
