"""Vectors on disk: written block by block and mapped for reading, so that millions of them are never in memory twice.

Shapes: m rows, e width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from nearward.tabular.typing import Bools, Floats32

MAPPED_ABOVE = 32 * 2**20  # bytes; smaller results stay in memory
_BLOCK = 1 << 16  # rows
_FLOAT = np.dtype("<f4")

Vectors = list[Floats32]  # of a block's rows by shard, (rows, e) each


def compute(vectors: Callable[[], Vectors]) -> Vectors:
    """Return a block's vectors, which no earlier run has saved."""
    return vectors()


class VectorWriter:
    """Collect blocks of vectors, in a file where they are many, and give all of them for reading.

    Parameters
    ----------
    path : Path or None
        The file, replaced if it exists. None: they stay in memory up to 32 MiB; beyond that they are in a temporary file in the folder of
        ``TMPDIR``, gone with its last user.
    width : int, e
    """

    def __init__(self, path: Path | None, width: int) -> None:
        self._file: BinaryIO | None = None if path is None else open(path, "wb+")  # noqa: SIM115
        self._width, self._rows = width, 0
        self._waiting: list[Floats32] = []  # in memory

    def append(self, vectors: Floats32) -> None:
        """Add rows (rows, e).

        Raises
        ------
        OSError
            The disk is full.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._width:
            raise ValueError(f"vectors must be (rows, {self._width}), got {vectors.shape}")
        self._rows += len(vectors)
        if self._file is None and self._rows * self._width * _FLOAT.itemsize > MAPPED_ABOVE:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="nearward-"))  # noqa: SIM115
            for waiting in self._waiting:
                self._write(waiting)
            self._waiting = []
        if self._file is None:
            self._waiting.append(vectors)
        else:
            self._write(vectors)

    def finish(self) -> Floats32:
        """Return all rows (m, e), read-only; those of a file are mapped."""
        if self._file is None or self._rows * self._width == 0:
            joined = np.concatenate([np.zeros((0, self._width), dtype=_FLOAT), *self._waiting], dtype=_FLOAT)
            joined.flags.writeable = False
            self._waiting = []
            return joined
        with self._file as file:
            file.flush()
            return np.asarray(np.memmap(file, dtype=_FLOAT, mode="r", shape=(self._rows, self._width)))

    def _write(self, vectors: Floats32) -> None:
        assert self._file is not None
        for block in row_blocks(vectors):
            self._file.write(np.ascontiguousarray(block, dtype=_FLOAT).data.cast("B"))


def concatenate(first: Floats32, second: Floats32) -> Floats32:
    """Return the rows of both, mapped where they are many."""
    writer = VectorWriter(None, first.shape[1])
    writer.append(first)
    writer.append(second)
    return writer.finish()


def select(vectors: Floats32, chosen: Bools) -> Floats32:
    """Return some of the rows (mask, (m,)), mapped where they are many."""
    writer, begin = VectorWriter(None, vectors.shape[1]), 0
    for block in row_blocks(vectors):
        writer.append(block[chosen[begin : begin + len(block)]])
        begin += len(block)
    return writer.finish()


def row_blocks(vectors: Floats32, rows: int = _BLOCK) -> Iterator[Floats32]:
    """Yield the rows (m, e) in blocks of so many."""
    for begin in range(0, len(vectors), rows):
        yield vectors[begin : begin + rows]
