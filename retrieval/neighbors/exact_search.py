"""Exact search by blocks of one matrix product, where the neighbours are hundreds: twice as fast as a flat FAISS index.

The product is in single precision, and rounding may exchange rows that are nearly equally far. What it gives are therefore candidates: the
k nearest and somewhat more. Their distances are computed one by one (``index.py``).

Few products are looked at: a sample of them gives each query a threshold that a little more than k do not exceed.

Shapes: m rows, e width, q query rows, k neighbours, w candidates.
"""

from __future__ import annotations

import numpy as np
import torch

from nearward.tabular.typing import Floats32, Ints

_SAMPLE = 512  # columns
ROUNDING = 1e-6  # error of a product, in units of the squared lengths


class ExactIndex:
    """Vectors (m, e), arranged for the product: in random order, so that the first columns are a sample."""

    def __init__(self, vectors: Floats32) -> None:
        self._order = np.random.default_rng(0).permutation(len(vectors))
        self._centre = vectors.mean(axis=0)  # short vectors: less rounding
        centred = vectors[self._order] - self._centre
        sq_length = np.einsum("me,me->m", centred, centred)
        self._most = float(sq_length.max())
        self._factors = torch.from_numpy(np.ascontiguousarray(np.column_stack([centred, sq_length]).T))  # (e + 1, m)

    def candidates(self, queries: Floats32, k: int, buffer: Floats32) -> Ints:
        """Return the indices (q, w) of the k nearest rows and of some more, in no order; -1 in empty places.

        Parameters
        ----------
        queries : (q, e), at least one
        k : int, from 1 to m
        buffer : (at least q, m), overwritten: a fresh array of this size costs as much as the product
        """
        centred, product = queries - self._centre, buffer[: len(queries)]
        with torch.inference_mode():
            left = torch.from_numpy(np.column_stack([-2 * centred, np.ones(len(queries), dtype=np.float32)]))
            torch.mm(left, self._factors, out=torch.from_numpy(product))  # squared distance less the query's squared length
        rounding = ROUNDING * (np.einsum("qe,qe->q", centred, centred) + self._most)[:, None]
        threshold = _thresholds(product, k) + rounding
        flat, count = _not_above(product, threshold)
        short = count < k
        if short.any():  # once in about a thousand queries
            threshold[short] = np.partition(product[short], k - 1, axis=1)[:, k - 1 : k] + rounding[short]
            flat, count = _not_above(product, threshold)
        index = np.full((len(queries), int(count.max())), -1, dtype=np.int64)
        index[np.arange(index.shape[1]) < count[:, None]] = self._order[flat % product.shape[1]]
        return index


def _thresholds(product: Floats32, k: int) -> Floats32:
    """Return for each query a number (q, 1) that at least k of its products (q, m) do not exceed, or nearly as many."""
    sample = product[:, :_SAMPLE]
    expected = k * sample.shape[1] / product.shape[1]  # of the k nearest in the sample; the rank is three standard errors above it
    rank = k - 1 if product.shape[1] <= _SAMPLE else int(expected + 3 * expected**0.5 + 3)
    if rank >= sample.shape[1]:
        return np.full((len(product), 1), np.inf, dtype=np.float32)
    return np.asarray(np.partition(sample, rank, axis=1)[:, rank : rank + 1])


def _not_above(product: Floats32, threshold: Floats32) -> tuple[Ints, Ints]:
    """Return where products (q, m) do not exceed their query's threshold (q, 1), as indices of the flat array, and how many (q,)."""
    flat = np.flatnonzero(product <= threshold)
    return flat, np.diff(np.searchsorted(flat, np.arange(len(product) + 1) * product.shape[1]))
