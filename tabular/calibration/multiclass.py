"""Shares of several classes from one calibrated risk a class: they must sum to one, and stay honest class by class.

Each class has its own risk against the rest. Divided by their sum they add up, but are no longer calibrated where the single models
disagree. So the shares are a softmax of the log-risks with a slope and a shift a class, fitted on rows left out: their mean is then each
class's frequency, and no class is systematically too bold or too timid.

Letters: n calibration rows, q query rows, c classes.

References
----------
Guo and others: On calibration of modern neural networks (2017), vector scaling; here on log-risks of separate models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from nearward.tabular.typing import Floats, Ints

_PULL = 10.0  # rows' worth of squared distance of a slope from 1: plain division is the default that must be argued away


@dataclass(frozen=True)
class Coupling:
    """A slope and a shift a class.

    Parameters
    ----------
    slope : (c,), not negative
    shift : (c,)

    Examples
    --------
    >>> even = Coupling(np.ones(3), np.zeros(3))
    >>> even.shares(np.log([[0.25, 1.0, 3.0]])).round(3).tolist()  # risks .2, .5, .75
    [[0.138, 0.345, 0.517]]
    """

    slope: Floats
    shift: Floats

    @classmethod
    def fit(cls, log_odds: Floats, code: Ints) -> Coupling:
        """Fit by penalised maximum likelihood on log-odds (n, c) of rows that the single models had not seen, and their classes (n,)."""
        n, c = log_odds.shape
        told, own = -np.logaddexp(0, -log_odds), np.eye(c)[code]  # log-risks (n, c)

        def objective(free: Floats) -> tuple[float, Floats]:
            slope, shift = free[:c], free[c:]
            shares = _softmax(told * slope + shift)
            error = (shares - own) / n
            away = slope - 1
            shrinkage = _PULL / n * np.append(2 * away, 2e-3 * shift)  # the shifts are known up to a constant: this picks one
            loss = -np.log(np.maximum(shares[np.arange(n), code], 1e-300)).mean() + _PULL / n * (away @ away + 1e-3 * shift @ shift)
            return float(loss), np.append((error * told).sum(axis=0), error.sum(axis=0)) + shrinkage

        start = np.append(np.ones(c), np.zeros(c))
        bounds = [(0.0, None)] * c + [(None, None)] * c
        best = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-9}
        ).x
        return cls(best[:c], best[c:])

    def shares(self, log_odds: Floats) -> Floats:
        """Return each class's share for calibrated log-odds (q, c): (q, c), rows sum to 1."""
        return _softmax(-np.logaddexp(0, -log_odds) * self.slope + self.shift)


def _softmax(z: Floats) -> Floats:
    high = np.exp(z - z.max(axis=1, keepdims=True))
    out: Floats = high / high.sum(axis=1, keepdims=True)
    return out
