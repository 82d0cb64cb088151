"""Metrics of the benchmarks, against scikit-learn and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks.common.paired_metrics import Ranking, expected_error, paired_intervals, risk_metrics


def test_weighted_auprc_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for decimals in (1, 8):  # with ties and without
        outcome = (rng.random(300) < 0.1).astype(int)
        risk = np.round(rng.random(300), decimals)
        weight = rng.integers(0, 4, 300).astype(float)
        expected = average_precision_score(outcome, risk, sample_weight=weight)
        assert Ranking(outcome, risk).auprc(weight) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    outcome, risk = np.array([0, 1, 1, 1]), np.array([0.05, 0.05, 0.95, 0.85])
    expected = (2 * abs(0.5 - 0.05) + abs(1 - 0.95) + abs(1 - 0.85)) / 4
    assert risk_metrics(outcome, risk)["ece"] == pytest.approx(expected)


def test_expected_error_is_that_of_calibrated_risks() -> None:
    rng = np.random.default_rng(1)
    risk = rng.random(2000) ** 3
    simulated = np.mean([risk_metrics((rng.random(2000) < risk).astype(int), risk)["ece"] for _ in range(50)])
    assert expected_error(risk) == pytest.approx(simulated, rel=0.1)


def test_paired_interval_of_a_model_with_itself_is_zero_and_of_a_better_one_positive() -> None:
    rng = np.random.default_rng(2)
    outcome = (rng.random(800) < 0.2).astype(int)
    good, bad = outcome + rng.normal(0, 0.7, 800), outcome + rng.normal(0, 3.0, 800)
    group = np.repeat(np.arange(400), 2)
    intervals = paired_intervals([outcome], [group], [good], {"itself": [good], "worse": [bad]})
    assert intervals["itself"] == (0.0, 0.0, 0.0)
    assert 0 < intervals["worse"][1] < intervals["worse"][0] < intervals["worse"][2]


def test_further_seeds_on_the_same_patients_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(3)
    outcome, patients = (rng.random(300) < 0.2).astype(int), np.arange(300)
    ours, other = outcome + rng.normal(0, 1, 300), outcome + rng.normal(0, 1, 300)
    once = paired_intervals([outcome], [patients], [ours], {"other": [other]})["other"]
    thrice = paired_intervals([outcome] * 3, [patients] * 3, [ours] * 3, {"other": [other] * 3})["other"]
    assert thrice == pytest.approx(once)
    elsewhere = paired_intervals([outcome] * 3, [patients + 300 * i for i in range(3)], [ours] * 3, {"other": [other] * 3})["other"]
    assert elsewhere[2] - elsewhere[1] < 0.8 * (once[2] - once[1])
