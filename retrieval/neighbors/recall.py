"""Recall of an approximate search: the share of the exact nearest rows among those that it returns.

Rows as near as the k-th count too: it does not matter which of several equally near rows came.

Shapes: m rows, e width, q query rows, k neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

from nearward.retrieval.neighbors.exact_search import ROUNDING
from nearward.retrieval.neighbors.vector_store import row_blocks
from nearward.tabular.typing import Floats, Floats32

_BLOCK = 8192  # rows whose distances from all queries are in memory at a time


def share_within(sq_distance: Floats, furthest: Floats) -> Floats:
    """Return the share (q,) of the squared distances (q, k) that are no larger than their query's (q,)."""
    return np.asarray((sq_distance <= furthest[:, None]).mean(axis=1))


def furthest_distance(vectors: Floats32, queries: Floats32, k: int) -> Floats:
    """Return the squared distance of each query's k-th nearest row (q,), rounded up by what a product in single precision may lose."""
    centre = np.asarray(next(row_blocks(vectors)).mean(axis=0))  # short vectors: less rounding
    query = torch.from_numpy(queries.astype(np.float32) - centre)
    nearest, longest = np.full((len(queries), k), np.inf, dtype=np.float32), 0.0
    query_length = (query**2).sum(dim=1, keepdim=True)
    for block in row_blocks(vectors, _BLOCK):
        row = torch.from_numpy(block - centre)
        length = (row**2).sum(dim=1)
        longest = max(longest, float(length.max()))
        sq_distance = (query_length + length - 2 * query @ row.T).numpy()  # (q, rows)
        for i in np.flatnonzero((sq_distance < nearest[:, -1:]).any(axis=1)):
            nearer = sq_distance[i][sq_distance[i] < nearest[i, -1]]
            nearest[i] = np.sort(np.concatenate([nearest[i], nearer]))[:k]
    return np.asarray(nearest[:, -1] + ROUNDING * (query_length.numpy()[:, 0] + longest), dtype=np.float64)
