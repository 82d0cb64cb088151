"""The outcome sampled again: the model restores a dependence that the rows lack, shares stay, and forbidden tokens are not sampled."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.policy.outcome_model import OutcomeModel, intercept_for_share


def rows(n: int, seed: int, linked: bool = True) -> np.ndarray:
    """Tokens of an outcome (1 or 2, a tenth of them 2) and two columns, the first of which depends on it."""
    rng = np.random.default_rng(seed)
    event = rng.random(n) < 0.1
    linked_event = event if linked else rng.permutation(event)
    return np.stack([1 + event, np.where(rng.random(n) < 0.8, 1 + linked_event, 1 + (rng.random(n) < 0.1)), rng.integers(0, 5, n)], axis=1)


@pytest.fixture(scope="module")
def model() -> OutcomeModel:
    return OutcomeModel.fit(rows(3000, 0), rows(8000, 1, linked=False), 0, 2, 0.1, seed=0)


def test_a_missing_dependence_is_restored_and_the_share_stays(model) -> None:
    synthetic = rows(20_000, 2, linked=False)
    again = model.resample(synthetic, np.ones((20_000, 3), dtype=bool), np.random.default_rng(3).random(20_000))
    rate = [(again[synthetic[:, 1] == token] == 2).mean() for token in (1, 2)]
    real = rows(20_000, 4)
    expected = [(real[real[:, 1] == token, 0] == 2).mean() for token in (1, 2)]
    assert abs(rate[1] / rate[0] - 1) > 5
    assert rate == pytest.approx(expected, abs=0.08)
    assert (again == 2).mean() == pytest.approx(0.1, abs=0.01)


def test_a_declared_share_is_met_in_rows_sampled_with_it() -> None:
    real = rows(60_000, 5)
    events, others = (real[real[:, 0] == y] for y in (2, 1))
    half = np.concatenate([events, others[: len(events)]])
    model = OutcomeModel.fit(rows(3000, 0), half[::2], 0, 2, 0.5, seed=0)
    again = model.resample(half[1::2], np.ones((len(half) // 2, 3), dtype=bool), np.random.default_rng(6).random(len(half) // 2))
    assert (again == 2).mean() == pytest.approx(0.5, abs=0.02)


def test_a_row_with_one_allowed_outcome_keeps_it(model) -> None:
    synthetic = rows(2000, 7)
    allowed = np.ones((2000, 3), dtype=bool)
    allowed[:1000, 2] = False
    again = model.resample(synthetic, allowed, np.zeros(2000))  # 0: every row would become an event
    assert (again[:1000] == synthetic[:1000, 0]).all()
    assert (again[1000:] == 2).all()


def test_three_values_or_few_rows_have_no_model() -> None:
    three = rows(600, 0)
    three[:100, 0] = 3
    assert OutcomeModel.fit(three, three, 0, 2, 0.1, seed=0) is None
    assert OutcomeModel.fit(rows(100, 0), three, 0, 2, 0.1, seed=0) is None


def test_the_intercept_by_hand() -> None:
    assert intercept_for_share(np.zeros(10), 0.2, np.ones(10)) == pytest.approx(np.log(0.25))
    log_odds = np.array([0.0, 50.0])
    assert intercept_for_share(log_odds, 0.5, np.array([3.0, 1.0])) == pytest.approx(np.log(0.5))  # weight ¼ is certain: ⅓ of the rest


def test_half_of_the_rows_with_the_event_give_the_intercept_too() -> None:
    real = rows(60_000, 8)
    events, others = (real[real[:, 0] == y] for y in (2, 1))
    half = np.concatenate([events[:4000], others[:4000]])
    model = OutcomeModel.fit(rows(3000, 0), half, 0, 2, 0.1, seed=0)
    synthetic = rows(20_000, 9)
    again = model.resample(synthetic, np.ones((20_000, 3), dtype=bool), np.random.default_rng(3).random(20_000))
    assert (again == 2).mean() == pytest.approx(0.1, abs=0.01)
