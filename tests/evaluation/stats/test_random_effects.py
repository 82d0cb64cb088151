"""Random-effects pooling against the published results of the R package metafor, and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.evaluation.stats.random_effects import fit_random_effects
from nearward.tabular.errors import InputError

# dat.bcg of metafor: 13 trials of the BCG vaccine, tuberculosis yes and no of the vaccinated, then of the controls
BCG = np.array(
    [
        *([4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761]),
        *([180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232], [17, 1699, 65, 1600]),
        *([186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825]),
    ],
    dtype=float,
)


def log_risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b)) - np.log(c / (c + d)), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_agrees_with_metafor_on_the_bcg_trials() -> None:
    """README of wviechtb/metafor: ``rma(yi, vi, data=dat, test="knha")`` and ``predict(res, transf=exp, digits=2)``."""
    model = fit_random_effects(*log_risk_ratios())
    assert model.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert model.i2 == pytest.approx(0.9222, abs=5e-5)
    assert model.q == pytest.approx(152.2330, abs=5e-5)
    assert (model.mean, model.standard_error) == (pytest.approx(-0.7145, abs=5e-5), pytest.approx(0.1808, abs=5e-5))
    assert model.interval == (pytest.approx(-1.1084, abs=5e-5), pytest.approx(-0.3206, abs=5e-5))
    assert np.exp(model.prediction_interval) == pytest.approx([0.14, 1.76], abs=5e-3)


def test_agrees_with_metafor_on_teachers_expectations() -> None:
    """tests/testthat/test_analysis_example_raudenbush1985.r of wviechtb/metafor: ``rma(yi, vi, data=dat.raudenbush1985)``."""
    y = [0.03, 0.12, -0.14, 1.18, 0.26, -0.06, -0.02, -0.32, 0.27, 0.80, 0.54, 0.18, -0.02, 0.23, -0.18, -0.06, 0.30, 0.07, -0.07]
    se = [0.125, 0.147, 0.167, 0.373, 0.369, 0.103, 0.103, 0.220, 0.164, 0.251, 0.302, 0.223, 0.289, 0.290, 0.159, 0.167, 0.139]
    model = fit_random_effects(np.array(y), np.array([*se, 0.094, 0.174]))
    assert model.tau2 == pytest.approx(0.0188, abs=1e-4)
    assert model.mean == pytest.approx(0.0837, abs=1e-4)
    assert model.q == pytest.approx(35.83, abs=0.03)


def test_sites_that_agree_have_no_variance_and_no_interval_narrower_than_their_errors() -> None:
    model = fit_random_effects(np.full(5, 0.3), np.full(5, 0.1))
    assert (model.tau2, model.i2, model.q) == (0.0, 0.0, pytest.approx(0.0))
    assert model.standard_error == pytest.approx(0.1 / np.sqrt(5))  # Hartung and Knapp alone would say 0
    assert model.prediction_interval == model.interval


def test_prediction_interval_holds_the_next_site() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        truth = rng.normal(0.5, 0.3, 9)
        errors = rng.uniform(0.05, 0.2, 8)
        low, high = fit_random_effects(rng.normal(truth[:8], errors), errors).prediction_interval
        held.append(low < truth[8] < high)
    assert 0.92 < np.mean(held) < 0.98


def test_probability_of_the_next_site_agrees_with_its_interval() -> None:
    model = fit_random_effects(np.array([0.1, 0.4, -0.1, 0.3]), np.array([0.1, 0.1, 0.1, 0.1]))
    low, high = model.prediction_interval
    assert model.probability_above(low) == pytest.approx(0.975)
    assert model.probability_above(high) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("estimates", "errors", "message"),
    [
        ([1, 2], [1, 1], "2 sites are too few"),
        ([1, np.nan, 2], [1, 1, 1], "finite"),
        ([1, 3, 2], [1, 0, 1], "above 0"),
    ],
)
def test_refusals(estimates: list[float], errors: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_random_effects(np.array(estimates), np.array(errors))
