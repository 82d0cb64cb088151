"""The outcome drawn once more: trees repair a link that the rows lack, shares stay, and what rules forbid is not written."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.policy.outcome_model import OutcomeTrees, shift_to


def rows(n: int, seed: int, linked: bool = True) -> np.ndarray:
    """Tokens of an outcome (1 or 2, a tenth of them 2) and two columns, the first of which tells of it."""
    draw = np.random.default_rng(seed)
    event = draw.random(n) < 0.1
    told = event if linked else draw.permutation(event)
    return np.stack([1 + event, np.where(draw.random(n) < 0.8, 1 + told, 1 + (draw.random(n) < 0.1)), draw.integers(0, 5, n)], axis=1)


@pytest.fixture(scope="module")
def trees() -> OutcomeTrees:
    return OutcomeTrees.fit(rows(3000, 0), rows(8000, 1, linked=False), 0, 2, 0.1, seed=0)


def test_a_link_that_the_rows_lack_comes_back_and_the_share_stays(trees) -> None:
    made = rows(20_000, 2, linked=False)
    again = trees.redrawn(made, np.ones((20_000, 3), dtype=bool), np.random.default_rng(3).random(20_000))
    rate = [(again[made[:, 1] == token] == 2).mean() for token in (1, 2)]
    real = rows(20_000, 4)
    due = [(real[real[:, 1] == token, 0] == 2).mean() for token in (1, 2)]
    assert abs(rate[1] / rate[0] - 1) > 5
    assert rate == pytest.approx(due, abs=0.08)
    assert (again == 2).mean() == pytest.approx(0.1, abs=0.01)


def test_a_declared_share_is_met_in_rows_that_were_drawn_with_it() -> None:
    real = rows(60_000, 5)
    events, others = (real[real[:, 0] == y] for y in (2, 1))
    half = np.concatenate([events, others[: len(events)]])
    trees = OutcomeTrees.fit(rows(3000, 0), half[::2], 0, 2, 0.5, seed=0)
    again = trees.redrawn(half[1::2], np.ones((len(half) // 2, 3), dtype=bool), np.random.default_rng(6).random(len(half) // 2))
    assert (again == 2).mean() == pytest.approx(0.5, abs=0.02)


def test_what_a_rule_leaves_one_outcome_keeps_it(trees) -> None:
    made = rows(2000, 7)
    may = np.ones((2000, 3), dtype=bool)
    may[:1000, 2] = False
    again = trees.redrawn(made, may, np.zeros(2000))  # a chance of 0 would make every row an event
    assert (again[:1000] == made[:1000, 0]).all()
    assert (again[1000:] == 2).all()


def test_outcomes_of_three_values_or_of_few_rows_are_left_alone() -> None:
    three = rows(600, 0)
    three[:100, 0] = 3
    assert OutcomeTrees.fit(three, three, 0, 2, 0.1, seed=0) is None
    assert OutcomeTrees.fit(rows(100, 0), three, 0, 2, 0.1, seed=0) is None


def test_the_shift_by_hand() -> None:
    assert shift_to(np.zeros(10), 0.2, np.ones(10)) == pytest.approx(np.log(0.25))
    far = np.array([0.0, 50.0])
    assert shift_to(far, 0.5, np.array([3.0, 1.0])) == pytest.approx(np.log(0.5))  # a quarter is sure: a third of the rest is wanted


def test_rows_of_which_half_have_the_event_tell_the_shift_too() -> None:
    real = rows(60_000, 8)
    events, others = (real[real[:, 0] == y] for y in (2, 1))
    half = np.concatenate([events[:4000], others[:4000]])
    trees = OutcomeTrees.fit(rows(3000, 0), half, 0, 2, 0.1, seed=0)
    made = rows(20_000, 9)
    again = trees.redrawn(made, np.ones((20_000, 3), dtype=bool), np.random.default_rng(3).random(20_000))
    assert (again == 2).mean() == pytest.approx(0.1, abs=0.01)
