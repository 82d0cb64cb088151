"""Optimiser ``awr``: advantage-weighted regression on the policy's own rows, each weighted by exp(R / β).

Shapes: n rows, d columns.

References
----------
Peng et al.: Advantage-weighted regression: simple and scalable off-policy reinforcement learning (2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nearward.synth.policy.network import Network
from nearward.synth.policy.training import sample_condition_mask
from nearward.tabular.typing import Floats, Ints, Progress


@dataclass(frozen=True)
class AwrConfig:
    """Settings of the weighted regression.

    Parameters
    ----------
    passes : int
        Over the sampled rows, of which there can be any number: few passes are enough.
    batch : int
        Rows per step.
    rate : float
        Learning rate, with cosine decay to zero; a tenth of the rate in training, since the policy starts fitted.
    most_weight : float
        Weights are clipped there, in units of the mean weight.
    conditioned : float
        Share of rows with conditions, as in training, so that conditional sampling improves too.
    """

    passes: int = 3
    batch: int = 256
    rate: float = 3e-4
    most_weight: float = 20.0
    conditioned: float = 0.4


@dataclass(frozen=True)
class AwrResult:
    """Diagnostics of the weighted regression.

    Parameters
    ----------
    loss : list of float
        Of each pass, nats per cell.
    cut : int
        Number of clipped weights.
    """

    loss: list[float]
    cut: int


def fit_weighted(
    network: Network, tokens: Ints, weight: Floats, seed: int, config: AwrConfig | None = None, progress: Progress | None = None
) -> AwrResult:
    """Fit the policy by weighted maximum likelihood.

    Parameters
    ----------
    network : Network, changed in place
    tokens : (n, d), rows sampled from the policy, in the network's order
    weight : (n,), not negative
    seed : int
    config : AwrConfig, optional
    progress : callable, optional
        Called after each pass with a message.

    Returns
    -------
    AwrResult
    """
    config = config or AwrConfig()
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    n, d = tokens.shape
    clipped = weight.clip(max=config.most_weight * weight.mean())
    x = torch.as_tensor(tokens, device=device)
    w = torch.as_tensor(clipped / clipped.mean(), dtype=torch.float32, device=device)
    steps = config.passes * -(-n // config.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.train()
        for epoch in range(config.passes):
            total = 0.0
            for rows in np.array_split(rng.permutation(n), -(-n // config.batch)):
                conditions = torch.as_tensor(sample_condition_mask(len(rows), d, config.conditioned, rng), device=device)
                loss = -(w[rows] * network(x[rows], conditions).sum(dim=1)).mean() / d
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(rows) / n
            losses.append(total)
            if progress is not None:
                progress(f"awr, pass {epoch + 1} of {config.passes}")
    network.eval()
    return AwrResult(losses, int((weight > clipped).sum()))
