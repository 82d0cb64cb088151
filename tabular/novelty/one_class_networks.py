"""Bias-free networks for one-class classification: Deep SVDD, and a contrastive one.

With biases, a network can map every row to the same point, which minimises the Deep SVDD loss. Without them, and with columns centred so
that none is a constant that could replace a bias, the way to a centre other than 0 leads through the row.

Shapes: n rows, p columns, e embedding width, b rows of a batch, v views of a batch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

Layers = tuple[Floats, ...]

_HIDDEN = 64
_LEAK = 0.1  # negative slope: a dead unit would be a constant
_BATCH, _CONTRASTIVE_BATCH = 256, 48  # rows; the contrastive loss takes two views of each row under each mask
_LEARNING_RATE, _WEIGHT_DECAY = 1e-3, 1e-4
_MIN_CENTRE = 0.1  # the least absolute coordinate of the centre, which zero weights must not reach
_CORRUPTED, _NOISE = 0.2, 0.1  # of a view: share of values taken from another row, and noise in standard deviations
_TEMPERATURE = 0.2


def embed(layers: Layers, x: Floats) -> Floats:
    """Return the embeddings (n, e) of rows (n, p)."""
    for layer in layers[:-1]:
        linear = x @ layer
        x = np.where(linear > 0, linear, _LEAK * linear)
    return np.asarray(x @ layers[-1])


def train_deep_svdd(x: Floats, width: int, steps: int, seed: int) -> tuple[Layers, Floats]:
    """Minimise the mean squared distance of the rows (n, p) to the mean embedding of the untrained network (Deep SVDD).

    Returns
    -------
    layers : weight matrices
    centre : (e,)

    References
    ----------
    Ruff et al.: Deep one-class classification (2018).
    """
    import torch

    with single_threaded():
        rng = torch.Generator().manual_seed(seed)
        layers = _new_layers((x.shape[1], _HIDDEN, width), rng)
        rows = torch.as_tensor(x, dtype=torch.float32)
        with torch.no_grad():
            centre = _forward(layers, rows).mean(dim=0)
            centre = torch.where(centre < 0, centre.clamp(max=-_MIN_CENTRE), centre.clamp(min=_MIN_CENTRE))
        optimizer = torch.optim.AdamW(layers, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        for _ in range(steps):
            batch = torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)
            loss = ((_forward(layers, rows[batch]) - centre) ** 2).sum(dim=1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return tuple(layer.detach().double().numpy() for layer in layers), centre.double().numpy()


def train_contrastive(x: Floats, block: Ints, width: int, steps: int, seed: int) -> Layers:
    """Minimise a contrastive loss of rows (n, p) with distribution augmentation: a row without a block of columns is a row of its own.

    ``block`` (p,) numbers the block of each column. Without the masks, the contrastive loss spreads the rows over the whole sphere and
    leaves no region for unusual rows.

    References
    ----------
    Sohn et al.: Learning and evaluating representations for deep one-class classification (2021). Views with values of other rows as in
    Bahri et al.: SCARF (2022).
    """
    import torch
    from torch.nn import functional as F

    masks = np.stack([np.ones(x.shape[1]), *(block != k for k in np.unique(block))])
    masks = masks[masks.any(axis=1)]  # a single block must not be masked
    with single_threaded():
        rng = torch.Generator().manual_seed(seed)
        layers = _new_layers((x.shape[1], _HIDDEN, width), rng)
        head = _new_layers((width, width, width), rng)  # projection head, used in training only
        rows, mask = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(masks, dtype=torch.float32)
        optimizer = torch.optim.AdamW([*layers, *head], lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        for _ in range(steps):
            batch = rows[torch.randint(len(rows), (min(_CONTRASTIVE_BATCH, len(rows)),), generator=rng)]
            masked = (batch[:, None] * mask).flatten(0, 1)  # (v, p)
            first, second = (_forward(head, F.leaky_relu(_forward(layers, _view(masked, rows, rng)), _LEAK)) for _ in range(2))
            projections = torch.cat([F.normalize(first, dim=1), F.normalize(second, dim=1)])
            similarity = (projections @ projections.T / _TEMPERATURE).fill_diagonal_(-torch.inf)  # (2v, 2v)
            positive = torch.arange(len(projections)).roll(len(first))
            loss = F.cross_entropy(similarity, positive)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return tuple(layer.detach().double().numpy() for layer in layers)


def _view(masked: Any, rows: Any, rng: Any) -> Any:
    """Return rows (v, p) with some values of other rows, and noise; masked values (0) stay masked."""
    import torch

    others = rows[torch.randint(len(rows), (len(masked),), generator=rng)]
    corrupted = torch.rand(masked.shape, generator=rng) < _CORRUPTED
    view = torch.where(corrupted, others, masked) + _NOISE * torch.randn(masked.shape, generator=rng)
    return view * (masked != 0)


def _new_layers(sizes: tuple[int, ...], rng: Any) -> list[Any]:
    import torch

    layers = [torch.randn(a, b, generator=rng) * (2 / max(a, 1)) ** 0.5 for a, b in pairwise(sizes)]
    return [layer.requires_grad_() for layer in layers]


def _forward(layers: list[Any], x: Any) -> Any:
    from torch.nn import functional as F

    for layer in layers[:-1]:
        x = F.leaky_relu(x @ layer, _LEAK)
    return x @ layers[-1]
