"""Training of the policy's network by maximum likelihood, with early stopping on other patients' rows: memorising is the privacy risk.

Large batches are divided into four parts, whose gradients are computed in parallel and added in a fixed order, each part with a random
generator of its own. So the result does not depend on the number of cores.

In each step some tokens of some rows are made conditions: the network learns every column given any others, so that conditional sampling
never rejects a row.

Shapes: n rows, d columns.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearward.synth.policy.network import Network
from nearward.tabular.errors import DataWarning
from nearward.tabular.parallel import cpu_count
from nearward.tabular.typing import Bools, Ints, Progress

ParallelMap = Callable[..., Iterator[Any]]

_WARMUP = 50  # steps
_PARTS = 4  # of a large batch
_LARGE_BATCH = 2**19  # rows × columns × width of the network
_TIMED_STEPS = 5  # by whose median the time of the training is predicted: the first is slow, and so are some on a busy machine
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
    time_limit : float or None
        Minutes, after which the training ends with the best weights so far.
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
    time_limit: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a training.

    Parameters
    ----------
    passes, best : int
        Epochs, and the epoch of the best weights.
    nats, nats_train : float
        Negative log likelihood of a held-out row and of a training row under the best weights.
    late : bool
        Whether the time limit ended the training.
    """

    passes: int
    best: int
    nats: float
    nats_train: float
    late: bool = False


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
        Called with the time that the training takes at most, once a few steps have been timed, and about ten times later.

    Warns
    -----
    DataWarning
        The time limit ended the training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    ends = [time.monotonic()]  # of each step
    rng = np.random.default_rng(seed)
    n, d = tokens.shape
    epochs = int(np.clip(config.token_budget // max(n * d, 1), config.min_epochs, config.max_epochs))
    batch_size = min(config.batch_size, max(32, n // 4))
    batches = -(-n // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay))  # type: ignore[no-untyped-call]
    x, x_held_out = torch.as_tensor(tokens, device=device), torch.as_tensor(held_out, device=device)
    best, best_epoch, best_weights = np.inf, 0, _weights(network)
    epoch, step, drops, last_gain, late = 0, 0, 0, 0, False
    is_large = device.type == "cpu" and batch_size * d * network.norm_in.normalized_shape[0] >= _LARGE_BATCH
    generators = [torch.Generator().manual_seed(seed + i) for i in range(_PARTS)] if is_large else None
    with torch.random.fork_rng(), _parallel(_PARTS if is_large else 1) as parallel:
        torch.manual_seed(seed)
        for epoch in range(1, epochs + 1):
            network.train()
            for rows in np.array_split(rng.permutation(n), batches):
                is_condition = torch.as_tensor(sample_condition_mask(len(rows), d, config.condition_share, rng), device=device)
                optimizer.zero_grad(set_to_none=True)
                _backward(network, x[rows], is_condition, generators, parallel)
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * min(1.0, step / _WARMUP) / 3**drops
                optimizer.step()
                average.update_parameters(network)
                ends.append(time.monotonic())
                if progress is not None and step == _TIMED_STEPS:
                    progress(_predict_time(float(np.median(np.diff(ends))) * batches * epochs / 60, epochs, config.time_limit))
                if late := config.time_limit is not None and ends[-1] - ends[0] > 60 * config.time_limit:
                    break
            nats = _nats(average.module, x_held_out, parallel)
            if nats < best - 1e-4:
                best, best_epoch, last_gain, best_weights = nats, epoch, epoch, _weights(average.module)
            if late:
                break
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
        nats_train = _nats(network, x, parallel)
    if late:
        warnings.warn(
            f"the training was ended by its time limit of {config.time_limit:g} minutes in epoch {epoch} of {epochs} at most: "
            "give it more time for better rows",
            DataWarning,
            stacklevel=3,
        )
    return TrainingResult(epoch, best_epoch, best, nats_train, late)


def _backward(
    network: Network, tokens: Tensor, is_condition: Tensor, generators: Sequence[torch.Generator] | None, parallel: ParallelMap
) -> None:
    """Set the gradients of the loss of a batch (b, d): its mean negative log likelihood per token."""
    if generators is None:
        loss = -network(tokens, is_condition).sum(dim=1).mean() / tokens.shape[1]
        loss.backward()
        return
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def part_gradients(part: tuple[Tensor, Tensor, torch.Generator]) -> Sequence[Tensor]:
        loss = -network(*part).sum() / tokens.numel()
        return torch.autograd.grad(loss, parameters)

    parts = list(zip(tokens.tensor_split(_PARTS), is_condition.tensor_split(_PARTS), generators, strict=True))
    for number, gradients in enumerate(parallel(part_gradients, parts)):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if number == 0 else parameter.grad + gradient


@contextmanager
def _parallel(tasks: int) -> Iterator[ParallelMap]:
    """Yield a map that runs in as many threads as there are CPUs and tasks, each thread with one of torch's."""
    workers = min(cpu_count(), tasks)
    if workers == 1:
        yield map
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


def _predict_time(minutes: float, epochs: int, limit: float | None) -> str:
    """Say how long the training takes at most; early stopping often ends it sooner.

    Examples
    --------
    >>> _predict_time(14.2, 12, 10)
    'training: at most 12 epochs or about 14 minutes; early stopping often ends it sooner; the time limit is 10'
    """
    about = "a minute" if round(minutes) <= 1 else f"{round(minutes)} minutes"
    text = f"training: at most {epochs} epochs or about {about}; early stopping often ends it sooner"
    return text if limit is None or limit > minutes else f"{text}; the time limit is {limit:g}"


def sample_condition_mask(n: int, d: int, share: float, rng: np.random.Generator) -> Bools:
    """Choose conditions at random (n, d): none in most rows, in ``share`` of them each token with a probability of the row's own."""
    probability = rng.random((n, 1)) * (rng.random((n, 1)) < share)
    return np.asarray(rng.random((n, d)) < probability)


def _weights(network: torch.nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _nats(network: Any, tokens: Tensor, parallel: ParallelMap = map) -> float:
    """Return the mean negative log likelihood of rows (n, d)."""
    network.eval()

    def log_likelihood(rows: Tensor) -> Any:
        with torch.no_grad():
            return network(rows, torch.zeros_like(rows, dtype=torch.bool)).sum()

    return float(-torch.stack(list(parallel(log_likelihood, torch.split(tokens, 1024)))).sum() / max(len(tokens), 1))
