"""A fixed classification head: class directions at equal angles, so that a rare class has as much room as a common one.

In a learned head the frequent classes push the directions of the rare ones together. The vertices of a simplex are as far apart as
directions can be, and the dot-regression loss pulls each row towards the vertex of its class without pushing it from the others.

Shapes: b rows of a batch, c classes, w units.

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
_LOGIT_SCALE = 10.0  # log-odds are this times the cosine: a scale only, every class is calibrated afterwards


class SimplexHead(nn.Module):
    """Log-odds of c classes from hidden units (…, w), by the cosine to fixed vertices; only the projection is learned."""

    frame: Tensor

    def __init__(self, hidden: int, classes: int, rng: torch.Generator) -> None:
        super().__init__()
        if classes < FEWEST_CLASSES:
            raise InputError(f'head="simplex" is for {FEWEST_CLASSES} classes or more, got {classes} classes')
        self.proj = nn.Linear(hidden, hidden)
        on_meta = torch.get_default_device().type == "meta"  # where saved weights are checked: shapes alone
        self.register_buffer("frame", torch.empty(classes, hidden) if on_meta else simplex_frame(classes, hidden, rng))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log-odds (…, c)."""
        return _LOGIT_SCALE * F.normalize(self.proj(hidden), dim=-1) @ self.frame.T.to(hidden.dtype)

    @staticmethod
    def loss(logit: Tensor, outcome: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the dot-regression loss of the log-odds of ``forward``."""
        return dot_regression(logit / _LOGIT_SCALE, outcome, weight)


def simplex_frame(classes: int, width: int, rng: torch.Generator) -> Tensor:
    """Return c unit vectors (c, w) with equal angles: every cosine is -1 / (c - 1).

    Parameters
    ----------
    classes : int, c
    width : int, w, at least c
    rng : torch.Generator, for the frame's random rotation

    Raises
    ------
    InputError
        More classes than units.
    """
    if width < classes:
        raise InputError(f"a simplex of {classes} classes needs at least as many units, got hidden={width}")
    rotation, _ = torch.linalg.qr(torch.randn((width, classes), generator=rng, dtype=torch.float64))
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    frame: Tensor = (classes / (classes - 1)) ** 0.5 * centred @ rotation.T
    return frame.float()


def dot_regression(cosine: Tensor, outcome: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean of ``(cosine to the vertex of the row's own class - 1)² / 2``, from cosines (b, c) and class numbers (b,).

    ``weight`` (b,) multiplies each row's part of the mean.
    """
    sq_error = (cosine.gather(1, outcome.long()[:, None]).squeeze(1) - 1) ** 2
    return (sq_error if weight is None else sq_error * weight).mean() / 2
