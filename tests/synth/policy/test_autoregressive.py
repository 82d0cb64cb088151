"""The policy: probabilities that sum to one, exactly those it draws from; conditions on any column; the same seed, the same rows."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch

from nearward.synth.policy.autoregressive import FREE, Policy, choose
from nearward.synth.policy.network import NetworkConfig, smooth_functions
from nearward.synth.policy.training import TrainConfig, conditions

SMALL = NetworkConfig(width=16, hidden=32, blocks=1, dropout=0.0)


def linked(n: int, seed: int) -> np.ndarray:
    """Three columns of 2, 3 and 8 tokens (token 0 is missing); the last follows from the second."""
    draw = np.random.default_rng(seed)
    a, b = draw.integers(0, 2, n), draw.integers(0, 3, n)
    return np.stack([a, b, np.where(draw.random(n) < 0.8, 1 + 2 * b, draw.integers(0, 8, n))], axis=1)


@pytest.fixture(scope="module")
def policy() -> Policy:
    rows = linked(1500, 0)
    made = Policy(
        [2, 3, 8], [False, False, True], [1, 0, 2], [np.bincount(rows[:, j], minlength=s) for j, s in enumerate((2, 3, 8))], SMALL
    )
    made.fit(rows, linked(300, 1), 0, TrainConfig(cells=150_000, rate=1e-2))
    return made


ALL = np.array(list(product(range(2), range(3), range(8))))


def test_probabilities_of_all_rows_sum_to_one(policy) -> None:
    assert np.exp(policy.log_prob(ALL).sum(axis=1)).sum() == pytest.approx(1, abs=1e-5)


def test_rows_are_drawn_as_often_as_they_are_likely(policy) -> None:
    made = policy.sample(np.full((30_000, 3), FREE), 1)
    number = made @ np.array([24, 8, 1])
    share = np.bincount(number, minlength=48) / len(made)
    due = np.exp(policy.log_prob(ALL).sum(axis=1))
    assert np.abs(share - due).max() < 4 * np.sqrt(due.max() / len(made))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_any_column_can_be_a_condition_and_none_is_rejected(policy, column) -> None:
    given = np.full((8000, 3), FREE)
    given[:, column] = 1
    made = policy.sample(given, 2)
    assert (made[:, column] == 1).all()
    known = np.zeros((48, 3), dtype=bool)
    known[:, column] = True
    rows = ALL[ALL[:, column] == 1]
    due = np.exp(policy.log_prob(rows, known[: len(rows)]).sum(axis=1))
    assert due.sum() == pytest.approx(1, abs=1e-5)
    share = np.array([(made == row).all(axis=1).mean() for row in rows])
    assert np.abs(share - due).max() < 4 * np.sqrt(due.max() / len(made))


def test_a_condition_written_later_changes_what_is_written_before(policy) -> None:
    """Column 1 is written first and column 2 follows from it: given column 2, column 1 must be what it followed from."""
    given = np.full((2000, 3), FREE)
    given[:, 2] = 5
    assert (policy.sample(given, 3)[:, 1] == 2).mean() > 0.7


def test_no_cell_but_a_condition_enters_the_context(policy) -> None:
    """Rows that differ where nothing is given are drawn alike: nothing of a real row is ever a prompt."""
    seen: list[np.ndarray] = []
    embed = policy.network.embed

    def watched(column: int, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(tokens.numpy().copy())
        return embed(column, tokens)

    given = np.full((5, 3), FREE)
    given[:, 0] = 1
    policy.network.embed = watched
    try:
        made = policy.sample(given, 4)
    finally:
        del policy.network.embed
    assert (seen[0] == 1).all()  # the condition, first
    assert [rows.tolist() for rows in seen[1:]] == [made[:, 1].tolist(), made[:, 2].tolist()] or len(seen) == 4
    assert {tuple(rows) for rows in seen} <= {tuple(made[:, j]) for j in range(3)}


def test_the_same_seed_draws_the_same_rows_and_a_restored_policy_too(policy) -> None:
    given = np.full((200, 3), FREE)
    tensors: dict[str, np.ndarray] = {}
    about = json.loads(json.dumps(policy.state(tensors)))
    assert (policy.sample(given, 5) == policy.sample(given, 5)).all()
    assert not (policy.sample(given, 5) == policy.sample(given, 6)).all()
    assert (Policy.restored(about, tensors).sample(given, 5) == policy.sample(given, 5)).all()


def test_training_stops_where_held_out_rows_stop_gaining() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (60, 12))
    other = np.random.default_rng(1).integers(0, 2, (60, 12))
    policy = Policy([2] * 12, [False] * 12, list(range(12)), [np.bincount(noise[:, j], minlength=2) for j in range(12)], SMALL)
    told = policy.fit(noise, other, 0, TrainConfig(cells=200_000, rate=1e-2))
    assert told["best"] < told["passes"] < 277  # so many could be made
    assert told["nats"] < 12 * np.log(2) * 1.1  # memorising would cost held-out rows far more


def test_conditions_are_none_in_most_rows() -> None:
    given = conditions(4000, 20, 0.4, np.random.default_rng(0))
    assert 0.55 < (~given.any(axis=1)).mean() < 0.7
    assert given.mean() == pytest.approx(0.2, abs=0.02)


def test_smooth_functions_mark_missing_and_heavy_cells() -> None:
    rows = torch.tensor([10, 500, 20, 20, 20, 20, 20])
    found = smooth_functions(rows, functions=4)
    assert found.shape == (7, 1 + 2 + 4 + 2)  # a line, bumps of two kinds, two marks
    assert found[0].tolist() == [0.0] * 7 + [1.0, 0.0]
    assert found[:, -1].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_tokens_are_chosen_by_their_share() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.5]])).repeat(20_000, 1)
    drawn = choose(logits, torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0)))
    assert np.bincount(drawn, minlength=3) / 20_000 == pytest.approx([0.5, 0, 0.5], abs=0.015)
