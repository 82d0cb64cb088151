from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.mechanisms import Mechanisms


def mechanisms(epsilon: float = 1.0, rows: int = 1, seed: int | None = 0) -> Mechanisms:
    return Mechanisms(PrivacyAccountant(epsilon, 1e-6, rows), noise_seed=seed)


@pytest.mark.parametrize("rows", [1, 3])
def test_noise_is_as_wide_as_the_ledger_says(rows):
    tell = mechanisms(rows=rows)
    rho = tell.ledger.budget / 2
    noise = tell.counts(np.full(40_000, 500.0), rho, "cells") - 500
    wide = rows / np.sqrt(2 * rho)
    assert noise.std() == pytest.approx(wide, rel=4 / np.sqrt(2 * 40_000) + 1 / wide**2)
    assert abs(noise.mean()) < 4 * wide / 200
    assert (noise == np.rint(noise)).all()
    assert f"{wide:.3g}" in tell.ledger.entries[0].noise
    assert tell.ledger.entries[0].rho == rho


def test_every_answer_is_charged():
    tell = mechanisms()
    left = [tell.ledger.left]
    tell.counts(np.zeros(3), 0.001, "a")
    left.append(tell.ledger.left)
    tell.choose(np.zeros(3), 0.002, "b")
    left.append(tell.ledger.left)
    tell.levels(np.zeros(3), 0.003, 1e-7, "c")
    left.append(tell.ledger.left)
    assert np.diff(left) == pytest.approx([-0.001, -0.002, -0.003])


def test_choice_follows_the_exponential_mechanism():
    tell = Mechanisms(PrivacyAccountant(1e6, 1e-6), noise_seed=1)
    scores, rho = np.array([0.0, 1.0, 3.0]), 0.5  # epsilon 2, sensitivity 1
    counted = np.bincount([tell.choose(scores, rho, "pair") for _ in range(4000)], minlength=3)
    expected = np.exp(scores) / np.exp(scores).sum() * 4000
    assert stats.chisquare(counted, expected).pvalue > 0.001


def test_a_level_of_one_patient_is_hardly_ever_named_and_a_common_one_nearly_always():
    delta = 0.02  # large, so that simulation can see it
    tell = Mechanisms(PrivacyAccountant(1e6, 0.9, rows_per_patient=2), noise_seed=2)
    rho = 2.0
    named = np.array([tell.levels(np.array([2.0, 1.0, 500.0]), rho, delta, "levels")[0] for _ in range(20) for _ in range(1)])
    assert named[:, 2].all()
    spread, threshold = tell.spread(rho), 2 + tell.spread(rho) * stats.norm.ppf(1 - delta / 2)
    passing = stats.norm.sf(np.ceil(threshold) + 0.5, loc=2, scale=spread)
    assert 2 * passing <= delta
    assert named[:, :2].mean() < 0.2


def test_neighbouring_tables_are_told_apart_no_better_than_epsilon_allows():
    """An audit of one count: the best threshold attack, its error rates bounded from below, against the claimed budget."""
    epsilon, trials, rows = 1.0, 20_000, 3
    tell = Mechanisms(PrivacyAccountant(epsilon, 1e-5, rows), noise_seed=3)
    rho = tell.ledger.budget
    without = np.rint(100 + np.random.default_rng(4).normal(0, tell.spread(rho), trials))
    with_him = tell.counts(np.full(trials, 100.0 + rows), rho, "count")
    found = max(_lower_epsilon(with_him > t, without > t, 1e-5) for t in np.quantile(without, [0.5, 0.8, 0.9, 0.95, 0.99]))
    assert 0 < found <= epsilon  # the attack sees something, and no more than it may
    leaky = np.rint(100 + rows + np.random.default_rng(5).normal(0, tell.spread(rho) / 6, trials))  # noise for half a row a patient
    tight = np.rint(100 + np.random.default_rng(6).normal(0, tell.spread(rho) / 6, trials))
    assert max(_lower_epsilon(leaky > t, tight > t, 1e-5) for t in np.quantile(tight, [0.5, 0.8, 0.9, 0.95, 0.99])) > epsilon


def _lower_epsilon(right: np.ndarray, false: np.ndarray, delta: float) -> float:
    """log((TPR - delta) / FPR), TPR at its lower and FPR at its upper 99.5 % bound (Clopper-Pearson)."""
    tpr = stats.beta.ppf(0.005, right.sum(), len(right) - right.sum() + 1)
    fpr = stats.beta.ppf(0.995, false.sum() + 1, len(false) - false.sum())
    return float(np.log(max(tpr - delta, 1e-12) / fpr))


def test_without_a_seed_noise_is_never_the_same():
    first, second = (Mechanisms(PrivacyAccountant(1.0, 1e-6)).counts(np.zeros(50), 0.001, "x") for _ in range(2))
    assert not np.array_equal(first, second)
