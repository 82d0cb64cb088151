"""Logistic regression with a ridge penalty, by the solver that suits the number of features.

Shapes: n rows, p features.
"""

from __future__ import annotations

from typing import Any

from nearward.tabular.typing import Floats, Ints

_WIDE = 500  # features: a Newton step costs n p² and holds p² numbers, a step of L-BFGS costs n p


def fit_logistic_regression(x: Floats, outcome: Ints, sample_weight: Floats | None = None) -> Any:
    """Return a fitted ``sklearn.linear_model.LogisticRegression`` with C = 0.3.

    Parameters
    ----------
    x : (n, p), features of about unit variance
    outcome : (n,), 0 or 1
    sample_weight : (n,), optional
    """
    from sklearn.linear_model import LogisticRegression

    if x.shape[1] <= _WIDE:
        return LogisticRegression(C=0.3, solver="newton-cholesky").fit(x, outcome, sample_weight=sample_weight)
    return LogisticRegression(C=0.3, solver="lbfgs", tol=1e-6, max_iter=1000).fit(x, outcome, sample_weight=sample_weight)
