"""Training of the policy's network by maximum likelihood, with early stopping on other patients' rows: memorising is the privacy risk.

In each step some tokens of some rows are made conditions: the network learns every column given any others, so that conditional sampling
never rejects a row.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nearward.synth.policy.network import Network
from nearward.tabular.typing import Bools, Ints, Progress

_WARMUP = 50  # steps
_MIN_STEPS = 20  # between two drops of the learning rate: epochs of a small table are short


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training.

    Parameters
    ----------
    token_budget : int
        Tokens seen in all epochs: minutes on two cores, and fewer epochs of a larger table.
    min_epochs, max_epochs : int
    batch_size : int
        Rows a step.
    learning_rate : float
        Reached after a warm-up of fifty steps.
    weight_decay : float
    condition_share : float
        Share of rows with conditions, a random number of tokens each; the other rows train unconditional generation.
    patience : int
        Epochs without a gain on held-out rows, after which the best weights are restored and the learning rate drops to a third.
    lr_drops : int
        Drops of the learning rate before training ends: the number of epochs that suits a table is not known beforehand.
    ema_decay : float
        Of the moving average of the weights, which is the trained network.
    """

    token_budget: int = 9_000_000
    min_epochs: int = 12
    max_epochs: int = 300
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1.0
    condition_share: float = 0.4
    patience: int = 2
    lr_drops: int = 3
    ema_decay: float = 0.98


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a training.

    Parameters
    ----------
    passes, best : int
        Epochs, and the epoch of the best weights.
    nats, nats_train : float
        Negative log likelihood of a held-out row and of a training row under the best weights.
    """

    passes: int
    best: int
    nats: float
    nats_train: float


def train(
    network: Network, tokens: Ints, held_out: Ints, seed: int, config: TrainConfig, progress: Progress | None = None
) -> TrainingResult:
    """Fit by maximum likelihood, and load the weights under which held-out rows are most likely.

    Parameters
    ----------
    network : Network, changed in place
    tokens : (n, d), in the network's order of columns
    held_out : (m, d), rows of other patients
    seed : int
    config : TrainConfig
    progress : callable, optional
        Called about ten times with a message.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    rng = np.random.default_rng(seed)
    n, d = tokens.shape
    epochs = int(np.clip(config.token_budget // max(n * d, 1), config.min_epochs, config.max_epochs))
    batch_size = min(config.batch_size, max(32, n // 4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay))  # type: ignore[no-untyped-call]
    x, x_held_out = torch.as_tensor(tokens, device=device), torch.as_tensor(held_out, device=device)
    best, best_epoch, best_weights = np.inf, 0, _weights(network)
    epoch, step, drops, last_gain = 0, 0, 0, 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for epoch in range(1, epochs + 1):
            network.train()
            for rows in np.array_split(rng.permutation(n), -(-n // batch_size)):
                is_condition = torch.as_tensor(sample_condition_mask(len(rows), d, config.condition_share, rng), device=device)
                loss = -network(x[rows], is_condition).sum(dim=1).mean() / d
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * min(1.0, step / _WARMUP) / 3**drops
                optimizer.step()
                average.update_parameters(network)
            nats = _nats(average.module, x_held_out)
            if nats < best - 1e-4:
                best, best_epoch, last_gain, best_weights = nats, epoch, epoch, _weights(average.module)
            if progress is not None and ((epoch - 1) * 10) // epochs != (epoch * 10) // epochs:
                progress(f"epoch {epoch} of {epochs}, {nats:.3f} nats per held-out row")
            if epoch - last_gain >= max(config.patience, _MIN_STEPS * batch_size // n):
                if drops == config.lr_drops:
                    break
                drops, last_gain = drops + 1, epoch
                network.load_state_dict(best_weights)
                average.module.load_state_dict(best_weights)
    network.load_state_dict(best_weights)
    network.eval()
    return TrainingResult(epoch, best_epoch, best, _nats(network, x))


def sample_condition_mask(n: int, d: int, share: float, rng: np.random.Generator) -> Bools:
    """Choose conditions at random (n, d): none in most rows, in ``share`` of them each token with a probability of the row's own."""
    probability = rng.random((n, 1)) * (rng.random((n, 1)) < share)
    return np.asarray(rng.random((n, d)) < probability)


def _weights(network: torch.nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _nats(network: Any, tokens: torch.Tensor) -> float:
    """Return the mean negative log likelihood of rows (n, d)."""
    network.eval()
    with torch.no_grad():
        parts = [network(rows, torch.zeros_like(rows, dtype=torch.bool)).sum() for rows in tokens.split(1024)]  # type: ignore[no-untyped-call]
    return float(-torch.stack(parts).sum() / max(len(tokens), 1))
