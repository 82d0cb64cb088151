"""Block dropout: whole blocks of columns (labs, vitals, a questionnaire) are masked in training.

At a site that lacks a block every query row lacks it, and an encoder trained on complete rows has seen no such row. With block dropout
it learns to embed a patient from the remaining blocks, near stored patients with complete rows: each row loses its blocks independently,
so that complete and incomplete rows share a batch.

Shapes: b rows of a batch, p encoded columns, k blocks.

References
----------
After modality dropout (Neverova and others: ModDrop, 2016); blocks of a table are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_blocks import NO_BLOCKS
from nearward.tabular.preprocessing.feature_layout import FeatureLayout


@dataclass(frozen=True)
class BlockDropout:
    """Random masking of blocks of columns.

    Parameters
    ----------
    block : (p,), number of each dense column's block, -1 for none
    absent : (p,), value of each dense column where its block is missing
    rate : float, probability that a row loses a block
    """

    block: Tensor
    absent: Tensor
    rate: float

    @classmethod
    def of(cls, layout: FeatureLayout | None, rate: float) -> BlockDropout:
        """Take the blocks from a layout.

        Raises
        ------
        InputError
            The layout has no blocks.
        """
        if layout is None or not layout.block_names:
            raise InputError(NO_BLOCKS)
        return cls(torch.as_tensor(layout.block), torch.as_tensor(layout.missing_value, dtype=torch.float32), rate)

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return rows (b, p) with random blocks as if they were missing."""
        blocks = int(self.block.max()) + 1
        drop = torch.rand((len(x), blocks), generator=rng) < self.rate  # (b, k)
        drop = torch.cat([drop, torch.zeros((len(x), 1), dtype=torch.bool)], dim=1)  # block -1: none, never dropped
        return torch.where(drop[:, self.block].to(x.device), self.absent.to(x.device), x)
