"""The policy: probabilities sum to one and match the sampled frequencies; conditions on any column; the same seed, the same rows."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch

from nearward.synth.policy.autoregressive import FREE, Policy, sample_tokens
from nearward.synth.policy.network import NetworkConfig, smoothing_basis
from nearward.synth.policy.training import TrainConfig, sample_condition_mask

SMALL = NetworkConfig(width=16, hidden=32, blocks=1, dropout=0.0)


def linked(n: int, seed: int) -> np.ndarray:
    """Three columns of 2, 3 and 8 tokens (token 0 is missing); the last follows from the second."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, n), rng.integers(0, 3, n)
    return np.stack([a, b, np.where(rng.random(n) < 0.8, 1 + 2 * b, rng.integers(0, 8, n))], axis=1)


@pytest.fixture(scope="module")
def policy() -> Policy:
    rows = linked(1500, 0)
    policy = Policy(
        [2, 3, 8], [False, False, True], [1, 0, 2], [np.bincount(rows[:, j], minlength=s) for j, s in enumerate((2, 3, 8))], SMALL
    )
    policy.fit(rows, linked(300, 1), 0, TrainConfig(token_budget=150_000, learning_rate=1e-2))
    return policy


ALL = np.array(list(product(range(2), range(3), range(8))))


def test_probabilities_of_all_rows_sum_to_one(policy) -> None:
    assert np.exp(policy.log_prob(ALL).sum(axis=1)).sum() == pytest.approx(1, abs=1e-5)


def test_sampled_frequencies_match_the_probabilities(policy) -> None:
    synthetic = policy.sample(np.full((30_000, 3), FREE), 1)
    number = synthetic @ np.array([24, 8, 1])
    share = np.bincount(number, minlength=48) / len(synthetic)
    expected = np.exp(policy.log_prob(ALL).sum(axis=1))
    assert np.abs(share - expected).max() < 4 * np.sqrt(expected.max() / len(synthetic))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_any_column_can_be_a_condition_and_no_row_is_rejected(policy, column) -> None:
    conditions = np.full((8000, 3), FREE)
    conditions[:, column] = 1
    synthetic = policy.sample(conditions, 2)
    assert (synthetic[:, column] == 1).all()
    is_condition = np.zeros((48, 3), dtype=bool)
    is_condition[:, column] = True
    rows = ALL[ALL[:, column] == 1]
    expected = np.exp(policy.log_prob(rows, is_condition[: len(rows)]).sum(axis=1))
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    share = np.array([(synthetic == row).all(axis=1).mean() for row in rows])
    assert np.abs(share - expected).max() < 4 * np.sqrt(expected.max() / len(synthetic))


def test_a_condition_on_a_later_column_changes_earlier_columns(policy) -> None:
    """Column 1 is generated first and column 2 depends on it: with column 2 as a condition, column 1 has the value it depends on."""
    conditions = np.full((2000, 3), FREE)
    conditions[:, 2] = 5
    assert (policy.sample(conditions, 3)[:, 1] == 2).mean() > 0.7


def test_only_conditions_enter_the_context(policy) -> None:
    """No token of a real row is used as a prompt: the network embeds the conditions and its own tokens only."""
    seen: list[np.ndarray] = []
    embed = policy.network.embed

    def recording(column: int, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(tokens.numpy().copy())
        return embed(column, tokens)

    conditions = np.full((5, 3), FREE)
    conditions[:, 0] = 1
    policy.network.embed = recording
    try:
        synthetic = policy.sample(conditions, 4)
    finally:
        del policy.network.embed
    assert (seen[0] == 1).all()  # the condition, first
    assert [rows.tolist() for rows in seen[1:]] == [synthetic[:, 1].tolist(), synthetic[:, 2].tolist()] or len(seen) == 4
    assert {tuple(rows) for rows in seen} <= {tuple(synthetic[:, j]) for j in range(3)}


def test_the_same_seed_samples_the_same_rows_and_a_loaded_policy_too(policy) -> None:
    conditions = np.full((200, 3), FREE)
    tensors: dict[str, np.ndarray] = {}
    state = json.loads(json.dumps(policy.state(tensors)))
    assert (policy.sample(conditions, 5) == policy.sample(conditions, 5)).all()
    assert not (policy.sample(conditions, 5) == policy.sample(conditions, 6)).all()
    assert (Policy.from_state(state, tensors).sample(conditions, 5) == policy.sample(conditions, 5)).all()


def test_training_stops_early() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (60, 12))
    other = np.random.default_rng(1).integers(0, 2, (60, 12))
    policy = Policy([2] * 12, [False] * 12, list(range(12)), [np.bincount(noise[:, j], minlength=2) for j in range(12)], SMALL)
    result = policy.fit(noise, other, 0, TrainConfig(token_budget=200_000, learning_rate=1e-2))
    assert result.best < result.passes < 277  # the token budget allows 277
    assert result.nats < 12 * np.log(2) * 1.1  # memorising would make held-out rows far less likely


def test_most_rows_of_a_condition_mask_have_no_condition() -> None:
    mask = sample_condition_mask(4000, 20, 0.4, np.random.default_rng(0))
    assert 0.55 < (~mask.any(axis=1)).mean() < 0.7
    assert mask.mean() == pytest.approx(0.2, abs=0.02)


def test_the_smoothing_basis_has_indicators_of_missing_and_of_frequent_bins() -> None:
    counts = torch.tensor([10, 500, 20, 20, 20, 20, 20])
    basis = smoothing_basis(counts, functions=4)
    assert basis.shape == (7, 1 + 2 + 4 + 2)  # a linear function, bumps of two widths, two indicators
    assert basis[0].tolist() == [0.0] * 7 + [1.0, 0.0]
    assert basis[:, -1].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_tokens_are_sampled_by_their_probability() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.5]])).repeat(20_000, 1)
    tokens = sample_tokens(logits, torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0)))
    assert np.bincount(tokens, minlength=3) / 20_000 == pytest.approx([0.5, 0, 0.5], abs=0.015)
