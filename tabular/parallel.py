"""Pieces of work that do not wait for each other, done as many at a time as there are cores.

One thread a piece beats many threads on one piece: the pieces are small, and on a busy machine threads that wait for each other wait long.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where ``OMP_NUM_THREADS`` says so."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(asked)) if asked.isdecimal() and int(asked) > 0 else there


def parallel_map(work: Callable[[int], Result], pieces: int) -> Iterator[Result]:
    """Yield ``work(0)``, ``work(1)``, … in order, several running at a time, each with one thread of its own."""
    from threadpoolctl import threadpool_limits

    def alone(piece: int) -> Result:
        with threadpool_limits(1, user_api="openmp"):  # holds for the calling thread
            return work(piece)

    with threadpool_limits(1, user_api="blas"), _one_torch_thread(), ThreadPoolExecutor(min(cores(), max(pieces, 1))) as pool:
        yield from pool.map(alone, range(pieces))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let numpy, scikit-learn and torch use one thread inside the block: many small pieces, and sums that no number of cores changes."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), _one_torch_thread():
        yield


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let torch use one thread a call inside the block, in whichever thread it is called."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
