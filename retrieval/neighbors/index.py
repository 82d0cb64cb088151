"""Nearest stored patients: FAISS over one encoder's embeddings, exact up to 200,000 rows, inverted lists of bytes above.

FAISS finds; the distances of what it found are then computed again in double precision, so that a query gets the same numbers
alone and in a batch. The index is a function of the vectors and is rebuilt on loading, never read from disk.

Letters: m rows of a shard, e embedding width, q query rows, k neighbours.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from nearward.tabular.typing import Floats, Floats32, Ints

EXACT_UP_TO = 200_000
_PROBES = 48
_CHUNK = 1 << 22  # numbers gathered at a time


class Shard:
    """Searchable vectors of some stored rows.

    Parameters
    ----------
    vectors : (m, e)
    rows : (m,)
        Their numbers among all stored rows.
    exact_up_to : int
        Above this many rows the index is IVF-SQ8 (recall about .99), below it is exact.
    """

    def __init__(self, vectors: Floats32, rows: Ints, exact_up_to: int = EXACT_UP_TO) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.rows = np.asarray(rows, dtype=np.int64)
        self.index = _build(self.vectors, exact_up_to)

    def of(self, rows: Ints) -> Shard:
        """Return a shard of some of these rows (all of them must be here)."""
        return Shard(self.vectors[np.isin(self.rows, rows)], self.rows[np.isin(self.rows, rows)])

    def twins(self, row: int) -> Ints:
        """Return the rows (row numbers) whose vector is this row's, itself among them."""
        kind, place = self._kinds
        twins: Ints = self.rows[kind == kind[place[row]]]
        return twins

    @cached_property
    def _kinds(self) -> tuple[Ints, dict[int, int]]:
        kind = np.unique(self.vectors, axis=0, return_inverse=True)[1].reshape(-1)
        return kind, {int(row): j for j, row in enumerate(self.rows)}

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the k nearest rows, nearest first.

        Parameters
        ----------
        queries : (q, e)
        k : int

        Returns
        -------
        squared : (q, k), squared distances; inf where the shard has fewer than k rows
        row : (q, k), row numbers; -1 there
        """
        squared, row = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, dtype=np.int64)
        have = min(k, len(self.rows))
        if have <= 0:
            return squared, row
        step = max(1, _CHUNK // (have * self.vectors.shape[1]))
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            asked = np.ascontiguousarray(queries[part], dtype=np.float32)
            found = self.index.search(asked, have)[1]  # (chunk, have), -1 where inverted lists ran out
            gap = np.subtract(self.vectors[found], asked[:, None, :], dtype=np.float64)  # (chunk, have, e)
            exact = np.einsum("qke,qke->qk", gap, gap)
            exact[found < 0] = np.inf
            order = np.lexsort((found, exact))
            squared[part, :have] = np.take_along_axis(exact, order, axis=1)
            row[part, :have] = np.where(
                np.take_along_axis(found, order, axis=1) < 0, -1, self.rows[np.take_along_axis(found, order, axis=1)]
            )
        return squared, row


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
