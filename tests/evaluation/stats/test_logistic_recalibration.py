"""Calibration line and calibration in the large: found wherever they are finite, by resample and from any start."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from nearward.evaluation.stats.logistic_recalibration import LOOSE, LogisticRecalibration


def study(scale: float, shift: float, rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a risk that is ``scale`` times as steep as the truth and shifted, and the outcome."""
    rng = np.random.default_rng(1)
    true = rng.normal(0, 1.5, rows)
    return scale * true + shift, (rng.random(rows) < expit(true)).astype(float)


def line_of_scipy(log_odds: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    centre, scale = log_odds.mean(), log_odds.std()
    x = (log_odds - centre) / scale

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * x
        return float(weight @ (np.logaddexp(0, z) - outcome * z))

    intercept, slope = minimize(loss, [0.0, 0.0]).x
    return intercept - slope * centre / scale, slope / scale


@pytest.mark.parametrize(("scale", "shift"), [(2, 0), (4, 0), (8, 0), (3, 5), (1, 6), (1, -6), (0.3, -8), (-2, 0), (0.01, 0), (0.001, 0)])
def test_line_is_found_however_far_the_risk_is_from_the_truth(scale, shift) -> None:
    log_odds, outcome = study(scale, shift)
    rng = np.random.default_rng(2)
    weight = np.stack([np.ones(3000), *rng.multinomial(3000, np.full(3000, 1 / 3000), 3)])
    recalibration = LogisticRecalibration(log_odds, outcome)
    expected = [line_of_scipy(log_odds, outcome, row) for row in weight]
    np.testing.assert_allclose(recalibration.intercept_and_slope(weight), expected, rtol=1e-4, atol=1e-4)
    start = tuple(recalibration.intercept_and_slope(weight[:1])[0])
    np.testing.assert_allclose(recalibration.intercept_and_slope(weight, start, LOOSE), expected, rtol=1e-3, atol=1e-3)
    intercept = recalibration.in_the_large(weight)
    np.testing.assert_allclose((weight * expit(log_odds + intercept[:, None])).sum(axis=1), weight @ outcome, rtol=1e-6)


def test_half_the_slope_of_a_risk_twice_as_steep() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2.5, 3000)
    outcome = (rng.random(3000) < expit(true)).astype(float)
    clipped = np.clip(2 * true, -13.8, 13.8)
    intercept, slope = LogisticRecalibration(clipped, outcome).intercept_and_slope(np.ones((1, 3000)))[0]
    assert slope == pytest.approx(0.5, abs=0.06)
    assert intercept == pytest.approx(0, abs=0.2)


def test_a_weighting_without_a_line_leaves_the_others_theirs() -> None:
    log_odds, outcome = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0, 0.0, 1.0])
    weight = np.array([[1.0, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 1, 0, 1], [2, 1, 1, 1, 1], [1, 1, 0, 1, 0]])
    recalibration = LogisticRecalibration(log_odds, outcome)
    lines = recalibration.intercept_and_slope(weight)
    assert np.isnan(lines).any(axis=1).tolist() == [False, True, True, False, True]  # three separate the outcomes
    np.testing.assert_allclose(lines[0], line_of_scipy(log_odds, outcome, weight[0]), atol=1e-4)
    np.testing.assert_allclose(lines[3], recalibration.intercept_and_slope(weight[3:4])[0], atol=1e-6)
    assert np.isnan(recalibration.in_the_large(weight)).tolist() == [False, False, False, False, True]  # the last has no event
    assert np.isnan(LogisticRecalibration(np.zeros(5), outcome).intercept_and_slope(weight)).all()  # constant risks
