"""Gradual block dropout: whole blocks of columns (labs, vitals, a questionnaire) are masked in training, more and more often.

At a site that lacks a block every query row lacks it, and an encoder trained on complete rows has seen no such row. With block dropout
it learns to embed a patient from the remaining blocks, near stored patients with complete rows: each row loses its blocks independently,
so that complete and incomplete rows share a batch. The probability rises, so that the encoder first learns from complete rows.

Shapes: b rows of a batch, p encoded columns, k blocks.

References
----------
After modality dropout (Neverova and others: ModDrop, 2016) and its gradual introduction; blocks of a table are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearward.tabular.data.feature_blocks import NO_BLOCKS
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout

_RAMP_START, _RAMP_END = 0.2, 0.7  # shares of the training between which the probability rises from 0 to its final value


@dataclass(frozen=True)
class BlockDropout:
    """Random masking of blocks of columns.

    Parameters
    ----------
    block : (p,), number of each dense column's block, -1 for none
    absent : (p,), value of each dense column where its block is missing
    rate : float, final probability that a row loses a block
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

    def __call__(self, x: Tensor, progress: float, rng: torch.Generator) -> Tensor:
        """Return rows (b, p) with random blocks as if they were missing; ``progress`` is the completed share of the training."""
        blocks = int(self.block.max()) + 1
        drop = torch.rand((len(x), blocks), generator=rng) < self.rate * ramp(progress)  # (b, k)
        drop = torch.cat([drop, torch.zeros((len(x), 1), dtype=torch.bool)], dim=1)  # block -1: none, never dropped
        return torch.where(drop[:, self.block], self.absent, x)


def ramp(progress: float) -> float:
    """Return the current share of the final probability after this share of the training: 0, then a line up to 1.

    Examples
    --------
    >>> [round(ramp(progress), 2) for progress in (0.0, 0.2, 0.45, 0.7, 1.0)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    return min(1.0, max(0.0, (progress - _RAMP_START) / (_RAMP_END - _RAMP_START)))
