from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.tabular.statistics import (
    mean_and_deviation,
    placement_values,
    sum_by_patient,
    weighted_auroc,
    weighted_average_precision,
    weighted_quantile,
    wilson_interval,
)


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_interval_is_scipys(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert np.array(wilson_interval(successes / n, n, level)) == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_wilson_interval_of_arrays() -> None:
    low, high = wilson_interval(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    assert (low[0], high[2]) == (0, 1)
    assert low[1] + high[1] == pytest.approx(1)


def test_placement_values_average_to_the_auc_on_either_side() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 30) + 0.5, rng.integers(0, 5, 40) + 0.5
    expected = roc_auc_score(np.repeat([1, 0], [30, 40]), np.concatenate([positive, negative]))
    of_positive, of_negative = placement_values(positive, negative)
    assert (of_positive.mean(), of_negative.mean()) == pytest.approx((expected, expected))


@pytest.mark.parametrize("values", [2, 7, 10_000])  # of the score: many ties, and none
def test_average_precision_of_weighted_rows_is_scikit_learns(values: int) -> None:
    rng = np.random.default_rng(values)
    outcome, score = rng.integers(0, 2, 200), rng.integers(0, values, 200).astype(float)
    auprc = weighted_average_precision(outcome, score)
    for weight in (np.ones(200), rng.exponential(size=200), rng.integers(0, 2, 200).astype(float)):
        assert auprc(weight) == pytest.approx(average_precision_score(outcome, score, sample_weight=weight), abs=1e-12)


def test_sums_by_patient() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert sum_by_patient(values, np.array([7, 3, 7])).tolist() == [2.0, 5.0]
    assert sum_by_patient(values, None) is values


def test_weighted_figures_are_those_of_repeated_values() -> None:
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=80).round(1), rng.integers(1, 6, 80)
    repeated, shares = np.repeat(values, times), np.linspace(0, 1, 101)
    assert weighted_quantile(values, shares, times.astype(float)) == pytest.approx(np.quantile(repeated, shares), abs=1e-12)
    assert weighted_quantile(values, shares).tolist() == np.quantile(values, shares).tolist()
    assert mean_and_deviation(values, times.astype(float)) == pytest.approx((repeated.mean(), repeated.std()))
    assert mean_and_deviation(values) == (values.mean(), values.std())


@pytest.mark.parametrize("values", [2, 7, 10_000])
def test_auroc_of_weighted_rows_is_scikit_learns(values: int) -> None:
    rng = np.random.default_rng(values)
    outcome, score = rng.integers(0, 2, 200), rng.integers(0, values, 200).astype(float)
    auroc = weighted_auroc(outcome, score)
    for weight in (np.ones(200), rng.exponential(size=200), rng.integers(0, 2, 200).astype(float)):
        assert auroc(weight) == pytest.approx(roc_auc_score(outcome, score, sample_weight=weight), abs=1e-12)
