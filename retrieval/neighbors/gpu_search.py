"""Exact search on a GPU, by torch: candidates from one matrix product and its smallest entries.

As in ``exact_search.py`` the product is rounded: all rows within its error of the k-th nearest are candidates, and their distances are
computed one by one on the CPU (``index.py``), so that the neighbours are the CPU's.

Shapes: m rows, e width, q query rows, k neighbours, w candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from nearward.retrieval.device import log_fallback
from nearward.retrieval.neighbors.exact_search import ROUNDING, ExactIndex
from nearward.tabular.typing import Floats32, Ints

_EXTRA = 32  # candidates beyond k, to begin with
_PRODUCTS = 1 << 26  # at a time: 256 MB


class GpuIndex:
    """Vectors (m, e) on a device; where a search fails there, the CPU does it, and all that follow."""

    def __init__(self, vectors: Floats32, device: torch.device) -> None:
        self._vectors, self._device = vectors, device
        self._on_cpu: ExactIndex | None = None
        self._centre = vectors.mean(axis=0)
        try:
            rows = torch.from_numpy(vectors - self._centre).to(device)
            self._sq_length = (rows * rows).sum(dim=1)
            self._rows = rows.T
            self._most = float(self._sq_length.max())
        except RuntimeError as error:
            self._fall_back(error)

    def search(self, queries: Floats32, k: int) -> tuple[None, Ints]:
        """Return, in the place of FAISS's distances, None; and indices (q, w) of the k nearest rows and of some more, in no order."""
        if self._on_cpu is None:
            try:
                step = max(1, _PRODUCTS // len(self._vectors))
                parts = [self._candidates(queries[i : i + step], k) for i in range(0, len(queries), step)]
                width = max(part.shape[1] for part in parts)
                return None, np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in parts])
            except RuntimeError as error:
                self._fall_back(error)
        assert self._on_cpu is not None
        return None, self._on_cpu.candidates(queries, k, np.empty((len(queries), len(self._vectors)), dtype=np.float32))

    def _candidates(self, queries: Floats32, k: int) -> Ints:
        query, m = torch.from_numpy(queries - self._centre).to(self._device), len(self._vectors)
        with torch.inference_mode(), _full_precision():
            product = torch.addmm(self._sq_length, query, self._rows, alpha=-2)  # squared distance less the query's squared length
        rounding = ROUNDING * ((query * query).sum(dim=1) + self._most)
        width = min(m, k + _EXTRA)
        while True:
            value, index = product.topk(width, largest=False)
            if width == m or bool((value[:, -1] > value[:, k - 1] + rounding).all()):
                return index.cpu().numpy()
            width = min(m, 2 * width)  # more rows are as near as the k-th, to rounding

    def _fall_back(self, error: Exception) -> None:
        log_fallback("an exact search", error)
        self._on_cpu = ExactIndex(self._vectors)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Do not round products of matrices to TF32 inside the block, whatever the user's setting."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
