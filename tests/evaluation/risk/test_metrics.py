"""Metrics: cases worked by hand, agreement with scikit-learn, weights that are repeated rows, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from nearward.evaluation.risk.metrics import METRICS, OperatingPoint, WeightedMetrics
from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.errors import InputError

KEYS = [metric.key for metric in METRICS]


def metrics_of(outcome, risk, alert_rate=0.5, threshold=0.5, weight=None) -> dict[str, float]:
    weighted = WeightedMetrics(np.array(outcome, float), np.array(risk, float), OperatingPoint(alert_rate, threshold))
    values = weighted.point if weight is None else weighted(np.array([weight]))[0]
    return dict(zip(KEYS, values, strict=False))


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A few rows with both outcomes; coarse risks tie often."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 80))
    outcome = (rng.random(n) < rng.uniform(0.05, 0.8)).astype(float)
    outcome[:2] = 1, 0
    return outcome, np.round(rng.random(n), int(rng.integers(0, 5))), rng


def test_four_rows_by_hand():
    metrics = metrics_of([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    by_hand = {
        "prevalence": 0.5,
        "auprc": (1 / 1 + 2 / 3) / 2,  # precision where each event is found
        "auroc": 3 / 4,  # three of the four pairs
        "brier": (0.01 + 0.64 + 0.09 + 0.01) / 4,
        "scaled_brier": 1 - 0.1875 / 0.25,
        "observed_expected": 2 / 2.5,
        "ece": (0.1 + 0.8 + 0.3 + 0.1) / 4,  # each row in a bin of its own
        "recall_at_budget": 1 / 2,  # two alerts, one right
        "ppv_at_budget": 1 / 2,
        "net_benefit": (2 - 1) / 4,  # three rows reach .5, one without the event; odds 1
        "net_benefit_all": 0.0,
        "net_benefit_gain": 0.25,
    }
    assert {key: metrics[key] for key in by_hand} == pytest.approx(by_hand)


def test_ties_by_hand():
    metrics = metrics_of([1, 0, 0, 1, 0], [0.6, 0.6, 0.6, 0.2, 0.2], alert_rate=0.4, threshold=0.6)
    assert metrics["auroc"] == pytest.approx((0.5 + 0.5 + 1 + 0 + 0 + 0.5) / 6)
    assert metrics["auprc"] == pytest.approx(0.5 * 1 / 3 + 0.5 * 2 / 5)
    assert metrics["recall_at_budget"] == pytest.approx(2 / 3 / 2)  # two of the three at .6 by lot: 2/3 of an event
    assert metrics["ppv_at_budget"] == pytest.approx(2 / 3 / 2)
    assert metrics["net_benefit"] == pytest.approx((1 - 2 * 0.6 / 0.4) / 5)  # those at the threshold are alerted


def test_recalibration_by_hand():
    """Two risks: the line goes through both points, log-odds of .2 -> of .4, of .8 -> of .7."""
    risk = np.repeat([0.2, 0.8], 10)
    outcome = np.concatenate([np.repeat([1.0, 0.0], [4, 6]), np.repeat([1.0, 0.0], [7, 3])])
    log_odds = logit(np.array([0.2, 0.8, 0.4, 0.7]))
    metrics = metrics_of(outcome, risk)
    slope = (log_odds[3] - log_odds[2]) / (log_odds[1] - log_odds[0])
    assert metrics["calibration_slope"] == pytest.approx(slope)
    assert metrics["calibration_intercept"] == pytest.approx(log_odds[2] - slope * log_odds[0])
    assert metrics_of([1, 1, 0, 0, 0], [0.2] * 5)["calibration_in_the_large"] == pytest.approx(log_odds[2] - log_odds[0])


def test_line_is_that_of_logistic_regression():
    rng = np.random.default_rng(1)
    log_odds = rng.normal(-1, 1.5, 400)
    outcome = (rng.random(400) < 1 / (1 + np.exp(-0.5 * log_odds - 0.3))).astype(float)
    weight = rng.integers(0, 4, (3, 400)).astype(float)
    for row, line in zip(weight, LogisticRecalibration(log_odds, outcome).intercept_and_slope(weight), strict=True):
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(log_odds[:, None], outcome, sample_weight=row)
        np.testing.assert_allclose(line, [fitted.intercept_[0], fitted.coef_[0, 0]], atol=1e-4)
    intercept = LogisticRecalibration(log_odds, outcome).in_the_large(weight)
    expected = (weight / (1 + np.exp(-log_odds - intercept[:, None]))).sum(axis=1)
    np.testing.assert_allclose(expected, weight @ outcome, rtol=1e-6)


def test_agreement_with_scikit_learn_on_200_problems():
    tied = 0
    for seed in range(200):
        outcome, risk, _ = problem(seed)
        tied += len(np.unique(risk)) < len(risk)
        metrics = metrics_of(outcome, risk)
        assert metrics["auprc"] == pytest.approx(average_precision_score(outcome, risk), abs=1e-12)
        assert metrics["auroc"] == pytest.approx(roc_auc_score(outcome, risk), abs=1e-12)
        assert metrics["brier"] == pytest.approx(brier_score_loss(outcome, risk), abs=1e-12)
    assert 50 < tied < 200


@given(st.integers(0, 2**32 - 1))
def test_weights_are_repeated_rows(seed):
    outcome, risk, rng = problem(seed)
    weight = rng.integers(0, 4, len(outcome))
    weight[:2] += 1
    repeated = metrics_of(np.repeat(outcome, weight), np.repeat(risk, weight), 0.3, 0.3)
    metrics = metrics_of(outcome, risk, 0.3, 0.3, weight)
    exact = [key for key in KEYS if not key.startswith("calibration")]
    np.testing.assert_allclose([metrics[key] for key in exact], [repeated[key] for key in exact], rtol=1e-9, atol=1e-12)
    for key in set(KEYS) - set(exact):  # resamples stop their Newton steps early
        if np.isfinite(metrics[key]) and np.isfinite(repeated[key]):
            assert metrics[key] == pytest.approx(repeated[key], abs=2e-3, rel=2e-3)


@given(st.integers(0, 2**32 - 1))
def test_invariances(seed):
    outcome, risk, rng = problem(seed)
    metrics = metrics_of(outcome, risk)
    transformed = metrics_of(outcome, risk**3 / 2 + 0.1)
    order = rng.permutation(len(risk))
    shuffled = metrics_of(outcome[order], risk[order])
    mirrored = metrics_of(1 - outcome, 1 - risk)
    for key in ("auroc", "auprc", "recall_at_budget", "ppv_at_budget"):
        assert transformed[key] == pytest.approx(metrics[key])
    for key in KEYS:
        assert shuffled[key] == pytest.approx(metrics[key], nan_ok=True, abs=1e-6)
    assert mirrored["auroc"] == pytest.approx(metrics["auroc"])
    assert metrics_of(1 - outcome, risk)["auroc"] == pytest.approx(1 - metrics["auroc"])
    assert mirrored["brier"] == pytest.approx(metrics["brier"])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_bounds_that_always_hold(seed, rate):
    outcome, risk, _ = problem(seed)
    metrics = metrics_of(outcome, risk, alert_rate=rate)
    assert metrics["recall_at_budget"] * outcome.mean() == pytest.approx(metrics["ppv_at_budget"] * rate)
    assert 0 <= metrics["recall_at_budget"] <= 1 + 1e-12
    assert abs(outcome.mean() - risk.mean()) <= metrics["ece"] + 1e-12
    assert metrics["net_benefit"] <= outcome.mean() + 1e-12


def test_equal_risks_have_defined_results():
    metrics = metrics_of([1, 0, 0, 0], [0.3] * 4)
    assert metrics["auroc"] == 0.5
    assert metrics["auprc"] == 0.25
    assert metrics["recall_at_budget"] == 0.5  # half of the rows by lot
    assert np.isnan(metrics["calibration_slope"])


@pytest.mark.parametrize(("outcome", "risk"), [([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]), ([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1])])
def test_no_slope_where_the_risk_separates_the_outcomes(outcome, risk):
    weighted = WeightedMetrics(np.array(outcome, float), np.array(risk), OperatingPoint(0.5, 0.5))
    assert weighted.no_slope == "the risk separates the outcomes perfectly"
    assert np.isnan(dict(zip(KEYS, weighted.point, strict=False))["calibration_slope"])


@pytest.mark.parametrize("settings", [{"alert_rate": 0.0}, {"alert_rate": 1.5}, {"threshold": 1.0}, {"threshold": -0.1}])
def test_operating_point_lies_between_0_and_1(settings):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        OperatingPoint(**{"alert_rate": 0.05, "threshold": 0.1, **settings})
