from __future__ import annotations

import secrets
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.tabular.errors import InputError


def mechanisms(epsilon: float = 1.0, rows: int = 1, seed: int | None = 0) -> Mechanisms:
    return Mechanisms(PrivacyAccountant(epsilon, 1e-6, rows), noise_seed=seed)


@pytest.mark.parametrize("rows", [1, 3])
def test_noise_has_the_scale_that_is_recorded(rows):
    private = mechanisms(rows=rows)
    rho = private.accountant.budget / 2
    noise = private.counts(np.full(40_000, 500.0), rho, "cells") - 500
    sd = rows / np.sqrt(2 * rho)
    assert noise.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * 40_000) + 1 / sd**2)
    assert abs(noise.mean()) < 4 * sd / 200
    assert (noise == np.rint(noise)).all()
    assert f"{sd:.3g}" in private.accountant.entries[0].noise
    assert private.accountant.entries[0].rho == rho


def test_noise_comes_from_the_operating_systems_generator_and_the_variance_is_never_below_what_is_charged():
    assert isinstance(mechanisms(seed=None)._source, secrets.SystemRandom)
    for rho in (0.001, 0.0123, 0.3, 7.0):
        private = mechanisms(rows=3)
        loss = Fraction(9) / (2 * private.noise_variance(rho))
        assert Fraction(rho) * (1 - Fraction(1, 2**17)) < loss <= Fraction(rho)


def test_counts_that_are_no_whole_numbers_are_refused():
    with pytest.raises(InputError, match="whole numbers"):
        mechanisms().counts(np.array([1.0, 2.5]), 0.001, "cells")
    with pytest.raises(InputError, match="whole numbers"):
        mechanisms().counts(np.array([np.nan]), 0.001, "cells")


def test_every_release_is_charged():
    private = mechanisms()
    remaining = [private.accountant.remaining]
    private.counts(np.zeros(3), 0.001, "a")
    remaining.append(private.accountant.remaining)
    private.choose(np.zeros(3), 0.002, "b")
    remaining.append(private.accountant.remaining)
    private.select_categories(np.zeros(3), 0.003, 1e-7, "c")
    remaining.append(private.accountant.remaining)
    assert np.diff(remaining) == pytest.approx([-0.001, -0.002, -0.003])


def test_choice_follows_the_exponential_mechanism():
    private = Mechanisms(PrivacyAccountant(1e6, 1e-6), noise_seed=1)
    scores, rho = np.array([0.0, 1.0, 3.0]), 0.5  # epsilon 2, sensitivity 1
    counts = np.bincount([private.choose(scores, rho, "pair") for _ in range(4000)], minlength=3)
    expected = np.exp(scores) / np.exp(scores).sum() * 4000
    assert stats.chisquare(counts, expected).pvalue > 0.001


def test_a_category_of_one_patient_is_rarely_selected_and_a_common_one_almost_always():
    delta = 0.02  # large, so that a simulation shows it
    private = Mechanisms(PrivacyAccountant(1e6, 0.9, rows_per_patient=2), noise_seed=2)
    rho = 2.0
    selected = np.array([private.select_categories(np.array([2.0, 1.0, 500.0]), rho, delta, "levels")[0] for _ in range(20)])
    assert selected[:, 2].all()
    spread, threshold = private.noise_scale(rho), 2 + private.noise_scale(rho) * stats.norm.ppf(1 - delta / 2)
    noise = np.arange(-200, 201)
    share = np.exp(-(noise**2) / (2 * spread**2)) / np.exp(-(noise**2) / (2 * spread**2)).sum()
    assert 2 * share[2 + noise > np.ceil(threshold)].sum() <= delta  # exactly, by the discrete Gaussian
    assert selected[:, :2].mean() < 0.2


def test_neighbouring_tables_are_distinguished_no_better_than_epsilon_allows():
    """An audit of one count: the best threshold attack, its error rates bounded from below, against the claimed budget."""
    epsilon, trials, rows = 1.0, 20_000, 3
    private = Mechanisms(PrivacyAccountant(epsilon, 1e-5, rows), noise_seed=3)
    rho = private.accountant.budget
    without = np.rint(100 + np.random.default_rng(4).normal(0, private.noise_scale(rho), trials))
    with_patient = private.counts(np.full(trials, 100.0 + rows), rho, "count")
    epsilon_bound = max(_lower_epsilon(with_patient > t, without > t, 1e-5) for t in np.quantile(without, [0.5, 0.8, 0.9, 0.95, 0.99]))
    assert 0 < epsilon_bound <= epsilon  # the attack succeeds, within the budget
    leaky = np.rint(100 + rows + np.random.default_rng(5).normal(0, private.noise_scale(rho) / 6, trials))  # a sixth of the noise
    tight = np.rint(100 + np.random.default_rng(6).normal(0, private.noise_scale(rho) / 6, trials))
    assert max(_lower_epsilon(leaky > t, tight > t, 1e-5) for t in np.quantile(tight, [0.5, 0.8, 0.9, 0.95, 0.99])) > epsilon


def _lower_epsilon(right: np.ndarray, false: np.ndarray, delta: float) -> float:
    """log((TPR - delta) / FPR), TPR at its lower and FPR at its upper 99.5 % bound (Clopper-Pearson)."""
    tpr = stats.beta.ppf(0.005, right.sum(), len(right) - right.sum() + 1)
    fpr = stats.beta.ppf(0.995, false.sum() + 1, len(false) - false.sum())
    return float(np.log(max(tpr - delta, 1e-12) / fpr))


def test_without_a_seed_noise_is_never_the_same():
    first, second = (Mechanisms(PrivacyAccountant(1.0, 1e-6)).counts(np.zeros(50), 0.001, "x") for _ in range(2))
    assert not np.array_equal(first, second)
