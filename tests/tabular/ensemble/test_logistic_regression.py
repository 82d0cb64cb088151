"""Logistic regression: the same fit from either solver."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.tabular.ensemble import logistic_regression
from nearward.tabular.ensemble.logistic_regression import fit_logistic_regression


def test_wide_tables_get_a_solver_without_squares_of_columns_and_the_same_risks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 40))
    outcome = (x[:, 0] + rng.normal(size=300) > 1).astype(np.int64)
    newton = fit_logistic_regression(x, outcome)
    monkeypatch.setattr(logistic_regression, "_WIDE", 39)
    wide = fit_logistic_regression(x, outcome)
    assert (newton.solver, wide.solver) == ("newton-cholesky", "lbfgs")
    np.testing.assert_allclose(wide.predict_proba(x), newton.predict_proba(x), atol=1e-4)


def test_four_thousand_features_are_wide() -> None:
    rng = np.random.default_rng(0)
    assert fit_logistic_regression(rng.normal(size=(30, 4000)), np.arange(30) % 2).solver == "lbfgs"


@pytest.mark.parametrize("wide", [1, 500])
def test_weighted_rows_are_repeated_rows(wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "_WIDE", wide)
    rng = np.random.default_rng(1)
    x, times = rng.normal(size=(200, 4)), rng.integers(1, 6, 200)
    outcome = (x[:, 0] + rng.normal(size=200) > 1).astype(np.int64)
    weighted, plain = fit_logistic_regression(x, outcome, times.astype(float)), fit_logistic_regression(x, outcome)
    repeated = fit_logistic_regression(np.repeat(x, times, axis=0), np.repeat(outcome, times))
    np.testing.assert_allclose(weighted.decision_function(x), repeated.decision_function(x), atol=1e-5)
    assert np.abs(weighted.decision_function(x) - plain.decision_function(x)).max() > 0.01
