"""Approximate search in large shards by inverted lists (IVF): rows by their nearest centroid, compressed, of which a query probes a few.

Jégou, Douze & Schmid, "Product quantization for nearest neighbor search", PAMI 2011; the index is FAISS's. A row is compressed to one byte
a dimension (SQ8), or where a shard has tens of millions of rows to half of that (PQ). What a search returns are therefore candidates:
their distances are computed again from the vectors (``index.py``).

The state is plain arrays: centroids, codebook, and the list of each row. The FAISS index is a function of these and the vectors. It is the
same before and after a save, and rows come and go without k-means.

Shapes: m rows, e width, c lists.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from nearward.retrieval.neighbors.vector_store import row_blocks
from nearward.tabular.typing import Bools, Floats32, Ints32

_PRODUCT_ABOVE = 20_000_000  # rows of a shard: SQ8 of 64 dimensions would take 1.4 GB
_ROWS_PER_CENTROID, _ITERATIONS = 20, 6  # of k-means: more change the recall by less than .002
_CODEBOOK_ROWS = 1 << 16
_CANDIDATES = {"SQ8": 1.25, "PQ": 4.0}  # for each neighbour
_FEWEST_CANDIDATES = 32  # more than neighbours


@dataclass(frozen=True)
class InvertedLists:
    """Inverted lists of a shard's rows.

    Parameters
    ----------
    code : "SQ8" or "PQ"
    centroids : (c, e)
    codebook : ranges (2 e,) of SQ8, or the centroids of PQ's subspaces (256 e,)
    list_number : (m,), the list of each row
    probes : int, how many lists a query searches
    recall : float
        Share of the exact nearest neighbours that a search returns, measured when the lists were fitted; NaN before.
    """

    code: str
    centroids: Floats32
    codebook: Floats32
    list_number: Ints32
    probes: int
    recall: float

    @classmethod
    def fit(cls, vectors: Floats32) -> Self:
        """Cluster a sample of the rows (m, e), and assign all of them; ``probes`` is 1 until it is chosen."""
        import faiss

        m, e = vectors.shape
        count = int(2 * m**0.5)
        sample = np.ascontiguousarray(vectors[:: max(1, m // (_ROWS_PER_CENTROID * count))])
        kmeans: Any = faiss.Kmeans(
            e, count, niter=_ITERATIONS, seed=0, max_points_per_centroid=2 * _ROWS_PER_CENTROID, min_points_per_centroid=1
        )
        kmeans.train(sample)
        code = "PQ" if m > _PRODUCT_ABOVE else "SQ8"
        empty = cls(code, np.ascontiguousarray(kmeans.centroids), np.zeros(0, np.float32), np.zeros(0, np.int32), 1, float("nan"))
        index = empty._new_index()
        index.train(np.ascontiguousarray(vectors[:: max(1, m // _CODEBOOK_ROWS)]))  # the codebook alone: the centroids are there
        return replace(empty, codebook=faiss.vector_to_array(_codebook(index))).extended(vectors)

    def extended(self, vectors: Floats32) -> Self:
        """Return the lists with more rows (new rows, e), each in the list of its nearest centroid."""
        quantizer = self._quantizer()
        numbers = [quantizer.search(np.ascontiguousarray(block), 1)[1][:, 0].astype(np.int32) for block in row_blocks(vectors)]
        return replace(self, list_number=np.concatenate([self.list_number, *numbers]))

    def select(self, chosen: Bools) -> Self:
        """Return the lists of some of the rows (mask, (m,))."""
        return replace(self, list_number=self.list_number[chosen])

    def candidates(self, k: int) -> int:
        """Return how many rows to search for k neighbours."""
        return max(int(_CANDIDATES[self.code] * k), k + _FEWEST_CANDIDATES)

    def build(self, vectors: Floats32) -> Any:
        """Return the FAISS index of the rows (m, e)."""
        import faiss
        from faiss.contrib.ivf_tools import add_preassigned

        index, begin = self._new_index(), 0
        faiss.copy_array_to_vector(self.codebook, _codebook(index))
        index.is_trained, index.nprobe = True, self.probes
        if self.code == "PQ":
            index.precompute_table()
        for i, size in enumerate(np.bincount(self.list_number, minlength=len(self.centroids)).tolist()):
            index.invlists.resize(i, size)  # space for all rows of the list, and no more: lists that grow take twice as much
            index.invlists.resize(i, 0)
        for block in row_blocks(vectors):
            number = self.list_number[begin : begin + len(block)].astype(np.int64)
            add_preassigned(index, np.ascontiguousarray(block), number)  # type: ignore[no-untyped-call]
            begin += len(block)
        return index

    def state(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state(cls, state: dict[str, Any], m: int, e: int) -> Self:
        """Return the lists of ``state`` for m rows of width e.

        Raises
        ------
        ValueError
            The arrays are not those of such lists: FAISS would read beyond them.
        """
        lists = cls(**state)
        count, numbers = len(lists.centroids), lists.list_number
        valid = (
            lists.code in _CANDIDATES
            and lists.centroids.shape == (count, e)
            and lists.codebook.shape == ((2 if lists.code == "SQ8" else 256) * e,)
            and numbers.shape == (m,)
            and [array.dtype for array in (lists.centroids, lists.codebook, numbers)] == [np.float32, np.float32, np.int32]
            and type(lists.probes) is int
            and 1 <= lists.probes <= count
            and all(np.isfinite(array).all() for array in (lists.centroids, lists.codebook))
            and int(numbers.min()) >= 0
            and int(numbers.max()) < count
        )
        if not valid:
            raise ValueError("the inverted lists do not fit the stored vectors")
        return lists

    def _quantizer(self) -> Any:
        import faiss

        quantizer: Any = faiss.IndexFlatL2(self.centroids.shape[1])
        quantizer.add(self.centroids)
        return quantizer

    def _new_index(self) -> Any:
        import faiss

        c, e = self.centroids.shape
        if self.code == "PQ":
            return faiss.IndexIVFPQ(self._quantizer(), e, c, e // 2 if e % 2 == 0 else e, 8)
        return faiss.IndexIVFScalarQuantizer(self._quantizer(), e, c, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2)


def _codebook(index: Any) -> Any:
    """Return the vector in which FAISS keeps what compresses the rows."""
    return index.sq.trained if hasattr(index, "sq") else index.pq.centroids
