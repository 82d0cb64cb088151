"""Vector scaling: probabilities of several classes from one calibrated risk for each class against the rest.

Divided by their sum, separate risks add up to 1 but are no longer calibrated where the models disagree. So the probabilities are a
softmax of the log-risks with a slope and a shift for each class, fitted out of fold: their mean is each class's frequency.

References
----------
Guo et al.: On calibration of modern neural networks (2017), vector scaling; here on log-risks of separate models.

Shapes: n calibration rows, q query rows, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from nearward.tabular.parallel import single_threaded
from nearward.tabular.statistics import row_weights
from nearward.tabular.typing import Floats, Ints

_SHRINKAGE = 10.0  # rows' worth of squared distance of a slope from 1, which is plain division


@dataclass(frozen=True)
class VectorScaling:
    """A slope and a shift for each class.

    Parameters
    ----------
    slope : (c,), not negative
    shift : (c,)

    Examples
    --------
    >>> even = VectorScaling(np.ones(3), np.zeros(3))
    >>> even.probabilities(np.log([[0.25, 1.0, 3.0]])).round(3).tolist()  # risks .2, .5, .75
    [[0.138, 0.345, 0.517]]
    """

    slope: Floats
    shift: Floats

    @classmethod
    @single_threaded()
    def fit(cls, log_odds: Floats, class_index: Ints, weight: Floats | None = None) -> VectorScaling:
        """Fit by penalised maximum likelihood on out-of-fold log-odds (n, c), class indices (n,) and, optionally, sampling weights (n,)."""
        c, index = log_odds.shape[1], np.arange(len(log_odds))
        rows = row_weights(len(log_odds), weight)
        n = float(rows.sum())
        log_risk, one_hot = _log_risk(log_odds), np.eye(c)[class_index]  # (n, c)

        def objective(free: Floats) -> tuple[float, Floats]:
            slope, shift = free[:c], free[c:]
            proba = softmax(log_risk * slope + shift, axis=1)
            error = rows[:, None] * (proba - one_hot) / n
            deviation = slope - 1
            penalty = _SHRINKAGE / n * (deviation @ deviation + 1e-3 * shift @ shift)  # shifts are unique up to a constant: this fixes it
            penalty_gradient = _SHRINKAGE / n * np.append(2 * deviation, 2e-3 * shift)
            loss = np.average(-np.log(np.maximum(proba[index, class_index], 1e-300)), weights=weight) + penalty
            return float(loss), np.append((error * log_risk).sum(axis=0), error.sum(axis=0)) + penalty_gradient

        start, bounds = np.append(np.ones(c), np.zeros(c)), [(0.0, None)] * c + [(None, None)] * c
        options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-9}
        best = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        return cls(best[:c], best[c:])

    def probabilities(self, log_odds: Floats) -> Floats:
        """Return each class's probability for calibrated log-odds (q, c): (q, c), rows sum to 1."""
        return np.asarray(softmax(_log_risk(log_odds) * self.slope + self.shift, axis=1))


def _log_risk(log_odds: Floats) -> Floats:
    return np.asarray(-np.logaddexp(0, -log_odds))
