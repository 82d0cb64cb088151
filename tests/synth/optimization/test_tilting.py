"""Tilting: effective sample sizes by hand, the right temperature, refusal of a small effective share."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.tilting import (
    check_effective_share,
    choose_candidates,
    class_tilt_weights,
    effective_share,
    fit_temperature,
    tilt_divergence,
    tilt_weights,
)
from nearward.tabular.errors import InputError


def test_weights_by_hand() -> None:
    weight = tilt_weights(np.array([0.0, np.log(3)]), beta=1.0)
    assert weight == pytest.approx([0.5, 1.5])
    assert effective_share(weight) == pytest.approx(4 / (2 * 2.5))


def test_a_tilt_with_a_small_effective_share_is_refused() -> None:
    with pytest.raises(InputError, match=r"effective sample size is 1\.0%"):
        check_effective_share(tilt_weights(np.array([100.0, *[0.0] * 99]), beta=1.0))
    assert check_effective_share(np.ones(10)) == 1


def test_the_temperature_finds_the_exact_ratio_and_ignores_noise() -> None:
    rng = np.random.default_rng(1)
    synthetic = rng.normal(0, 1, 5000)
    beta, gain = fit_temperature(3 * rng.normal(0.5, 1, 5000), 3 * synthetic)  # log ratio x / 2, the score is three times x
    assert beta == pytest.approx(6, rel=0.3)
    assert gain == pytest.approx(0.125, abs=0.04)
    beta, gain = fit_temperature(rng.normal(-0.5, 1, 5000), synthetic)  # a score that points the wrong way
    assert (beta, gain) == (float("inf"), 0.0)


def test_tilting_within_outcomes_gives_each_its_declared_share() -> None:
    rng = np.random.default_rng(2)
    outcome = (rng.random(4000) < 0.1).astype(int)
    reward = rng.normal(0, 1, 4000) + 3 * outcome  # the discriminators prefer the rare outcome
    weight = class_tilt_weights(reward, outcome, 1.0, np.array([0.9, 0.1]))
    assert weight[outcome == 1].sum() / weight.sum() == pytest.approx(0.1)
    assert np.corrcoef(weight[outcome == 1], reward[outcome == 1])[0, 1] > 0.5


def test_candidates_are_chosen_in_proportion() -> None:
    reward = np.tile(np.log([[1.0, 3.0]]), (20_000, 1))
    pick = choose_candidates(reward, 1.0, np.random.default_rng(3).random(20_000))
    assert pick.mean() == pytest.approx(0.75, abs=0.015)


def test_the_divergence_of_a_tilt_by_hand() -> None:
    # weights 1/2 and 3/2 on two rows of equal chance: shares 1/4 and 3/4 against 1/2
    assert tilt_divergence(np.array([0.0, np.log(3)]), 1.0) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    assert tilt_divergence(np.array([0.0, 5.0]), float("inf")) == 0
