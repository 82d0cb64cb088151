"""Layers of a small ensemble: members that share their matrices and differ in scales and biases of the units.

Shapes: m members, b rows of a batch, p inputs, h hidden units, c classes.

References
----------
Gorishniy, Kotelnikov, Babenko: TabM: advancing tabular deep learning with parameter-efficient ensembling (2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MemberLinear(nn.Module):
    """A linear layer of m members that share its matrix; each has scales (m, 1, h) and biases of the units of its own."""

    def __init__(self, inputs: int, units: int, scale: Tensor) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, units)
        self.scale, self.bias = nn.Parameter(scale), nn.Parameter(torch.zeros_like(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return units (m, b, h) of inputs (b, p) that are the same for all members, or of each member's own (m, b, p)."""
        out: Tensor = self.shared(x) * self.scale + self.bias
        return out


def random_signs(members: int, units: int) -> Tensor:
    """Return scales of 1 or -1, (m, 1, h), so that members differ from the first step."""
    return torch.randint(0, 2, (members, 1, units)) * 2.0 - 1


class MemberHead(nn.Module):
    """Log-odds of each member, (m, b) or (m, b, c), from its hidden units (m, b, h)."""

    def __init__(self, hidden: int, classes: int, members: int) -> None:
        super().__init__()
        outputs = 1 if classes == 2 else classes
        self.weight = nn.Parameter(torch.randn(members, hidden, outputs) / hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the members' log-odds."""
        return (hidden @ self.weight + self.bias).squeeze(2)


def mean_log_odds(member_logits: Tensor) -> Tensor:
    """Return the log-odds (b,) of members' mean probability, from (m, b); or log-probabilities (b, c), from (m, b, c)."""
    if member_logits.ndim == 3:
        return member_logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(member_logits))
    return F.logsigmoid(member_logits).logsumexp(dim=0) - F.logsigmoid(-member_logits).logsumexp(dim=0)


def dropout(x: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
    """Drop units with probability ``rate``; none without a generator."""
    return x if rng is None else x * dropout_mask(x.shape, rate, rng).to(x.device) / (1 - rate)


def dropout_mask(shape: torch.Size, rate: float, rng: torch.Generator) -> Tensor:
    """Return a boolean mask that is False with probability ``rate``."""
    return torch.rand(shape, generator=rng) >= rate
