"""One thread for each piece of work, and as many pieces at a time as there are cores: the same result on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from nearward.tabular.parallel import cores


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold OpenMP and BLAS to one thread within the block.

    Two threads on two busy cores took 221 s for what one does in 9: each waits, at work, for the other at every small step.
    """
    import faiss  # noqa: F401  (a library that is loaded inside the block would not be held)
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def parallel_map(pieces: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Do independent pieces of work, each with one thread, the longest of them best named first; return what each gave."""
    from threadpoolctl import threadpool_limits

    def alone(piece: Callable[[], Any]) -> Any:
        with threadpool_limits(limits=1, user_api="openmp"):  # this limit holds for the calling thread alone
            return piece()

    with single_threaded(), ThreadPoolExecutor(min(cores(), len(pieces))) as pool:
        begun = {name: pool.submit(alone, piece) for name, piece in pieces.items()}
        return {name: piece.result() for name, piece in begun.items()}
