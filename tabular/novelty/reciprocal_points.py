"""Reciprocal points (ARPL): each class has a point that represents all other classes; a row belongs to the class whose point is farthest.

Known classes are pushed outwards, away from their own points, within a learned margin. A row of an unknown class stays near the points, in
the middle.

Shapes: n rows, p columns, e embedding width, k classes, b rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

_HIDDEN, _BATCH = 96, 256
_LEARNING_RATE, _WEIGHT_DECAY, _DROPOUT = 2e-3, 1e-3, 0.1
_MARGIN, _SCATTER = 0.1, 0.1  # weights of the hinge and of the scatter beside the cross-entropy


@dataclass(frozen=True)
class ReciprocalPoints:
    """A trained embedding with one reciprocal point per class.

    Parameters
    ----------
    hidden_layer, output_layer : (p + 1, hidden), (hidden + 1, e), the last row is the bias
    points : (k, e)
    margin : float, squared distance per dimension within which a class stays to its point
    """

    hidden_layer: Floats
    output_layer: Floats
    points: Floats
    margin: float

    def embed(self, x: Floats) -> Floats:
        """Return the embeddings (n, e) of rows (n, p)."""
        hidden = np.maximum(x @ self.hidden_layer[:-1] + self.hidden_layer[-1], 0.0)
        return np.asarray(hidden @ self.output_layer[:-1] + self.output_layer[-1])

    def distances(self, x: Floats) -> Floats:
        """Return each row's distance to each class's point (n, k): ``‖z - P‖² / e - cos(z, P)``."""
        z = self.embed(x)
        sq_distance = (z**2).sum(axis=1)[:, None] + (self.points**2).sum(axis=1) - 2 * z @ self.points.T
        norm = np.linalg.norm(z, axis=1)[:, None] * np.linalg.norm(self.points, axis=1)
        return np.asarray(sq_distance / z.shape[1] - z @ self.points.T / np.maximum(norm, 1e-12))


def fit_reciprocal_points(x: Floats, class_index: Ints, width: int, steps: int, seed: int) -> ReciprocalPoints:
    """Train on rows (n, p) with class indices (n,), all classes weighted equally.

    The loss is the cross-entropy of the distances, plus the hinge of a row's distance to its own class's point above the learned margin,
    plus the scatter within classes over the scatter between them.

    References
    ----------
    Chen, Peng, Wang, Tian: Adversarial reciprocal points learning for open set recognition (2021); RPM-Net, its form for network attacks.
    """
    import torch
    from torch.nn import functional as F

    n_classes = int(class_index.max()) + 1
    class_weight = torch.as_tensor(len(class_index) / (n_classes * np.bincount(class_index)), dtype=torch.float32)
    with single_threaded():
        rng = torch.Generator().manual_seed(seed)
        hidden_layer, output_layer = _affine(x.shape[1], _HIDDEN, rng), _affine(_HIDDEN, width, rng)
        points = (0.1 * torch.randn(n_classes, width, generator=rng)).requires_grad_()
        margin = torch.ones(1, requires_grad=True)
        optimizer = torch.optim.AdamW([hidden_layer, output_layer, points, margin], lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        rows, labels = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(class_index)
        for _ in range(steps):
            batch = torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)
            hidden = (rows[batch] @ hidden_layer[:-1] + hidden_layer[-1]).relu()
            hidden = hidden * (torch.rand(hidden.shape, generator=rng) >= _DROPOUT) / (1 - _DROPOUT)
            z, y = hidden @ output_layer[:-1] + output_layer[-1], labels[batch]  # (b, e), (b,)
            sq_distance = ((z[:, None] - points) ** 2).mean(dim=2)  # (b, k)
            distance = sq_distance - F.cosine_similarity(z[:, None], points[None], dim=2)
            hinge = (sq_distance.gather(1, y[:, None]).squeeze(1) - margin).relu()
            loss = F.cross_entropy(distance, y, class_weight) + _MARGIN * (class_weight[y] * hinge).mean()
            loss = loss + _SCATTER * _scatter_ratio(z, y, n_classes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    weights = [part.detach().double().numpy() for part in (hidden_layer, output_layer, points)]
    return ReciprocalPoints(weights[0], weights[1], weights[2], float(margin.detach()))


def _scatter_ratio(z: Any, y: Any, n_classes: int) -> Any:
    """Mean squared distance to the class mean, over that of the class means to their mean; all classes weighted equally."""
    from torch.nn import functional as F

    one_hot = F.one_hot(y, n_classes).to(z.dtype)  # (b, k)
    count = one_hot.sum(dim=0)
    present = count > 0
    mean = one_hot.T @ z / count.clamp(min=1)[:, None]  # (k, e)
    within = (one_hot.T @ ((z - mean[y]) ** 2).sum(dim=1) / count.clamp(min=1))[present].mean()
    between = ((mean[present] - mean[present].mean(dim=0)) ** 2).sum(dim=1).mean()
    return within / (between + 1e-3)


def _affine(inputs: int, outputs: int, rng: Any) -> Any:
    import torch

    layer = torch.randn(inputs + 1, outputs, generator=rng) * (2 / inputs) ** 0.5
    layer[-1] = 0.0
    return layer.requires_grad_()
