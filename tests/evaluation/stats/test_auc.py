from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nearward.evaluation.stats.auc import delong_auc, mean_auc


def test_areas_are_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        positive, negative = rng.integers(0, 6, (30, 3)) + 0.0, rng.integers(0, 5, (40, 3)) + 0.0
        y = np.repeat([1, 0], [30, 40])
        expected = [roc_auc_score(y, np.concatenate([positive[:, j], negative[:, j]])) for j in range(3)]
        assert delong_auc(positive, negative).auc == pytest.approx(expected)


def test_swapping_the_groups_mirrors_the_auc():
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(0.5, 1, (50, 2)), rng.normal(0, 1, (70, 2))
    forward, swapped = delong_auc(positive, negative), delong_auc(negative, positive)
    assert forward.auc == pytest.approx(1 - swapped.auc)
    assert forward.standard_error == pytest.approx(swapped.standard_error, rel=0.02)


def test_standard_error_is_the_spread_over_samples():
    rng = np.random.default_rng(2)
    samples = [delong_auc(rng.normal(0.4, 1, (80, 1)), rng.normal(0, 1, (80, 1))) for _ in range(300)]
    assert np.mean([one.standard_error[0] for one in samples]) == pytest.approx(np.std([one.auc[0] for one in samples]), rel=0.12)


def test_repeated_rows_of_a_patient_do_not_narrow_the_interval():
    rng = np.random.default_rng(3)
    positive, negative = rng.normal(0, 1, (60, 1)), rng.normal(0, 1, (60, 1))
    alone = delong_auc(positive, negative)
    patient_ids = np.repeat(np.arange(60), 4)
    repeated = delong_auc(positive.repeat(4, axis=0), negative.repeat(4, axis=0), patient_ids, patient_ids)
    assert repeated.standard_error == pytest.approx(alone.standard_error)


def test_mean_auc_averages_and_narrows():
    rng = np.random.default_rng(4)
    halves = [delong_auc(rng.normal(0, 1, (50, 1)), rng.normal(0, 1, (50, 1))) for _ in range(2)]
    both = mean_auc(halves)
    assert both.auc == pytest.approx((halves[0].auc + halves[1].auc) / 2)
    assert both.standard_error == pytest.approx(np.sqrt(halves[0].standard_error ** 2 + halves[1].standard_error ** 2) / 2, rel=0.02)


def test_intervals_for_several_scores_hold_together():
    rng = np.random.default_rng(5)
    missed = 0
    for seed in range(200):
        intervals = delong_auc(rng.normal(0, 1, (60, 6)), rng.normal(0, 1, (60, 6))).simultaneous_intervals(seed)
        missed += any(not one.low <= 0.5 <= one.high for one in intervals)
    assert 1 <= missed <= 20  # 10 expected; binomial(200, .05) lies within with probability .998


def test_perfect_scores_have_an_interval_of_some_width():
    (interval,) = delong_auc(np.ones((100, 1)), np.zeros((100, 1))).intervals()
    assert interval.value == interval.high == 1
    assert interval.low < 1
