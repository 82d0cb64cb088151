"""Probability calibration of a score, and prior correction to another prevalence.

Calibrators are fitted on scores of rows that the scoring model had not seen.

Shapes: n calibration rows, q query rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from nearward.tabular.calibration.log_odds import expit, log_loss
from nearward.tabular.errors import InputError
from nearward.tabular.statistics import mean_and_deviation, row_weights
from nearward.tabular.typing import Floats, Ints

_HUGE = 1e150  # squares of numbers up to here are still numbers


@dataclass(frozen=True)
class Calibrator:
    """Platt or beta calibration: log-odds ``rise * softplus(z) - fall * softplus(-z) + shift`` of a standardised score ``z``.

    With rise = fall it is Platt's sigmoid. Two slopes let the upper and the lower tail bend differently, as beta calibration does on
    log-odds.

    Parameters
    ----------
    centre, scale : float, of the scores it was fitted on
    rise, fall : float, not negative
    shift : float

    References
    ----------
    Platt (1999); Kull, Silva Filho, Flach: Beta calibration (2017).
    """

    centre: float
    scale: float
    rise: float
    fall: float
    shift: float

    @classmethod
    def fit(cls, score: Floats, outcome: Ints, slopes: int = 2, weight: Floats | None = None) -> Calibrator:
        """Fit by penalised maximum likelihood.

        Parameters
        ----------
        score : (n,)
        outcome : (n,), 0 or 1
        slopes : int
            1 (sigmoid) or 2 (beta); 0 are fitted where the score is constant.
        weight : (n,), optional
            Sampling weights.
        """
        score, rows = score.clip(-_HUGE, _HUGE), row_weights(len(score), weight)
        centre, scale = mean_and_deviation(score, weight)
        n, events = float(rows.sum()), float(rows @ outcome)
        target = np.where(outcome == 1, (events + 1) / (events + 2), 1 / (n - events + 2))  # Platt's: slopes stay finite
        prevalence = float(np.average(target, weights=weight))
        if scale <= 1e-9 * float(np.abs(score).max()):  # constant up to rounding: the calibrated log-odds are those of the prevalence
            return cls(centre, max(1.0, abs(centre)), 0.0, 0.0, float(np.log(prevalence / (1 - prevalence))))
        up, down = _tails((score - centre) / scale)
        shrinkage = 1.0 / n  # towards equal slopes, as strong as one row

        def objective(free: Floats) -> tuple[float, Floats]:
            rise, fall, shift = free[0], free[slopes - 1], free[-1]
            z = rise * up - fall * down + shift
            error = rows * (expit(z) - target) / n
            grad = np.zeros(len(free))
            grad[0] += error @ up + 2 * shrinkage * (rise - fall)
            grad[slopes - 1] += -error @ down - 2 * shrinkage * (rise - fall)
            grad[-1] = error.sum()
            return log_loss(z, target, weight) + shrinkage * (rise - fall) ** 2, grad

        start = np.append(np.ones(slopes), np.log(prevalence / (1 - prevalence)))
        bounds = [(0.0, None)] * slopes + [(None, None)]
        best = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-9}).x
        return cls(centre, scale, float(best[0]), float(best[slopes - 1]), float(best[-1]))

    def log_odds(self, score: Floats) -> Floats:
        """Return calibrated log-odds for scores (q,)."""
        up, down = _tails((score.clip(-_HUGE, _HUGE) - self.centre) / self.scale)
        return np.asarray(self.rise * up - self.fall * down + self.shift)


def _tails(z: Floats) -> tuple[Floats, Floats]:
    return np.logaddexp(0, z), np.logaddexp(0, -z)


def correct_prior(risk: ArrayLike, trained: float, deployed: float) -> Floats:
    """Correct risks from one prevalence to another, in closed form.

    Valid under prior shift: the outcome became more or less frequent, the features given the outcome did not change.

    Parameters
    ----------
    risk : (q,), probability
    trained : float, prevalence the risks are calibrated to
    deployed : float, prevalence where they will be used

    Raises
    ------
    InputError
        A prevalence outside (0, 1).

    References
    ----------
    Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities (2002).

    Examples
    --------
    >>> correct_prior([0.5], trained=0.5, deployed=0.1).round(3).tolist()
    [0.1]
    """
    for name, value in (("trained", trained), ("deployed", deployed)):
        if not 0 < value < 1:
            raise InputError(f"prevalence must lie between 0 and 1, got {name}={value}")
    p = np.asarray(risk, dtype=np.float64)
    event, no_event = p * deployed / trained, (1 - p) * (1 - deployed) / (1 - trained)
    return np.asarray(event / (event + no_event))
