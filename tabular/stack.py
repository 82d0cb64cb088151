"""One log-odds from many: a non-negative stack, drawn towards the plain mean, the more so the fewer the events.

Letters: n rows, m members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nearward.tabular.calibrate import log_loss, logistic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PULLS = (0.3, 3.0, 30.0, 300.0)  # penalty on leaving the plain mean, in events' worth


@dataclass(frozen=True)
class Stack:
    """Weights of the members' log-odds.

    Parameters
    ----------
    weight : (m,), not negative
    shift : float
    """

    weight: Floats
    shift: float

    @classmethod
    def fit(cls, members: Floats, outcome: Ints, pull: float) -> Stack:
        """Fit on out-of-fold log-odds (n, m), each calibrated on its own; ``pull`` is in events."""
        n, m = members.shape
        even = np.full(m, 1 / m)
        spread = members.std(axis=0)
        strength = pull * float(np.mean(spread**2)) / max(n, 1)

        def objective(free: Floats) -> tuple[float, Floats]:
            weight, shift = free[:-1], free[-1]
            z = members @ weight + shift
            error = (logistic(z) - outcome) / n
            away = weight - even
            return log_loss(z, outcome) + strength * float(away @ away), np.append(error @ members + 2 * strength * away, error.sum())

        bounds = [(0.0, None)] * m + [(None, None)]
        best = minimize(objective, np.append(even, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
        return cls(best[:-1], float(best[-1]))

    def log_odds(self, members: Floats) -> Floats:
        """Return the stacked log-odds of (q, m) -> (q,)."""
        out: Floats = members @ self.weight + self.shift
        return out


def cross_fitted_stack(members: Floats, outcome: Ints, fold: Ints) -> tuple[Stack, Floats, float]:
    """Fit a stack on all rows, and score each row by a stack that did not see its fold.

    How far to trust the rows over the plain mean is chosen by the log-loss of the cross-fitted scores.

    Parameters
    ----------
    members : (n, m), out-of-fold log-odds
    outcome : (n,), 0 or 1
    fold : (n,)

    Returns
    -------
    stack : Stack
    left_out : (n,), log-odds
    pull : float, the chosen penalty
    """
    best: tuple[float, float, Floats] | None = None
    for pull in _PULLS:
        left_out = np.empty(len(outcome))
        for f in np.unique(fold):
            inside = fold == f
            left_out[inside] = Stack.fit(members[~inside], outcome[~inside], pull).log_odds(members[inside])
        loss = log_loss(left_out, outcome)
        if best is None or loss < best[0]:
            best = (loss, pull, left_out)
    assert best is not None
    return Stack.fit(members, outcome, best[1]), best[2], best[1]
