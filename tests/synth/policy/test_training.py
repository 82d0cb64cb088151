"""Training: the parts of a large batch give the batch's gradient on any number of cores; the time is told and limited."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearward.synth.policy import training
from nearward.synth.policy.autoregressive import Policy
from nearward.synth.policy.network import NetworkConfig
from nearward.synth.policy.training import TrainConfig, _backward, _parallel
from nearward.tabular.errors import DataWarning

SIZES = [2, 3, 8]


def rows(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, n) for size in SIZES], axis=1)


def new_policy(dropout: float = 0.2) -> Policy:
    counts = [np.bincount(rows(600, 0)[:, j], minlength=size) for j, size in enumerate(SIZES)]
    return Policy(SIZES, [False, False, True], [0, 1, 2], counts, NetworkConfig(16, 32, 1, dropout=dropout, token_dropout=dropout))


def test_the_parts_of_a_batch_add_up_to_its_gradient() -> None:
    network = new_policy(dropout=0.0).network
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter)
    network.train()
    tokens, free = torch.as_tensor(rows(50, 1)), torch.zeros(50, 3, dtype=torch.bool)
    gradients = []
    for generators in (None, [torch.Generator() for _ in range(4)]):
        network.zero_grad(set_to_none=True)
        with _parallel(4) as parallel:
            _backward(network, tokens, free, generators, parallel)
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for whole, parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, parts, atol=1e-6)


def test_the_result_does_not_depend_on_the_number_of_cores(monkeypatch) -> None:
    monkeypatch.setattr(training, "_LARGE_BATCH", 1)
    weights = []
    for cores in (1, 3):
        monkeypatch.setattr(training, "cpu_count", lambda cores=cores: cores)
        policy = new_policy()
        policy.fit(rows(600, 0), rows(100, 1), 0, TrainConfig(token_budget=10_000))
        weights.append(policy.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_dropout_of_the_parts_is_that_of_training() -> None:
    """Its mean over many draws is the output without dropout, and no draw equals it."""
    network = new_policy(dropout=0.5).network
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter)
    context, columns = torch.randn(3, 16), torch.zeros(3, dtype=torch.long)
    network.blocks[0][4].weight.data *= 1e-3  # small, so that the norm after the block is nearly linear
    without = network.features(context, columns)
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([network.features(context, columns, generator) for _ in range(3000)])
    assert not torch.allclose(draws[0], without, atol=1e-5)
    assert torch.allclose(draws.mean(dim=0), without, atol=4 * draws.std(dim=0).max().item() / 3000**0.5 + 1e-4)


def test_the_time_is_told_before_the_first_epoch_ends_and_is_limited() -> None:
    messages: list[str] = []
    result = new_policy().fit(rows(600, 0), rows(100, 1), 0, TrainConfig(token_budget=20_000), messages.append)
    assert messages[0].startswith("training: at most 12 epochs or about a minute")
    assert not result.late
    with pytest.warns(DataWarning, match="ended by its time limit"):
        result = new_policy().fit(rows(600, 0), rows(100, 1), 0, TrainConfig(token_budget=20_000, time_limit=1e-9))
    assert result.late
    assert result.passes == 1
    assert np.isfinite(result.nats)
