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
