"""One thread for many small sums: the same result on every machine, and no waiting for threads that a busy machine does not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold OpenMP and BLAS to one thread within the block.

    Two threads on two busy cores took 221 s for what one does in 9: each waits, at work, for the other at every small step.
    """
    import faiss  # noqa: F401  (a library that is loaded inside the block would not be held)
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
