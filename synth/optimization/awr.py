"""The second optimiser: the policy learns from its own rows, each weighed by exp(R / β); advantage-weighted regression.

Letters: n rows, d columns.

References
----------
Peng et al.: Advantage-weighted regression: simple and scalable off-policy reinforcement learning (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nearward.synth.policy.network import Network
from nearward.synth.policy.training import sample_condition_mask
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class AwrConfig:
    """How the policy is fitted again.

    Parameters
    ----------
    passes : int
        Over its own rows: they are as many as one likes, so that few passes do.
    batch : int
        Rows a step.
    rate : float
        Learning rate, falling to zero along a cosine; a tenth of what the policy was trained with, since it starts from there.
    most_weight : float
        Weights are cut there: no row counts for more than twenty.
    conditioned : float
        Share of rows with conditions, as in training: conditional rows are tilted too.
    """

    passes: int = 3
    batch: int = 256
    rate: float = 3e-4
    most_weight: float = 20.0
    conditioned: float = 0.4


def fit_again(
    network: Network, tokens: Ints, weight: Floats, seed: int, config: AwrConfig | None = None, progress: Callable[..., None] | None = None
) -> dict[str, Any]:
    """Fit by weighted maximum likelihood.

    Parameters
    ----------
    network : Network, changed in place
    tokens : (n, d), the policy's own rows in the network's order
    weight : (n,), not negative
    seed : int
    config : AwrConfig, optional
    progress : callable, optional
        Called after each pass with a few words.

    Returns
    -------
    dict: ``loss`` of each pass, nats a cell; ``cut``, how many weights were cut
    """
    config = config or AwrConfig()
    device = next(network.parameters()).device
    draw = np.random.default_rng(seed)
    n, d = tokens.shape
    cut = weight.clip(max=config.most_weight * weight.mean())
    x = torch.as_tensor(tokens, device=device)
    w = torch.as_tensor(cut / cut.mean(), dtype=torch.float32, device=device)
    steps = config.passes * -(-n // config.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.train()
        for turn in range(config.passes):
            total = 0.0
            for rows in np.array_split(draw.permutation(n), -(-n // config.batch)):
                given = torch.as_tensor(sample_condition_mask(len(rows), d, config.conditioned, draw), device=device)
                loss = -(w[rows] * network(x[rows], given).sum(dim=1)).mean() / d
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(rows) / n
            losses.append(total)
            if progress is not None:
                progress(f"own rows, pass {turn + 1} of {config.passes}")
    network.eval()
    return {"loss": losses, "cut": int((weight > cut).sum())}
