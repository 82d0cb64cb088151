"""Embedding of the rows of all three tables, scaled by the real rows, and nearest neighbours in it.

Shapes: n rows, p dimensions, k neighbours, q queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class TableEmbedding:
    """Embedding of rows by a table encoder.

    Parameters
    ----------
    encoder : TableEncoder
    """

    encoder: TableEncoder

    @classmethod
    def fit(cls, frame: pl.DataFrame) -> TableEmbedding:
        """Fit on a frame of Float64 and String columns."""
        columns = [Column(name, kind="number" if dtype == pl.Float64 else "category") for name, dtype in frame.schema.items()]
        return cls(TableEncoder.fit(Schema(tuple(columns)), frame))

    def transform(self, frame: pl.DataFrame) -> Embeddings:
        """Embed the rows of a frame (n, p)."""
        return np.ascontiguousarray(self.encoder.transform(frame), dtype=np.float32)

    def dimensions(self, columns: set[str]) -> Ints:
        """Return the dimensions that some columns are embedded in."""
        return np.array([i for i, column in enumerate(self.encoder.source_columns) if column in columns], dtype=np.int64)


def nearest_neighbors(queries: Embeddings, rows: Embeddings, k: int) -> tuple[Floats, Ints]:
    """Search the k nearest rows of each query: Euclidean distances (q, k) and row numbers (q, k)."""
    import faiss

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    _, neighbor = index.search(queries, min(k, len(rows)))
    distance = np.empty(neighbor.shape)
    for j in range(neighbor.shape[1]):  # again by differences: the index expands the square, and then equal rows are not at distance 0
        distance[:, j] = np.sqrt(np.square(queries - rows[neighbor[:, j]]).sum(axis=1))
    return distance, neighbor


def sample_rows(n: int, limit: int, seed: int) -> Ints:
    """Return the numbers of at most ``limit`` of n rows, drawn without replacement, in order."""
    return np.arange(n) if n <= limit else np.sort(np.random.default_rng(seed).permutation(n)[:limit])
