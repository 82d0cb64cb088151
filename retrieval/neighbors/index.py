"""Nearest-neighbour search over one encoder's embeddings: exact up to 200,000 rows (``exact_search.py``), IVF-SQ8 by FAISS above.

The distances of the rows that a search returns are computed again, each on its own, so that a query gets the same numbers alone and in
a batch. They are in single precision, as the vectors are. The index is a function of the vectors: it is rebuilt on loading, never read
from disk.

Shapes: m rows of a shard, e embedding width, q query rows, k neighbours.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from nearward.retrieval.neighbors.exact_search import ExactIndex
from nearward.tabular.typing import Floats, Floats32, Ints

EXACT_UP_TO = 200_000
_PROBES = 48
_CHUNK = 1 << 19  # products at a time: they fit in a cache
_FEWEST_QUERIES = 16  # of a chunk
_INDEX_BITS = 2**32 - 1


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
        step = max(_FEWEST_QUERIES, _CHUNK // len(self.rows))
        buffer = np.empty((min(step, len(queries)), len(self.rows)), dtype=np.float32)
        for begin in range(0, len(queries), step):
            query = np.ascontiguousarray(queries[begin : begin + step], dtype=np.float32)
            if isinstance(self.index, ExactIndex):
                candidates = self.index.candidates(query, available, buffer)
            else:
                candidates = self.index.search(query, available)[1]  # -1 where inverted lists ran out
            part = slice(begin, begin + step)
            sq_distance[part, :available], row[part, :available] = self._nearest(query, candidates, available)
        return sq_distance, row

    def _nearest(self, query: Floats32, candidates: Ints, k: int) -> tuple[Floats, Ints]:
        """Return the squared distances and the stored rows of the k nearest candidates (q, w), nearest first: (q, k) each."""
        import faiss

        sq_distance = np.empty(candidates.shape, dtype=np.float32)  # inf where a candidate is -1
        pointers = (faiss.swig_ptr(array) for array in (sq_distance, query, self.vectors, candidates))
        faiss.fvec_L2sqr_by_idx(*pointers, self.vectors.shape[1], *candidates.shape)  # type: ignore[attr-defined]
        # distances are not negative, so their bits are in their order; equally near rows follow by their index
        key = (sq_distance.view(np.int32).astype(np.int64) << 32) | (candidates & _INDEX_BITS)
        key = np.sort(key, axis=1)[:, :k]
        nearest = (key >> 32).astype(np.int32).view(np.float32).astype(np.float64)
        return nearest, np.where(np.isinf(nearest), -1, self.rows[(key & _INDEX_BITS) % len(self.rows)])


def _build(vectors: Floats32, exact_up_to: int) -> Any:
    import faiss

    m, e = vectors.shape
    on_gpus = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0  # a faiss built for GPUs was put in place of faiss-cpu
    if 0 < m <= exact_up_to and not on_gpus:
        return ExactIndex(vectors)
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
    return faiss.index_cpu_to_all_gpus(index) if on_gpus else index
