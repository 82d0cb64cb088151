"""A classification head that is not learned: class directions at equal angles, so that a rare class has as much room as a common one.

A learned head lets the frequent classes push the directions of the rare ones together. Fixed as the corners of a simplex, they stay as far
apart as directions can be, and the dot-regression loss pulls each row to its class's corner without pushing it from the others.

Letters: b rows of a batch, c classes, w units.

References
----------
Yang and others: Inducing neural collapse in imbalanced learning: do we really need a learnable classifier at the end of deep neural
network? (2022). Papyan, Han, Donoho: Prevalence of neural collapse during the terminal phase of deep learning training (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.tabular.errors import InputError

FEWEST_CLASSES = 4
_SHARPNESS = 10.0  # log-odds are this times the cosine: a scale only, every class is calibrated afterwards


def simplex_frame(classes: int, width: int, rng: torch.Generator) -> Tensor:
    """Return c unit vectors (c, w) with equal angles: every cosine is -1 / (c - 1).

    Parameters
    ----------
    classes : int, c
    width : int, w, at least c
    rng : torch.Generator, turns the frame

    Raises
    ------
    InputError
        More classes than units.
    """
    if width < classes:
        raise InputError(f"a simplex of {classes} classes needs at least as many units, got hidden={width}")
    turn, _ = torch.linalg.qr(torch.randn((width, classes), generator=rng, dtype=torch.float64))
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    frame: Tensor = (classes / (classes - 1)) ** 0.5 * centred @ turn.T
    return frame.float()


def dot_regression(cosine: Tensor, outcome: Tensor) -> Tensor:
    """Return the mean of ``(cosine to the row's own corner - 1)² / 2``.

    Parameters
    ----------
    cosine : (b, c)
    outcome : (b,), class numbers
    """
    own = cosine.gather(1, outcome[:, None]).squeeze(1)
    return ((own - 1) ** 2).mean() / 2


class SimplexHead(nn.Module):
    """Log-odds of c classes from hidden units (b, w), by the cosine to fixed corners; only the turn towards them is learned."""

    frame: Tensor

    def __init__(self, hidden: int, classes: int, rng: torch.Generator) -> None:
        super().__init__()
        if classes < FEWEST_CLASSES:
            raise InputError(f'head="simplex" is for {FEWEST_CLASSES} classes or more, got {classes} classes')
        self.turn = nn.Linear(hidden, hidden)
        self.register_buffer("frame", simplex_frame(classes, hidden, rng))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log-odds (b, c)."""
        return _SHARPNESS * F.normalize(self.turn(hidden), dim=1) @ self.frame.T.to(hidden.dtype)

    @staticmethod
    def loss(logit: Tensor, outcome: Tensor) -> Tensor:
        """Return the dot-regression loss of what ``forward`` gave."""
        return dot_regression(logit / _SHARPNESS, outcome)
