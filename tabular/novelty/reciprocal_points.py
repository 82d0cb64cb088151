"""Reciprocal points: for each class a point for all that is not of it; a row belongs to the class whose point it is farthest from.

Known classes are pushed outwards, each away from its own point, and a learned margin keeps them within reach: what is like none of them is
left near the points, in the middle.

Letters: n rows, p columns, e embedding width, k classes, b rows a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

_HIDDEN, _BATCH = 96, 256
_RATE, _DECAY, _DROPPED = 2e-3, 1e-3, 0.1
_MARGIN, _SCATTER = 0.1, 0.1  # weights of the hinge and of the scatter beside the cross-entropy


@dataclass(frozen=True)
class Points:
    """A trained embedding with one reciprocal point a class.

    Parameters
    ----------
    inward, outward : (p + 1, hidden), (hidden + 1, e), the last row added to all
    point : (k, e)
    margin : float, squared distance per dimension within which a class keeps to its point
    """

    inward: Floats
    outward: Floats
    point: Floats
    margin: float

    def place(self, x: Floats) -> Floats:
        """Return the embeddings (n, e) of rows (n, p)."""
        hidden = np.maximum(x @ self.inward[:-1] + self.inward[-1], 0.0)
        return np.asarray(hidden @ self.outward[:-1] + self.outward[-1])

    def distances(self, x: Floats) -> Floats:
        """Return each row's distance to each class's point (n, k): ``‖z - P‖² / e - cos(z, P)``."""
        z = self.place(x)
        squared = (z**2).sum(axis=1)[:, None] + (self.point**2).sum(axis=1) - 2 * z @ self.point.T
        size = np.linalg.norm(z, axis=1)[:, None] * np.linalg.norm(self.point, axis=1)
        return np.asarray(squared / z.shape[1] - z @ self.point.T / np.maximum(size, 1e-12))


def learn_points(x: Floats, code: Ints, width: int, steps: int, seed: int) -> Points:
    """Train on rows (n, p) with class numbers (n,) from 0, each class weighing the same.

    Loss: cross-entropy of the distances, the hinge of a row's distance to its own class's point beyond the learned margin, and the scatter
    within classes over the scatter between them.

    References
    ----------
    Chen, Peng, Wang, Tian: Adversarial reciprocal points learning for open set recognition (2021); RPM-Net, its form for network attacks.
    """
    import torch
    from torch.nn import functional as F

    classes = int(code.max()) + 1
    weight = torch.as_tensor(len(code) / (classes * np.bincount(code)), dtype=torch.float32)
    with single_threaded():
        rng = torch.Generator().manual_seed(seed)
        inward, outward = _affine(x.shape[1], _HIDDEN, rng), _affine(_HIDDEN, width, rng)
        point = (0.1 * torch.randn(classes, width, generator=rng)).requires_grad_()
        margin = torch.ones(1, requires_grad=True)
        optimiser = torch.optim.AdamW([inward, outward, point, margin], lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        rows, label = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(code)
        for _ in range(steps):
            chosen = torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)
            hidden = (rows[chosen] @ inward[:-1] + inward[-1]).relu()
            hidden = hidden * (torch.rand(hidden.shape, generator=rng) >= _DROPPED) / (1 - _DROPPED)
            z, y = hidden @ outward[:-1] + outward[-1], label[chosen]  # (b, e), (b,)
            squared = ((z[:, None] - point) ** 2).mean(dim=2)  # (b, k)
            far = squared - F.cosine_similarity(z[:, None], point[None], dim=2)
            beyond = (squared.gather(1, y[:, None]).squeeze(1) - margin).relu()
            loss = F.cross_entropy(far, y, weight) + _MARGIN * (weight[y] * beyond).mean() + _SCATTER * _scatter(z, y, classes)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    first, second, points = (part.detach().double().numpy() for part in (inward, outward, point))
    return Points(first, second, points, float(margin.detach()))


def _scatter(z: Any, y: Any, classes: int) -> Any:
    """Mean squared distance to the class's mean, over that of the classes' means to theirs; classes count alike."""
    from torch.nn import functional as F

    member = F.one_hot(y, classes).to(z.dtype)  # (b, k)
    rows = member.sum(dim=0)
    there = rows > 0
    mean = member.T @ z / rows.clamp(min=1)[:, None]  # (k, e)
    within = (member.T @ ((z - mean[y]) ** 2).sum(dim=1) / rows.clamp(min=1))[there].mean()
    between = ((mean[there] - mean[there].mean(dim=0)) ** 2).sum(dim=1).mean()
    return within / (between + 1e-3)


def _affine(inputs: int, outputs: int, rng: Any) -> Any:
    import torch

    drawn = torch.randn(inputs + 1, outputs, generator=rng) * (2 / inputs) ** 0.5
    drawn[-1] = 0.0
    return drawn.requires_grad_()
