"""Gradual block dropout: whole blocks of columns (labs, vitals, a questionnaire) are taken from rows in training, more and more often.

A site that lacks a block asks about rows that the encoder has never seen the like of. An encoder that lost each block now and then
has learned to place a patient by what is left, beside the stored patients who have everything: a row loses its blocks alone, so that both
kinds stand in one batch. The probability rises, so that the encoder first learns from whole rows.

Letters: b rows of a batch, p encoded columns, k blocks.

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

_WHOLE = 0.2  # of the training goes by before the first block is dropped
_RISEN = 0.7  # of the training: from here on the probability is the full one


@dataclass(frozen=True)
class BlockDropout:
    """What is dropped, and how often in the end.

    Parameters
    ----------
    block : (p,), number of each dense column's block, -1 for none
    absent : (p,), what a column reads where its block is missing
    rate : float, probability that a row loses a block, at the end of the training
    """

    block: Tensor
    absent: Tensor
    rate: float

    @classmethod
    def of(cls, layout: FeatureLayout | None, rate: float) -> BlockDropout:
        """Read a layout.

        Raises
        ------
        InputError
            There are no blocks to drop.
        """
        if layout is None or not layout.blocks:
            raise InputError(NO_BLOCKS)
        return cls(torch.as_tensor(layout.block), torch.as_tensor(layout.absent, dtype=torch.float32), rate)

    def __call__(self, x: Tensor, done: float, rng: torch.Generator) -> Tensor:
        """Take blocks from rows.

        Parameters
        ----------
        x : (b, p)
        done : float, share of the training that is behind us
        rng : torch.Generator

        Returns
        -------
        (b, p) : x with every cell of a lost block as if it were missing
        """
        blocks = int(self.block.max()) + 1
        lost = torch.rand((len(x), blocks), generator=rng) < self.rate * risen(done)  # (b, k)
        lost = torch.cat([lost, torch.zeros((len(x), 1), dtype=torch.bool)], dim=1)  # block -1: none, and never lost
        return torch.where(lost[:, self.block], self.absent, x)


def risen(done: float) -> float:
    """Return which part of the full probability is in force when this share of the training is behind us: 0, then a line up to 1.

    Examples
    --------
    >>> [round(risen(done), 2) for done in (0.0, 0.2, 0.45, 0.7, 1.0)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    return min(1.0, max(0.0, (done - _WHOLE) / (_RISEN - _WHOLE)))
