"""Bias-free encoders trained on rows without the event: pulled to one centre, or spread by a contrast between rows.

A network with biases can answer every row with the same point and be perfectly content. Without them, and with columns centred so that
none is a constant that could serve as one, the only way to a centre that is not 0 leads through the row itself.

Letters: n rows, p columns, e embedding width, b rows a step, v views a step.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

Layers = tuple[Floats, ...]

_HIDDEN = 64
_LEAK = 0.1  # of a negative unit that passes: a dead unit would be a constant
_BATCH, _CONTRAST_BATCH = 256, 48  # rows a step; a contrast takes two views of each row under each mask
_RATE, _DECAY = 1e-3, 1e-4
_OFF_ZERO = 0.1  # a centre's coordinate is at least this far from 0, where weights of 0 would lead
_CORRUPTED, _NOISE = 0.2, 0.1  # a view: share of cells taken from another row, and noise in standard deviations
_TEMPERATURE = 0.2


def place(layers: Layers, x: Floats) -> Floats:
    """Return the embeddings (n, e) of rows (n, p)."""
    for layer in layers[:-1]:
        inner = x @ layer
        x = np.where(inner > 0, inner, _LEAK * inner)
    return np.asarray(x @ layers[-1])


def train_to_a_centre(x: Floats, width: int, steps: int, seed: int) -> tuple[Layers, Floats]:
    """Pull the rows (n, p) to the centre that the untrained network puts them around.

    Returns
    -------
    layers : matrices of the encoder
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
            centre = _place(layers, rows).mean(dim=0)
            centre = torch.where(centre < 0, centre.clamp(max=-_OFF_ZERO), centre.clamp(min=_OFF_ZERO))
        optimiser = torch.optim.AdamW(layers, lr=_RATE, weight_decay=_DECAY)
        for _ in range(steps):
            chosen = torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)
            loss = ((_place(layers, rows[chosen]) - centre) ** 2).sum(dim=1).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return tuple(layer.detach().double().numpy() for layer in layers), centre.double().numpy()


def train_by_contrast(x: Floats, block: Ints, width: int, steps: int, seed: int) -> Layers:
    """Teach the encoder to know a row again under noise, each row with each block of columns masked being a row of its own.

    The masks are the distribution augmentation: without them a contrast spreads the rows over the whole sphere and leaves no room for
    rows that are like none of them.

    Parameters
    ----------
    x : (n, p)
    block : (p,), the block of each column
    width, steps, seed : int

    References
    ----------
    Sohn et al.: Learning and evaluating representations for deep one-class classification (2021); views by cells of other rows as in
    Bahri et al.: SCARF (2022).
    """
    import torch
    from torch.nn import functional as F

    masks = np.stack([np.ones(x.shape[1]), *(block != k for k in np.unique(block))])
    masks = masks[masks.any(axis=1)]  # a single block masked would leave nothing
    with single_threaded():
        rng = torch.Generator().manual_seed(seed)
        layers = _new_layers((x.shape[1], _HIDDEN, width), rng)
        head = _new_layers((width, width, width), rng)  # is thrown away: what it forgets to win, the encoder still knows
        rows, mask = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(masks, dtype=torch.float32)
        optimiser = torch.optim.AdamW([*layers, *head], lr=_RATE, weight_decay=_DECAY)
        for _ in range(steps):
            chosen = rows[torch.randint(len(rows), (min(_CONTRAST_BATCH, len(rows)),), generator=rng)]
            seen = (chosen[:, None] * mask).flatten(0, 1)  # (v, p)
            first, second = (_place(head, F.leaky_relu(_place(layers, _view(seen, rows, rng)), _LEAK)) for _ in range(2))
            first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
            every = torch.cat([first, second])
            closeness = (every @ every.T / _TEMPERATURE).fill_diagonal_(-torch.inf)  # (2v, 2v)
            other = torch.arange(len(every)).roll(len(first))
            loss = F.cross_entropy(closeness, other)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return tuple(layer.detach().double().numpy() for layer in layers)


def _view(seen: Any, rows: Any, rng: Any) -> Any:
    """Return rows (v, p) with some cells from other rows, and noise; a masked cell (0) stays masked."""
    import torch

    others = rows[torch.randint(len(rows), (len(seen),), generator=rng)]
    taken = torch.rand(seen.shape, generator=rng) < _CORRUPTED
    noisy = torch.where(taken, others, seen) + _NOISE * torch.randn(seen.shape, generator=rng)
    return noisy * (seen != 0)


def _new_layers(sizes: tuple[int, ...], rng: Any) -> list[Any]:
    import torch

    drawn = [torch.randn(a, b, generator=rng) * (2 / max(a, 1)) ** 0.5 for a, b in pairwise(sizes)]
    return [layer.requires_grad_() for layer in drawn]


def _place(layers: list[Any], x: Any) -> Any:
    from torch.nn import functional as F

    for layer in layers[:-1]:
        x = F.leaky_relu(x @ layer, _LEAK)
    return x @ layers[-1]
