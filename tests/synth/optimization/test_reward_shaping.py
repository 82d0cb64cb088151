"""Reward shaping by hand: the rare outcome has more weight, and the prior does not shift."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.reward_shaping import (
    class_weights,
    coverage_bonus,
    density_bonus,
    shape_advantage,
    shape_step_advantages,
    shares,
    within_class,
)


def test_advantages_by_hand() -> None:
    reward, outcome = np.array([1.0, 2.0, 3.0, 100.0, 200.0]), np.array([0, 0, 0, 1, 1])
    advantage = within_class(reward, outcome, 2)
    assert advantage == pytest.approx([-(1.5**0.5), 0, 1.5**0.5, -1, 1], abs=1e-6)


def test_weights_by_hand() -> None:
    weight = class_weights(np.array([0.98, 0.02]), np.array([0.98, 0.02]))
    raw = np.array([1.96**-0.5, 5.0])  # 0.04^(-1/2)
    assert weight == pytest.approx(raw / (0.98 * raw[0] + 0.02 * raw[1]))
    assert class_weights(np.array([1 - 1e-5, 1e-5]), np.array([0.5, 0.5]))[1] == pytest.approx(
        2 * 10 / (10 + (2 * (1 - 1e-5)) ** -0.5)
    )  # clipped at ten before it is rescaled


def test_the_bonus_is_zero_at_the_target_and_points_towards_it() -> None:
    p = np.array([0.9, 0.1])
    assert coverage_bonus(p, p).tolist() == [0.0, 0.0]
    bonus = coverage_bonus(p, np.array([0.95, 0.05]), strength=0.5)
    assert bonus == pytest.approx([0.5 * np.log(0.9 / 0.95), 0.5 * np.log(2)])
    assert np.isfinite(coverage_bonus(p, np.array([1.0, 0.0]))).all()


def test_shaping_moves_no_prior_where_the_target_is_met_and_naive_weights_would() -> None:
    rng = np.random.default_rng(0)
    outcome = (rng.random(20_000) < 0.03).astype(int)
    reward = 2 + rng.normal(0, 1, 20_000)  # positive, the same in both outcomes
    prior = shares(outcome, 2)
    advantage = shape_advantage(reward, outcome, prior, prior)
    means = [advantage[outcome == y].mean() for y in (0, 1)]
    assert means == pytest.approx([0, 0], abs=1e-9)
    assert advantage[outcome == 1].std() > 3 * advantage[outcome == 0].std()
    naive = reward / prior[outcome]
    assert naive[outcome == 1].mean() > 20 * naive[outcome == 0].mean()


def test_the_density_bonus_is_against_a_single_prototype() -> None:
    real = np.array([[0, 0], [1, 1], [2, 2], [3, 3]] * 50)
    assert density_bonus(real, real) == pytest.approx(np.zeros(200))
    synthetic = np.array([[0, 0]] * 190 + [[3, 3]] * 10)
    bonus = density_bonus(real, synthetic)
    assert bonus[0] == pytest.approx(np.log((50.5 / 202) / (190.5 / 202)))
    assert bonus[0] < 0 < bonus[-1]


def test_a_step_without_reward_is_not_scaled_up() -> None:
    rng = np.random.default_rng(1)
    outcome = (rng.random(4000) < 0.1).astype(int)
    advantage = rng.normal(0, [1.0, 2.0, 0.01], (4000, 3)) + np.array([0.0, 5.0, 0.0])
    prior = shares(outcome, 2)
    advantage = shape_step_advantages(advantage, outcome, 0, prior, prior)
    assert (advantage[:, 0] == 0).all()  # the target is met: the outcome's own step is left alone
    for y in (0, 1):
        rows = advantage[outcome == y]
        assert rows.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
        assert rows[:, 1].std() / rows[:, 2].std() == pytest.approx(200, rel=0.15)
    shifted = shape_step_advantages(advantage, outcome, 0, prior, np.array([0.5, 0.5]))[:, 0]
    assert shifted[outcome == 1].min() > 0 > shifted[outcome == 0].max()
