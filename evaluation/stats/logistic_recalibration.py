"""Logistic recalibration under many row weightings at once: calibration in the large, calibration intercept and slope.

Shapes: ``n`` rows, ``c`` weightings at a time.

References
----------
Cox: Two further applications of a model for binary regression (1958). Van Calster et al.: Calibration: the Achilles heel of predictive
analytics (2019).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from nearward.tabular.typing import Floats

EDGE = 1e-6  # risks of 0 and 1 have no log-odds: they are clipped to this distance from the edge
LOOSE = 2e-3  # a last Newton step this short leaves an error of about its square: enough for a resample
EXACT = 1e-7
_MAX_STEPS = 30
_DIVERGED = 50.0  # log-odds and slopes beyond have no finite solution


class LogisticRecalibration:
    """Logistic regression of an outcome on the log-odds of a risk, by Newton's method, for the same rows under any weights.

    Parameters
    ----------
    log_odds : (n,)
    outcome : (n,), 0.0 or 1.0
    """

    def __init__(self, log_odds: Floats, outcome: Floats) -> None:
        self.log_odds = log_odds
        self._design = np.column_stack([np.ones_like(log_odds), log_odds, log_odds**2])  # (n, 3)
        self._events = np.flatnonzero(outcome)

    def in_the_large(self, weight: Floats, start: float = 0.0, tolerance: float = EXACT) -> Floats:
        """Return calibration in the large: the intercept with the slope fixed at 1, so that expected and observed events agree.

        Parameters
        ----------
        weight : (c, n)
        start : float
            First guess, the solution for equal weights for instance.
        tolerance : float
            Length of the last step.

        Returns
        -------
        (c,), NaN where there is no finite solution
        """
        intercept, step = np.full(len(weight), start), np.zeros(len(weight))
        observed = weight[:, self._events].sum(axis=1)
        for _ in range(_MAX_STEPS):
            risk = _expit_inplace(self.log_odds + intercept[:, None])  # (c, n)
            weighted = weight * risk
            expected = weighted.sum(axis=1)
            variance = expected - np.einsum("cn,cn->c", weighted, risk)
            step = np.divide(observed - expected, variance, out=np.full_like(intercept, np.nan), where=variance > 0)
            intercept += step
            if np.nanmax(np.abs(step), initial=0.0) < tolerance:
                break
        return np.where((np.abs(step) < tolerance) & (np.abs(intercept) < _DIVERGED), intercept, np.nan)

    def intercept_and_slope(self, weight: Floats, start: tuple[float, float] = (0.0, 1.0), tolerance: float = EXACT) -> Floats:
        """Return intercept and slope of the calibration line (c, 2).

        Parameters
        ----------
        weight : (c, n)
        start : first guess of intercept and slope
        tolerance : float
            Length of the last step.

        Returns
        -------
        (c, 2), NaN where there is no finite solution: constant risks, or risks that separate the outcomes perfectly
        """
        line = np.tile(np.array(start), (len(weight), 1))
        step = np.zeros_like(line)
        observed = weight[:, self._events] @ self._design[self._events, :2]  # (c, 2)
        for _ in range(_MAX_STEPS):
            risk = _expit_inplace(line[:, :1] + line[:, 1:] * self.log_odds)  # (c, n)
            weighted = weight * risk
            gradient = observed - weighted @ self._design[:, :2]
            np.multiply(weighted, risk, out=risk)
            np.subtract(weighted, risk, out=weighted)
            a, b, c = (weighted @ self._design).T
            det = a * c - b * b
            det[det < 1e-10 * np.maximum(a * c, 1e-300)] = np.nan
            step = np.stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], axis=1) / det[:, None]
            line += step
            if np.nanmax(np.abs(step), initial=0.0) < tolerance:
                break
        converged = (np.abs(step) < tolerance).all(axis=1) & (np.abs(line) < _DIVERGED).all(axis=1)
        return np.where(converged[:, None], line, np.nan)


def _expit_inplace(x: Floats) -> Floats:
    np.clip(x, -_DIVERGED, _DIVERGED, out=x)
    return np.asarray(special.expit(x, out=x))
