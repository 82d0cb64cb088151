from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nearward.evaluation.stats.auc import delong_auc, mean_auc


def test_areas_are_scikit_learns_with_ties():
    draw = np.random.default_rng(0)
    for _ in range(50):
        first, second = draw.integers(0, 6, (30, 3)) + 0.0, draw.integers(0, 5, (40, 3)) + 0.0
        y = np.repeat([1, 0], [30, 40])
        expected = [roc_auc_score(y, np.concatenate([first[:, j], second[:, j]])) for j in range(3)]
        assert delong_auc(first, second).auc == pytest.approx(expected)


def test_swapping_the_groups_mirrors():
    draw = np.random.default_rng(1)
    first, second = draw.normal(0.5, 1, (50, 2)), draw.normal(0, 1, (70, 2))
    there, back = delong_auc(first, second), delong_auc(second, first)
    assert there.auc == pytest.approx(1 - back.auc)
    assert there.standard_error == pytest.approx(back.standard_error, rel=0.02)


def test_error_is_the_spread_over_samples():
    draw = np.random.default_rng(2)
    found = [delong_auc(draw.normal(0.4, 1, (80, 1)), draw.normal(0, 1, (80, 1))) for _ in range(300)]
    assert np.mean([one.standard_error[0] for one in found]) == pytest.approx(np.std([one.auc[0] for one in found]), rel=0.12)


def test_rows_that_repeat_a_patient_do_not_narrow_the_interval():
    draw = np.random.default_rng(3)
    first, second = draw.normal(0, 1, (60, 1)), draw.normal(0, 1, (60, 1))
    alone = delong_auc(first, second)
    patient = np.repeat(np.arange(60), 4)
    repeated = delong_auc(first.repeat(4, axis=0), second.repeat(4, axis=0), patient, patient)
    assert repeated.standard_error == pytest.approx(alone.standard_error)


def test_parts_pooled_average_and_are_surer():
    draw = np.random.default_rng(4)
    halves = [delong_auc(draw.normal(0, 1, (50, 1)), draw.normal(0, 1, (50, 1))) for _ in range(2)]
    both = mean_auc(halves)
    assert both.auc == pytest.approx((halves[0].auc + halves[1].auc) / 2)
    assert both.standard_error == pytest.approx(np.sqrt(halves[0].standard_error ** 2 + halves[1].standard_error ** 2) / 2, rel=0.02)


def test_intervals_for_several_scores_hold_together():
    draw = np.random.default_rng(5)
    missed = 0
    for seed in range(200):
        found = delong_auc(draw.normal(0, 1, (60, 6)), draw.normal(0, 1, (60, 6))).simultaneous_intervals(seed)
        missed += any(not one.low <= 0.5 <= one.high for one in found)
    assert 1 <= missed <= 20  # 10 expected; binomial(200, .05) lies within with probability .998


def test_faultless_scores_are_not_infinitely_sure():
    (found,) = delong_auc(np.ones((100, 1)), np.zeros((100, 1))).intervals()
    assert found.value == found.high == 1
    assert found.low < 1
