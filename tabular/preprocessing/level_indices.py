"""Categories and lists of codes as indices of embedding tables: what networks read beside the dense features.

Index 0 of every column is for a value without a level of its own: missing, in few stored rows, or in none. An encoder that gives it a
fixed zero vector (``padding_idx=0`` in PyTorch) leaves such a value without effect.

Shapes: n rows, c category columns, l list columns, v codes of all n rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.typing import Ints


@dataclass(frozen=True)
class CodeBags:
    """One list column of n rows, as ``torch.nn.EmbeddingBag`` takes it: row i has ``indices[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    indices : (v,), from 0, below ``n_levels``
    offsets : (n + 1,), from 0 to v
        PyTorch takes the last one with ``include_last_offset=True``.
    n_levels : int
        Size of the embedding table, index 0 included.
    """

    indices: Ints
    offsets: Ints
    n_levels: int

    def take(self, rows: NDArray[Any]) -> CodeBags:
        """Return some of the rows."""
        length = np.diff(self.offsets)[rows]
        offsets = np.append(0, np.cumsum(length))
        position = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], length)
        return CodeBags(self.indices[position], offsets, self.n_levels)


@dataclass(frozen=True)
class LevelIndices:
    """Levels of n rows, column by column.

    Levels are numbered from 1 by falling frequency in the stored rows, equally frequent ones by their text.

    Parameters
    ----------
    categories : (n, c), from 0, below ``n_levels`` of the column, in the order of ``TableEncoder.categorical``
    n_levels : tuple of int, c of them
        Sizes of the embedding tables, index 0 included.
    lists : tuple of CodeBags, l of them
        The list columns, in their order in the schema.
    """

    categories: Ints
    n_levels: tuple[int, ...]
    lists: tuple[CodeBags, ...] = ()

    def take(self, rows: NDArray[Any]) -> LevelIndices:
        """Return some of the rows."""
        return LevelIndices(self.categories[rows], self.n_levels, tuple(bags.take(rows) for bags in self.lists))

    def select(self, columns: Sequence[int]) -> LevelIndices:
        """Return some of the category columns, and all list columns."""
        index = list(columns)
        return LevelIndices(self.categories[:, index], tuple(self.n_levels[j] for j in index), self.lists)
