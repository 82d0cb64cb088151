"""Nearest-neighbour search over one encoder's embeddings: exact up to 100,000 rows (``exact_search.py``), inverted lists above.

The distances of the rows that a search returns are computed again, each on its own, so that a query gets the same numbers alone and in
a batch. They are in single precision, as the vectors are. An index is a function of the vectors, and of the plain arrays of
``inverted_lists.py``: it is built at the first search, never read from disk.

Shapes: m rows of a shard, e embedding width, q query rows, k neighbours.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nearward.retrieval.device import find_device
from nearward.retrieval.neighbors.exact_search import ExactIndex
from nearward.retrieval.neighbors.gpu_search import GpuIndex
from nearward.retrieval.neighbors.inverted_lists import InvertedLists
from nearward.retrieval.neighbors.recall import furthest_distance, share_within
from nearward.retrieval.neighbors.vector_store import concatenate, row_blocks, select
from nearward.tabular.typing import Bools, Floats, Floats32, Indices, Ints

EXACT_UP_TO = 100_000
LEAST_RECALL = 0.95  # of the 200 nearest, by inverted lists
_PART_EXACT_UP_TO = 20_000  # rows of one class: few of them are searched for, and a product with all would take as long as the rest
_RECALL_NEIGHBOURS, _PART_NEIGHBOURS, _RECALL_QUERIES = 200, 10, 300
_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_CHUNK = 1 << 19  # products at a time: they fit in a cache
_FEWEST_QUERIES = 16  # of a chunk
_LARGE_CHUNK = 1024  # queries that inverted lists or a GPU search at a time
_INDEX_BITS = 2**32 - 1
_log = logging.getLogger(__name__)


class Shard:
    """Searchable vectors of some stored rows.

    Parameters
    ----------
    vectors : (m, e), in memory or mapped
    rows : (m,), their indices among all stored rows
    exact_up_to : int
        Above this many rows the search is by inverted lists, whose recall is measured; below it is exact.
    lists : InvertedLists, optional
        Those of the rows; fitted at the first search if there are none.
    """

    def __init__(self, vectors: Floats32, rows: Ints, exact_up_to: int = EXACT_UP_TO, lists: InvertedLists | None = None) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.rows = np.asarray(rows, dtype=np.int64)
        self.exact_up_to = exact_up_to
        self._lists = lists if len(self.rows) > exact_up_to else None
        self._index: Any = None
        self._lock = threading.RLock()

    @classmethod
    def from_state(cls, vectors: Floats32, rows: Ints, lists: dict[str, Any] | None) -> Shard:
        """Return a saved shard; without lists its search was exact, and stays so.

        Raises
        ------
        ValueError
            The arrays do not fit each other.
        """
        if len(vectors) != len(rows):
            raise ValueError("a shard's vectors and rows differ in number")
        if lists is None:
            return cls(vectors, rows, max(EXACT_UP_TO, len(rows)))
        return cls(vectors, rows, min(EXACT_UP_TO, len(rows) - 1), InvertedLists.from_state(lists, *vectors.shape))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the index out of a copy: it is built again."""
        return {"vectors": self.vectors, "rows": self.rows, "exact_up_to": self.exact_up_to, "lists": self._lists}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def lists(self) -> InvertedLists | None:
        """The inverted lists, fitted if need be; None where the search is exact."""
        with self._lock:
            if len(self.rows) > self.exact_up_to and self._lists is None:
                self._choose_probes(InvertedLists.fit(self.vectors), _RECALL_NEIGHBOURS)
            return self._lists

    @property
    def index(self) -> Any:
        """What finds the candidates of a search, built if need be."""
        with self._lock:
            if self._index is None:
                lists = self.lists
                if self._index is None:  # fitting lists builds it
                    self._index = _exact_index(self.vectors) if lists is None else _on_gpus(lists.build(self.vectors))
            return self._index

    @property
    def kind(self) -> str:
        """How the shard is searched, for people: "exact", or the lists with their probes and recall."""
        lists = self.lists
        if lists is None:
            return "exact"
        return f"IVF-{lists.code}, {lists.probes} of {len(lists.centroids)} lists probed, recall {lists.recall:.3f}"

    def extended(self, vectors: Floats32, rows: Ints) -> Shard:
        """Return a shard with more rows: vectors (new rows, e) and their indices. Centroids, and the lists of the present rows, stay."""
        return self.extended_to(concatenate(self.vectors, vectors), np.concatenate([self.rows, rows]))

    def extended_to(self, vectors: Floats32, rows: Ints) -> Shard:
        """Return the ``extended`` shard of all vectors and indices, the present rows first."""
        lists = None if self._lists is None else self._lists.extended(vectors[len(self.rows) :])
        return Shard(vectors, rows, self.exact_up_to, lists)

    def without(self, removed: Bools) -> Shard:
        """Return a shard without some of its rows (mask, (m,)). Centroids, and the lists of the others, stay."""
        return self._select(~removed)

    def subset(self, rows: Ints) -> Shard:
        """Return a shard of some of these rows (all of them must be in this one), of which a query wants about ten.

        Where this one has inverted lists and the part is large, it keeps them, and probes as many as ten neighbours need.
        """
        chosen, lists = np.isin(self.rows, rows), self.lists
        if lists is None:
            return self._select(chosen)
        part = self._select(chosen, min(self.exact_up_to, _PART_EXACT_UP_TO))
        if part._lists is not None:
            part._choose_probes(part._lists, _PART_NEIGHBOURS)
        return part

    def renumbered(self, rows: Ints) -> Shard:
        """Return a shard of the same vectors under other indices (m,)."""
        return Shard(self.vectors, rows, self.exact_up_to, self._lists)

    def _select(self, chosen: Bools, exact_up_to: int | None = None) -> Shard:
        limit = self.exact_up_to if exact_up_to is None else exact_up_to
        lists = self._lists.select(chosen) if self._lists is not None and chosen.sum() > limit else None
        return Shard(select(self.vectors, chosen), self.rows[chosen], limit, lists)

    def duplicates(self, row: int) -> Ints:
        """Return the indices of the rows with the same vector as ``row``, itself among them."""
        by_row, hashes, by_hash = self._hashes
        position = by_row[np.searchsorted(self.rows, row, sorter=by_row)]
        wanted = _hash(self.vectors[position : position + 1])[0]
        alike = by_hash[np.searchsorted(hashes, wanted) : np.searchsorted(hashes, wanted, side="right")]
        return np.asarray(self.rows[alike[(self.vectors[alike] == self.vectors[position]).all(axis=1)]])

    @cached_property
    def _hashes(self) -> tuple[Indices, Ints, Indices]:
        """The order of the rows by their index, the vectors' hashes in order, and the rows in the order of their hashes: (m,) each."""
        hashes = np.concatenate([np.zeros(0, dtype=np.int64), *map(_hash, row_blocks(self.vectors))])
        by_hash = np.argsort(hashes, kind="stable")
        return np.argsort(self.rows, kind="stable"), hashes[by_hash], by_hash

    def search(self, queries: Floats | Floats32, k: int) -> tuple[Floats, Ints]:
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
        index, lists = self.index, self._lists
        on_cpu = isinstance(index, ExactIndex)
        step = max(_FEWEST_QUERIES, _CHUNK // len(self.rows)) if on_cpu else _LARGE_CHUNK
        width = len(self.rows) if on_cpu else 0
        buffer = np.empty((min(step, len(queries)), width), dtype=np.float32)
        for begin in range(0, len(queries), step):
            query = np.ascontiguousarray(queries[begin : begin + step], dtype=np.float32)
            if isinstance(index, ExactIndex):
                candidates = index.candidates(query, available, buffer)
            else:
                candidates = index.search(query, lists.candidates(available) if lists else available)[1]  # -1 where lists ran out
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

    def _choose_probes(self, lists: InvertedLists, neighbours: int) -> None:
        """Search by these lists, and probe as many as the recall needs; where half of them do not suffice, the search is exact."""
        m = len(self.rows)
        trial, k = Shard(self.vectors, self.rows, self.exact_up_to, lists), min(neighbours, m - 1)
        queries = np.ascontiguousarray(self.vectors[:: max(1, m // _RECALL_QUERIES)])
        furthest = furthest_distance(self.vectors, queries, k + 1)
        for probes in _PROBES:
            if probes > len(lists.centroids) / 2:
                break
            _set_probes(trial.index, probes)
            share = ((k + 1) * share_within(trial.search(queries, k + 1)[0], furthest) - 1) / k  # a query finds itself: it does not count
            recall = float(share.mean())
            _log.info("%d rows: recall %.3f of the %d nearest by %d of %d lists", m, recall, k, probes, len(lists.centroids))
            if recall - 2 * float(share.std()) / len(share) ** 0.5 >= LEAST_RECALL:
                self._lists, self._index = replace(lists, probes=probes, recall=recall), trial.index
                return
        _log.info("%d rows are searched exactly: recall stays below %g", m, LEAST_RECALL)
        self._lists, self.exact_up_to = None, m


def _hash(vectors: Floats32) -> Ints:
    """Return a hash of each vector (m, e); -0.0 counts as 0.0."""
    factors = np.random.default_rng(0).integers(2**63, dtype=np.uint64, size=vectors.shape[1]) | np.uint64(1)
    return np.asarray(((vectors + np.float32(0)).view(np.uint32).astype(np.uint64) * factors).sum(axis=1).view(np.int64))


def measure_recall(shard: Shard, queries: Floats32, k: int) -> Floats:
    """Return for each query the share of its k nearest rows that the shard's search returns (q,).

    Rows as near as the k-th count too: it does not matter which of several equally near rows came. The exact search reads the vectors
    block by block.

    Parameters
    ----------
    shard : Shard
    queries : (q, e), at least one
    k : int, from 1 to the shard's rows
    """
    return share_within(shard.search(queries, k)[0], furthest_distance(shard.vectors, queries, k))


def _exact_index(vectors: Floats32) -> Any:
    import faiss

    if len(vectors) and not _has_gpus():
        device = find_device()
        return ExactIndex(vectors) if device.type == "cpu" else GpuIndex(vectors, device)
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return _on_gpus(index)


def _has_gpus() -> bool:
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0  # a faiss built for GPUs was put in place of faiss-cpu


def _on_gpus(index: Any) -> Any:
    import faiss

    return faiss.index_cpu_to_all_gpus(index) if _has_gpus() else index


def _set_probes(index: Any, probes: int) -> None:
    import faiss

    space = faiss.GpuParameterSpace() if _has_gpus() else faiss.ParameterSpace()
    space.set_index_parameter(index, "nprobe", probes)
