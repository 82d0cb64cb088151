"""Metrics: cases worked by hand, agreement with scikit-learn, weights that are repeated rows, what must not change."""

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


def measured(outcome, risk, alert_rate=0.5, threshold=0.5, weight=None) -> dict[str, float]:
    measure = WeightedMetrics(np.array(outcome, float), np.array(risk, float), OperatingPoint(alert_rate, threshold))
    values = measure.point if weight is None else measure(np.array([weight]))[0]
    return dict(zip(KEYS, values, strict=False))


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A few rows with both outcomes; coarse risks tie often."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(4, 80))
    outcome = (draw.random(n) < draw.uniform(0.05, 0.8)).astype(float)
    outcome[:2] = 1, 0
    return outcome, np.round(draw.random(n), int(draw.integers(0, 5))), draw


def test_four_rows_by_hand():
    found = measured([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
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
    assert {key: found[key] for key in by_hand} == pytest.approx(by_hand)


def test_ties_by_hand():
    found = measured([1, 0, 0, 1, 0], [0.6, 0.6, 0.6, 0.2, 0.2], alert_rate=0.4, threshold=0.6)
    assert found["auroc"] == pytest.approx((0.5 + 0.5 + 1 + 0 + 0 + 0.5) / 6)
    assert found["auprc"] == pytest.approx(0.5 * 1 / 3 + 0.5 * 2 / 5)
    assert found["recall_at_budget"] == pytest.approx(2 / 3 / 2)  # two of the three at .6 by lot: 2/3 of an event
    assert found["ppv_at_budget"] == pytest.approx(2 / 3 / 2)
    assert found["net_benefit"] == pytest.approx((1 - 2 * 0.6 / 0.4) / 5)  # those at the threshold are alerted


def test_recalibration_by_hand():
    """Two risks: the line goes through both points, log-odds of .2 -> of .4, of .8 -> of .7."""
    risk = np.repeat([0.2, 0.8], 10)
    outcome = np.concatenate([np.repeat([1.0, 0.0], [4, 6]), np.repeat([1.0, 0.0], [7, 3])])
    log_odds = logit(np.array([0.2, 0.8, 0.4, 0.7]))
    found = measured(outcome, risk)
    slope = (log_odds[3] - log_odds[2]) / (log_odds[1] - log_odds[0])
    assert found["calibration_slope"] == pytest.approx(slope)
    assert found["calibration_intercept"] == pytest.approx(log_odds[2] - slope * log_odds[0])
    assert measured([1, 1, 0, 0, 0], [0.2] * 5)["calibration_in_the_large"] == pytest.approx(log_odds[2] - log_odds[0])


def test_line_is_that_of_logistic_regression():
    draw = np.random.default_rng(1)
    log_odds = draw.normal(-1, 1.5, 400)
    outcome = (draw.random(400) < 1 / (1 + np.exp(-0.5 * log_odds - 0.3))).astype(float)
    weight = draw.integers(0, 4, (3, 400)).astype(float)
    for row, found in zip(weight, LogisticRecalibration(log_odds, outcome).intercept_and_slope(weight), strict=True):
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(log_odds[:, None], outcome, sample_weight=row)
        np.testing.assert_allclose(found, [fitted.intercept_[0], fitted.coef_[0, 0]], atol=1e-4)
    moved = LogisticRecalibration(log_odds, outcome).in_the_large(weight)
    expected = (weight / (1 + np.exp(-log_odds - moved[:, None]))).sum(axis=1)
    np.testing.assert_allclose(expected, weight @ outcome, rtol=1e-6)


def test_agreement_with_scikit_learn_on_200_problems():
    tied = 0
    for seed in range(200):
        outcome, risk, _ = problem(seed)
        tied += len(np.unique(risk)) < len(risk)
        found = measured(outcome, risk)
        assert found["auprc"] == pytest.approx(average_precision_score(outcome, risk), abs=1e-12)
        assert found["auroc"] == pytest.approx(roc_auc_score(outcome, risk), abs=1e-12)
        assert found["brier"] == pytest.approx(brier_score_loss(outcome, risk), abs=1e-12)
    assert 50 < tied < 200


@given(st.integers(0, 2**32 - 1))
def test_weights_are_repeated_rows(seed):
    outcome, risk, draw = problem(seed)
    weight = draw.integers(0, 4, len(outcome))
    weight[:2] += 1
    alike = measured(np.repeat(outcome, weight), np.repeat(risk, weight), 0.3, 0.3)
    found = measured(outcome, risk, 0.3, 0.3, weight)
    exact = [key for key in KEYS if not key.startswith("calibration")]
    np.testing.assert_allclose([found[key] for key in exact], [alike[key] for key in exact], rtol=1e-9, atol=1e-12)
    for key in set(KEYS) - set(exact):  # resamples stop their Newton steps early
        if np.isfinite(found[key]) and np.isfinite(alike[key]):
            assert found[key] == pytest.approx(alike[key], abs=2e-3, rel=2e-3)


@given(st.integers(0, 2**32 - 1))
def test_what_must_not_change(seed):
    outcome, risk, draw = problem(seed)
    found = measured(outcome, risk)
    bent = measured(outcome, risk**3 / 2 + 0.1)
    order = draw.permutation(len(risk))
    shuffled = measured(outcome[order], risk[order])
    mirrored = measured(1 - outcome, 1 - risk)
    for key in ("auroc", "auprc", "recall_at_budget", "ppv_at_budget"):
        assert bent[key] == pytest.approx(found[key])
    for key in KEYS:
        assert shuffled[key] == pytest.approx(found[key], nan_ok=True, abs=1e-6)
    assert mirrored["auroc"] == pytest.approx(found["auroc"])
    assert measured(1 - outcome, risk)["auroc"] == pytest.approx(1 - found["auroc"])
    assert mirrored["brier"] == pytest.approx(found["brier"])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_bounds_that_always_hold(seed, rate):
    outcome, risk, _ = problem(seed)
    found = measured(outcome, risk, alert_rate=rate)
    assert found["recall_at_budget"] * outcome.mean() == pytest.approx(found["ppv_at_budget"] * rate)
    assert 0 <= found["recall_at_budget"] <= 1 + 1e-12
    assert abs(outcome.mean() - risk.mean()) <= found["ece"] + 1e-12
    assert found["net_benefit"] <= outcome.mean() + 1e-12


def test_equal_risks_have_defined_results():
    found = measured([1, 0, 0, 0], [0.3] * 4)
    assert found["auroc"] == 0.5
    assert found["auprc"] == 0.25
    assert found["recall_at_budget"] == 0.5  # half of the rows by lot
    assert np.isnan(found["calibration_slope"])


@pytest.mark.parametrize(("outcome", "risk"), [([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]), ([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1])])
def test_no_slope_where_the_risk_parts_the_outcomes(outcome, risk):
    measure = WeightedMetrics(np.array(outcome, float), np.array(risk), OperatingPoint(0.5, 0.5))
    assert measure.no_slope == "the risk parts the outcomes without a fault"
    assert np.isnan(dict(zip(KEYS, measure.point, strict=False))["calibration_slope"])


@pytest.mark.parametrize("given", [{"alert_rate": 0.0}, {"alert_rate": 1.5}, {"threshold": 1.0}, {"threshold": -0.1}])
def test_use_lies_between_0_and_1(given):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        OperatingPoint(**{"alert_rate": 0.05, "threshold": 0.1, **given})
