"""Logistic recalibration for many weightings of the rows at once: by how much, and how steeply, risks are off on the log-odds scale.

Letters: ``n`` rows, ``c`` weightings at a time.

References
----------
Cox: Two further applications of a model for binary regression (1958). Van Calster et al.: Calibration: the Achilles heel of predictive
analytics (2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGE = 1e-6  # risks of 0 and 1 have no log-odds: they count as this far from the edge
_STEPS = 30
NEAR = 2e-3  # a Newton step this short leaves an error of about its square: near enough for a resample
EXACT = 1e-7
_FAR = 50.0  # log-odds and slopes beyond are on their way to infinity


def log_odds(risk: Floats) -> Floats:
    """Log-odds (n,) of risks, kept within ``EDGE`` of 0 and 1."""
    inside = np.clip(risk, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def shift(log_odds: Floats, outcome: Floats, weight: Floats, start: float = 0.0, small: float = EXACT) -> Floats:
    """Return what must be added to all log-odds so that as many events are expected as happened (c,).

    Parameters
    ----------
    log_odds, outcome : (n,)
    weight : (c, n)
    start : float
        Where to begin, the answer for even weights for instance.
    small : float
        Length of a last step.

    Returns
    -------
    (c,), NaN where no finite number does it
    """
    found = np.full(len(weight), start)
    events = weight @ outcome
    for _ in range(_STEPS):
        risk = _expit(log_odds + found[:, None])  # (c, n)
        weighted = weight * risk
        expected = weighted.sum(axis=1)
        step = _divide(events - expected, expected - np.einsum("cn,cn->c", weighted, risk))
        found += step
        if np.nanmax(np.abs(step), initial=0.0) < small:
            break
    else:
        found[~(np.abs(step) < small)] = np.nan
    return np.where(np.abs(found) < _FAR, found, np.nan)


def line(log_odds: Floats, outcome: Floats, weight: Floats, start: tuple[float, float] = (0.0, 1.0), small: float = EXACT) -> Floats:
    """Return intercept and slope of the logistic regression of the outcome on the log-odds (c, 2).

    Parameters
    ----------
    log_odds, outcome : (n,)
    weight : (c, n)
    start : intercept and slope to begin with
    small : float
        Length of a last step.

    Returns
    -------
    (c, 2), NaN where there is no finite answer: risks that are all equal, or that part the outcomes without a fault
    """
    found = np.tile(np.array(start), (len(weight), 1))
    at = weight @ np.column_stack([outcome, outcome * log_odds])  # (c, 2), what the expected sums must reach
    square = log_odds**2
    step = np.zeros_like(found)
    for _ in range(_STEPS):
        risk = _expit(found[:, :1] + found[:, 1:] * log_odds)  # (c, n)
        weighted = weight * risk
        expected = np.stack([weighted.sum(axis=1), weighted @ log_odds], axis=1)
        spread = np.subtract(weighted, np.multiply(weighted, risk, out=risk), out=risk)
        a, b, c = spread.sum(axis=1), spread @ log_odds, spread @ square
        gap = at - expected
        det = a * c - b * b
        flat = det < 1e-10 * np.maximum(a * c, 1e-300)
        step = np.stack([c * gap[:, 0] - b * gap[:, 1], a * gap[:, 1] - b * gap[:, 0]], axis=1) / np.where(flat, np.nan, det)[:, None]
        found += step
        if np.nanmax(np.abs(step), initial=0.0) < small:
            break
    settled = (np.abs(step) < small).all(axis=1) & (np.abs(found) < _FAR).all(axis=1)
    return np.where(settled[:, None], found, np.nan)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _expit(x: Floats) -> Floats:
    x = np.clip(x, -_FAR, _FAR)
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1.0
    return np.asarray(np.reciprocal(x, out=x))
