"""Nearest-neighbour search with FAISS over one encoder's embeddings: exact up to 200,000 rows, IVF-SQ8 above.

The distances of the rows that FAISS returns are computed again in double precision, so that a query gets the same numbers alone and
in a batch. The index is a function of the vectors: it is rebuilt on loading, never read from disk.

Shapes: m rows of a shard, e embedding width, q query rows, k neighbours.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from nearward.tabular.typing import Floats, Floats32, Ints

EXACT_UP_TO = 200_000
_PROBES = 48
_CHUNK = 1 << 20  # numbers gathered at a time: they fit in a cache


class Shard:
    """Searchable vectors of some stored rows.

    Parameters
    ----------
    vectors : (m, e)
    rows : (m,), their indices among all stored rows
    exact_up_to : int
        Above this many rows the index is IVF-SQ8 (recall about .99), below it is exact.
    """

    def __init__(self, vectors: Floats32, rows: Ints, exact_up_to: int = EXACT_UP_TO) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.rows = np.asarray(rows, dtype=np.int64)
        self.index = _build(self.vectors, exact_up_to)

    def subset(self, rows: Ints) -> Shard:
        """Return a shard of some of these rows (all of them must be in this one)."""
        selected = np.isin(self.rows, rows)
        return Shard(self.vectors[selected], self.rows[selected])

    def duplicates(self, row: int) -> Ints:
        """Return the indices of the rows with the same vector as ``row``, itself among them."""
        vector_id, position = self._vector_ids
        return np.asarray(self.rows[vector_id == vector_id[position[row]]])

    @cached_property
    def _vector_ids(self) -> tuple[Ints, dict[int, int]]:
        vector_id = np.unique(self.vectors, axis=0, return_inverse=True)[1].reshape(-1)
        return vector_id, {int(row): j for j, row in enumerate(self.rows)}

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the k nearest rows, nearest first.

        Parameters
        ----------
        queries : (q, e)
        k : int

        Returns
        -------
        sq_distance : (q, k), inf where the shard has fewer than k rows
        row : (q, k), indices of stored rows; -1 there
        """
        sq_distance, row = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, dtype=np.int64)
        available = min(k, len(self.rows))
        if available <= 0:
            return sq_distance, row
        step = max(1, _CHUNK // (available * self.vectors.shape[1]))
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            query = np.ascontiguousarray(queries[part], dtype=np.float32)
            index = self.index.search(query, available)[1]  # (chunk, available), -1 where inverted lists ran out
            difference = np.subtract(self.vectors[index], query[:, None, :], dtype=np.float64)  # (chunk, available, e)
            exact = np.einsum("qke,qke->qk", difference, difference)
            exact[index < 0] = np.inf
            order = _nearest_first(exact, index)
            sq_distance[part, :available] = np.take_along_axis(exact, order, axis=1)
            index = np.take_along_axis(index, order, axis=1)
            row[part, :available] = np.where(index < 0, -1, self.rows[index])
        return sq_distance, row


def _nearest_first(sq_distance: Floats, index: Ints) -> Ints:
    """Return the order of each row's neighbours (q, k): by distance, equally near ones by their index."""
    order = np.argsort(sq_distance, axis=1, kind="stable")
    tied = (np.diff(np.take_along_axis(sq_distance, order, axis=1), axis=1) == 0).any(axis=1)
    order[tied] = np.lexsort((index[tied], sq_distance[tied]))
    return order


def _build(vectors: Floats32, exact_up_to: int) -> Any:
    import faiss

    m, e = vectors.shape
    if m <= exact_up_to:
        index: Any = faiss.IndexFlatL2(e)
    else:
        lists = int(4 * m**0.5)
        coarse: Any = faiss.IndexFlatL2(e)
        index = faiss.IndexIVFScalarQuantizer(coarse, e, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2)
        index.own_fields = True
        coarse.this.disown()
        index.cp.seed = 0
        index.train(vectors[:: max(1, m // (40 * lists))])
        index.nprobe = _PROBES
    index.add(vectors)
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:  # a faiss built for GPUs was put in place of faiss-cpu
        index = faiss.index_cpu_to_all_gpus(index)
    return index
