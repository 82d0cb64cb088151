"""Fits the policy's network to rows, as long as rows that it does not learn from become likelier: memorising is the privacy risk.

In each step some cells of some rows are made conditions: the network learns every column given any others, and so never has to reject.

Letters: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nearward.synth.policy.network import Network
from nearward.tabular.typing import Ints

_RISE = 50  # steps
_LEAST_STEPS = 20  # between two falls: the passes of a small table are short


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained.

    Parameters
    ----------
    cells : int
        Cells that are seen in all: minutes on two cores, fewer passes over larger tables.
    fewest, most : int
        Passes over the rows.
    batch : int
        Rows a step.
    rate : float
        Learning rate at first; it rises for fifty steps.
    decay : float
        Weight decay.
    conditioned : float
        Share of rows with conditions, a random number of cells each; the other rows learn what is drawn without conditions.
    patience : int
        Passes without a gain on held-out rows, after which training goes back to the best weights and on at a third of the rate.
    falls : int
        Times that the rate falls before training ends: how many passes a table bears is not known beforehand.
    average : float
        Decay of the running mean of weights, which is what is kept.
    """

    cells: int = 9_000_000
    fewest: int = 12
    most: int = 300
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1.0
    conditioned: float = 0.4
    patience: int = 2
    falls: int = 3
    average: float = 0.98


def train(
    network: Network, tokens: Ints, held_out: Ints, seed: int, config: TrainConfig, progress: Callable[..., None] | None = None
) -> dict[str, float]:
    """Fit by maximum likelihood, and keep the weights that held-out rows are likeliest under.

    Parameters
    ----------
    network : Network, changed in place
    tokens : (n, d), in the network's order
    held_out : (m, d), rows of other patients
    seed : int
    config : TrainConfig
    progress : callable, optional
        Called about ten times with a few words.

    Returns
    -------
    dict: ``passes`` made, ``best`` pass, ``nats`` a held-out row under the kept weights, ``nats_train`` a row of ``tokens``
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    draw = np.random.default_rng(seed)
    n, d = tokens.shape
    passes = int(np.clip(config.cells // max(n * d, 1), config.fewest, config.most))
    batch = min(config.batch, max(32, n // 4))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=config.decay)
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average))  # type: ignore[no-untyped-call]
    x, judged = torch.as_tensor(tokens, device=device), torch.as_tensor(held_out, device=device)
    best, best_pass, kept = np.inf, 0, {name: value.clone() for name, value in network.state_dict().items()}
    done, step, falls, since = 0, 0, 0, 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for turn in range(passes):
            network.train()
            done = turn + 1
            for rows in np.array_split(draw.permutation(n), -(-n // batch)):
                given = torch.as_tensor(conditions(len(rows), d, config.conditioned, draw), device=device)
                loss = -network(x[rows], given).sum(dim=1).mean() / d
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                step += 1
                for group in optimiser.param_groups:
                    group["lr"] = config.rate * min(1.0, step / _RISE) / 3**falls
                optimiser.step()
                mean.update_parameters(network)
            now = _nats(mean.module, judged)
            if now < best - 1e-4:
                best, best_pass, kept = now, done, {name: value.clone() for name, value in mean.module.state_dict().items()}
                since = done
            if progress is not None and (turn * 10) // passes != (done * 10) // passes:
                progress(f"pass {done} of {passes}, {now:.3f} nats a held-out row")
            if done - since >= max(config.patience, _LEAST_STEPS * batch // n):
                if falls == config.falls:
                    break
                falls, since = falls + 1, done
                network.load_state_dict(kept)
                mean.module.load_state_dict(kept)
    network.load_state_dict(kept)
    network.eval()
    return {"passes": done, "best": best_pass, "nats": best, "nats_train": _nats(network, x)}


def conditions(n: int, d: int, share: float, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which cells are conditions (n, d): none in most rows, in ``share`` of them each cell with a chance of the row's own."""
    chance = draw.random((n, 1)) * (draw.random((n, 1)) < share)
    return np.asarray(draw.random((n, d)) < chance)


def _nats(network: Any, tokens: torch.Tensor) -> float:
    network.eval()
    with torch.no_grad():
        parts = [network(rows, torch.zeros_like(rows, dtype=torch.bool)).sum() for rows in tokens.split(1024)]  # type: ignore[no-untyped-call]
    return float(-torch.stack(parts).sum() / max(len(tokens), 1))
