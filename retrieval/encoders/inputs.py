"""Rows as encoders read them: the dense encoding, and the levels of categories without features of their own in it.

Shapes: n rows, p encoded columns, c category columns, l list columns, b rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearward.tabular.preprocessing.level_indices import LevelIndices
from nearward.tabular.typing import Floats

_CATEGORY_WIDTH, _LIST_WIDTH = 8, 16  # of the embedding of a level, and of a list's mean


@dataclass(frozen=True)
class EncoderInputs:
    """The rows of a table for encoders and metrics.

    Parameters
    ----------
    dense : (n, p), the dense encoding
    levels : LevelIndices
        Category columns that the dense encoding has by frequency alone, and list columns (``TableEncoder.levels_to_embed``).
    """

    dense: Floats
    levels: LevelIndices

    @classmethod
    def of(cls, rows: Floats | EncoderInputs) -> EncoderInputs:
        """Return rows as they are; a dense encoding (n, p) becomes rows without levels."""
        if isinstance(rows, EncoderInputs):
            return rows
        return cls(rows, LevelIndices(np.zeros((len(rows), 0), dtype=np.int64), ()))

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: NDArray[Any] | slice) -> EncoderInputs:
        """Return some of the rows."""
        index = np.arange(len(self))[rows]
        return EncoderInputs(self.dense[index], self.levels.take(index))


class LevelEmbedding(nn.Module):
    """A vector for each level of each column, learned with the encoder; 0 for level 0: missing, rare or unseen.

    Parameters
    ----------
    n_levels : tuple of int, (c,)
        Levels of each category column, level 0 included.
    n_codes : tuple of int, (l,)
        Levels of each list column, whose vectors are averaged over a row's codes.
    """

    def __init__(self, n_levels: tuple[int, ...], n_codes: tuple[int, ...]) -> None:
        super().__init__()
        self.n_levels, self.n_codes = n_levels, n_codes
        self.categories = nn.ModuleList(nn.Embedding(n, _CATEGORY_WIDTH, padding_idx=0) for n in n_levels)
        self.lists = nn.ModuleList(nn.EmbeddingBag(n, _LIST_WIDTH, mode="mean", padding_idx=0) for n in n_codes)
        for table in (*self.categories, *self.lists):
            nn.init.normal_(table.weight, 0, _CATEGORY_WIDTH**-0.5)
            with torch.no_grad():
                table.weight[0] = 0

    @property
    def width(self) -> int:
        """Width of a row's embeddings, side by side."""
        return _CATEGORY_WIDTH * len(self.categories) + _LIST_WIDTH * len(self.lists)

    def forward(self, levels: LevelIndices) -> Tensor:
        """Return the embeddings of b rows: (b, width)."""
        device = next(self.parameters()).device
        codes = torch.as_tensor(levels.categories, device=device)
        parts = [table(codes[:, j]) for j, table in enumerate(self.categories)]
        parts += [
            table(torch.as_tensor(bags.indices, device=device), torch.as_tensor(bags.offsets[:-1], device=device))
            for table, bags in zip(self.lists, levels.lists, strict=True)
        ]
        return torch.cat(parts, dim=1)
