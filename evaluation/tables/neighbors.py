"""Rows as points: one space for all three tables, scaled by the real rows, and the distances in it.

Letters: n rows, p coordinates, k neighbours, q rows asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

Points = NDArray[np.float32]


@dataclass(frozen=True)
class TableEmbedding:
    """Where a row lies.

    Parameters
    ----------
    encoding : Encoding
    """

    encoding: TableEncoder

    @classmethod
    def fit(cls, frame: pl.DataFrame) -> TableEmbedding:
        """Fit on a frame of Float64 and String columns."""
        kept = [Column(name, kind="number" if dtype == pl.Float64 else "category") for name, dtype in frame.schema.items()]
        return cls(TableEncoder.fit(Schema(tuple(kept)), frame))

    def points(self, frame: pl.DataFrame) -> Points:
        """Place the rows of a frame (n, p)."""
        return np.ascontiguousarray(self.encoding.transform(frame), dtype=np.float32)

    def coordinates(self, columns: set[str]) -> Ints:
        """Return which coordinates belong to some columns."""
        return np.array([i for i, column in enumerate(self.encoding.source_columns) if column in columns], dtype=np.int64)


def nearest(asked: Points, among: Points, k: int) -> tuple[Floats, Ints]:
    """Find the k nearest of ``among`` for each asked point: distances (q, k), Euclidean, and row numbers (q, k)."""
    import faiss

    index = faiss.IndexFlatL2(among.shape[1])
    index.add(among)
    _, row = index.search(asked, min(k, len(among)))
    distance = np.empty(row.shape)
    for j in range(row.shape[1]):  # again by differences: the index multiplies out, and then equal rows are not at distance 0
        distance[:, j] = np.sqrt(np.square(asked - among[row[:, j]]).sum(axis=1))
    return distance, row


def sampled(n: int, most: int, seed: int) -> Ints:
    """Return the numbers of at most ``most`` of n rows, drawn without replacement, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])
