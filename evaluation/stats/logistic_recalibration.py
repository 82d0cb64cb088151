"""Logistic recalibration under many row weightings at once: calibration in the large, calibration intercept and slope.

Shapes: ``n`` rows, ``c`` weightings at a time.

References
----------
Cox: Two further applications of a model for binary regression (1958). Van Calster et al.: Calibration: the Achilles heel of predictive
analytics (2019). Sun and Tran-Dinh: Generalized self-concordant functions (2019), for the damping of the steps.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from nearward.tabular.typing import Floats

EDGE = 1e-6  # risks of 0 and 1 have no log-odds: they are clipped to this distance from the edge
LOOSE = 2e-3  # a last Newton step this short leaves an error of about its square: enough for a resample
EXACT = 1e-7
_MAX_STEPS = 100
_DIVERGED = 50.0  # log-odds, and slopes per standard deviation of the log-odds, beyond which there is no finite solution


class LogisticRecalibration:
    """Logistic regression of an outcome on the log-odds of a risk, by damped Newton steps, for the same rows under any weights.

    Parameters
    ----------
    log_odds : (n,)
    outcome : (n,), 0.0 or 1.0
    """

    def __init__(self, log_odds: Floats, outcome: Floats) -> None:
        self.log_odds = log_odds
        self._centre, self._scale = float(log_odds.mean()), float(log_odds.std()) or 1.0
        self._standard = (log_odds - self._centre) / self._scale  # (n,), so that neither a narrow nor a far range is ill-conditioned
        self._limits = np.array([self._standard.min(), self._standard.max()])
        self._design = np.column_stack([np.ones_like(log_odds), self._standard, self._standard**2])  # (n, 3)
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
        solution, intercept, active = np.full(len(weight), np.nan), np.full(len(weight), start), np.arange(len(weight))
        observed = weight[:, self._events].sum(axis=1)
        for _ in range(_MAX_STEPS):
            risk = _expit_inplace(self.log_odds + intercept[:, None])  # (c, n)
            weighted = weight * risk
            expected = weighted.sum(axis=1)
            variance = expected - np.einsum("cn,cn->c", weighted, risk)
            step = np.divide(observed - expected, variance, out=np.full_like(intercept, np.nan), where=variance > 0)
            step *= _damping(np.abs(step))
            intercept += step
            converged = np.abs(step) < tolerance
            solution[active[converged]] = np.where(np.abs(intercept) < _DIVERGED, intercept, np.nan)[converged]
            if not (going := np.isfinite(step) & ~converged).any():
                break
            if not going.all():
                weight, observed, intercept, active = weight[going], observed[going], intercept[going], active[going]
        return solution

    def intercept_and_slope(self, weight: Floats, start: tuple[float, float] = (0.0, 1.0), tolerance: float = EXACT) -> Floats:
        """Return intercept and slope of the calibration line (c, 2).

        Parameters
        ----------
        weight : (c, n)
        start : first guess of intercept and slope
        tolerance : float
            Length of the last step, in units of the line's coefficients where these are greater than 1.

        Returns
        -------
        (c, 2), NaN where there is no finite solution: constant risks, or risks that separate the outcomes perfectly
        """
        solution, active = np.full((len(weight), 2), np.nan), np.arange(len(weight))
        line = np.tile([start[0] + start[1] * self._centre, start[1] * self._scale], (len(weight), 1))  # of the standardised log-odds
        observed = weight[:, self._events] @ self._design[self._events, :2]  # (c, 2)
        for _ in range(_MAX_STEPS):
            risk = _expit_inplace(line[:, :1] + line[:, 1:] * self._standard)  # (c, n)
            weighted = weight * risk
            gradient = observed - weighted @ self._design[:, :2]
            np.multiply(weighted, risk, out=risk)
            np.subtract(weighted, risk, out=weighted)
            a, b, c = (weighted @ self._design).T
            det = a * c - b * b
            det[det < 1e-10 * np.maximum(a * c, 1e-300)] = np.nan
            step = np.stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], axis=1) / det[:, None]
            step *= _damping(np.abs(step[:, :1] + step[:, 1:] * self._limits).max(axis=1))[:, None]
            line += step
            original, change = self._unstandardised(line), self._unstandardised(step)
            converged = (np.abs(change) < tolerance * np.maximum(1.0, np.abs(original))).all(axis=1)
            finite = (np.abs(line) < _DIVERGED).all(axis=1)[:, None]
            solution[active[converged]] = np.where(finite, original, np.nan)[converged]
            if not (going := np.isfinite(step).all(axis=1) & ~converged).any():
                break
            if not going.all():
                weight, observed, line, active = weight[going], observed[going], line[going], active[going]
        return solution

    def _unstandardised(self, line: Floats) -> Floats:
        """Intercept and slope (c, 2) of the log-odds as they are."""
        slope = line[:, 1] / self._scale
        return np.stack([line[:, 0] - slope * self._centre, slope], axis=1)


def _damping(change: Floats) -> Floats:
    """Factor (c,) of a Newton step that changes a row's log-odds by ``change`` at most, so that the likelihood never falls.

    The logistic loss is generalised self-concordant: along a step its third derivative is at most ``change`` times its second. A full step
    that changes no row by more than 1 therefore raises the likelihood, and so does log(1 + change) / change of any longer one.
    """
    return np.where(change <= 1, 1.0, np.log1p(change) / np.maximum(change, 1.0))


def _expit_inplace(x: Floats) -> Floats:
    np.clip(x, -_DIVERGED, _DIVERGED, out=x)
    return np.asarray(special.expit(x, out=x))
