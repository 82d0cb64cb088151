"""Logistic recalibration for many weightings of the rows at once: by how much, and how steeply, risks are off on the log-odds scale.

Letters: ``n`` rows, ``c`` weightings at a time.

References
----------
Cox: Two further applications of a model for binary regression (1958). Van Calster et al.: Calibration: the Achilles heel of predictive
analytics (2019).
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.typing import Floats

EDGE = 1e-6  # risks of 0 and 1 have no log-odds: they count as this far from the edge
NEAR = 2e-3  # a Newton step this short leaves an error of about its square: near enough for a resample
EXACT = 1e-7
_STEPS = 30
_FAR = 50.0  # log-odds and slopes beyond are on their way to infinity


def log_odds(risk: Floats) -> Floats:
    """Log-odds (n,) of risks, kept within ``EDGE`` of 0 and 1."""
    inside = np.clip(risk, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


class Recalibration:
    """Newton's method on the same rows under any weights.

    Parameters
    ----------
    log_odds : (n,)
    outcome : (n,), 0.0 or 1.0
    """

    def __init__(self, log_odds: Floats, outcome: Floats) -> None:
        self.log_odds = log_odds
        self._design = np.column_stack([np.ones_like(log_odds), log_odds, log_odds**2])  # (n, 3)
        self._events = np.flatnonzero(outcome)

    def shift(self, weight: Floats, start: float = 0.0, small: float = EXACT) -> Floats:
        """Return what must be added to all log-odds so that as many events are expected as happened (c,).

        Parameters
        ----------
        weight : (c, n)
        start : float
            Where to begin, the answer for even weights for instance.
        small : float
            Length of a last step.

        Returns
        -------
        (c,), NaN where no finite number does it
        """
        found, step = np.full(len(weight), start), np.zeros(len(weight))
        events = weight[:, self._events].sum(axis=1)
        for _ in range(_STEPS):
            risk = _expit(self.log_odds + found[:, None])  # (c, n)
            weighted = weight * risk
            expected = weighted.sum(axis=1)
            spread = expected - np.einsum("cn,cn->c", weighted, risk)
            step = np.divide(events - expected, spread, out=np.full_like(found, np.nan), where=spread > 0)
            found += step
            if np.nanmax(np.abs(step), initial=0.0) < small:
                break
        return np.where((np.abs(step) < small) & (np.abs(found) < _FAR), found, np.nan)

    def line(self, weight: Floats, start: tuple[float, float] = (0.0, 1.0), small: float = EXACT) -> Floats:
        """Return intercept and slope of the logistic regression of the outcome on the log-odds (c, 2).

        Parameters
        ----------
        weight : (c, n)
        start : intercept and slope to begin with
        small : float
            Length of a last step.

        Returns
        -------
        (c, 2), NaN where there is no finite answer: risks that are all equal, or that part the outcomes without a fault
        """
        found = np.tile(np.array(start), (len(weight), 1))
        step = np.zeros_like(found)
        happened = weight[:, self._events] @ self._design[self._events, :2]  # (c, 2), what the expected sums must reach
        for _ in range(_STEPS):
            risk = _expit(found[:, :1] + found[:, 1:] * self.log_odds)  # (c, n)
            weighted = weight * risk
            gap = happened - weighted @ self._design[:, :2]
            np.multiply(weighted, risk, out=risk)
            np.subtract(weighted, risk, out=weighted)
            a, b, c = (weighted @ self._design).T
            det = a * c - b * b
            det[det < 1e-10 * np.maximum(a * c, 1e-300)] = np.nan
            step = np.stack([c * gap[:, 0] - b * gap[:, 1], a * gap[:, 1] - b * gap[:, 0]], axis=1) / det[:, None]
            found += step
            if np.nanmax(np.abs(step), initial=0.0) < small:
                break
        settled = (np.abs(step) < small).all(axis=1) & (np.abs(found) < _FAR).all(axis=1)
        return np.where(settled[:, None], found, np.nan)


def _expit(x: Floats) -> Floats:
    np.clip(x, -_FAR, _FAR, out=x)
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1.0
    return np.asarray(np.reciprocal(x, out=x))
