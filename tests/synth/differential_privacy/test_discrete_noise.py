"""Discrete noise against its distributions, from a reproducible source: the same samples in every run."""

from __future__ import annotations

import secrets
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from scipy import stats

from nearward.synth.differential_privacy.discrete_noise import (
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
    exponential_choice,
    noise_source,
)

N = 20_000


def chi_square(sample: list[int], log_weight: np.ndarray, values: np.ndarray) -> float:
    """p-value of a sample against probabilities proportional to exp(log_weight); values with few rows are pooled."""
    probability = np.exp(log_weight - log_weight.max())
    probability /= probability.sum()
    expected = N * probability
    observed = np.array([sample.count(value) for value in values.tolist()], dtype=np.float64)
    assert observed.sum() == N  # the range of values covers the sample
    common = expected >= 20
    pooled = np.append(observed[common], observed[~common].sum()), np.append(expected[common], expected[~common].sum())
    return float(stats.chisquare(*(part[pooled[1] > 0] for part in pooled)).pvalue)


def test_the_default_source_is_the_operating_systems_generator_and_a_seed_is_for_tests() -> None:
    assert isinstance(noise_source(), secrets.SystemRandom)
    assert [noise_source(3).random(), noise_source(3).random()] == [Random(3).random()] * 2


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(5, 2)])
def test_bernoulli_of_an_exponential(exponent: Fraction) -> None:
    source = Random(1)
    hits = sum(bernoulli_exp(exponent.numerator, exponent.denominator, source) for _ in range(N))
    assert stats.binomtest(hits, N, float(np.exp(-float(exponent)))).pvalue > 0.01


@pytest.mark.parametrize("scale", [1, 2, 7])
def test_discrete_laplace(scale: int) -> None:
    source, values = Random(scale), np.arange(-40 * scale, 40 * scale + 1)
    sample = [discrete_laplace(scale, source) for _ in range(N)]
    assert chi_square(sample, -np.abs(values) / scale, values) > 0.01


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(1), Fraction(7, 3), Fraction(10_000_019, 2**18)])
def test_discrete_gaussian(variance: Fraction) -> None:
    source = Random(int(variance))
    values = np.arange(-80, 81)
    sample = [discrete_gaussian(variance, source) for _ in range(N)]
    assert chi_square(sample, -(values**2) / (2 * float(variance)), values) > 0.01


def test_the_test_would_notice_a_variance_that_is_ten_per_cent_off() -> None:
    source, values = Random(2), np.arange(-80, 81)
    sample = [discrete_gaussian(Fraction(11), source) for _ in range(N)]
    assert chi_square(sample, -(values**2) / (2 * 10.0), values) < 1e-6


def test_exponential_choice() -> None:
    source, scores = Random(3), [0, 40, 70, 70, -10_000]
    chosen = [exponential_choice(scores, Fraction(1, 30), source) for _ in range(N)]
    assert chi_square(chosen, np.array(scores) / 30, np.arange(5)) > 0.01
