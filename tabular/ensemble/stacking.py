"""One log-odds from many opinions: each member calibrated on its own, then a non-negative stack, drawn towards the plain mean
the more the fewer the events.

Letters: n rows, q query rows, m members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, log_loss
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.typing import Floats, Ints

SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # penalty on leaving the plain mean, in rows' worth of log-loss
_TWO_SLOPES_FROM = 200  # events that a member's calibration needs before its two tails may bend differently


@dataclass(frozen=True)
class Stack:
    """Members' calibrations and weights.

    Parameters
    ----------
    member : tuple of Calibration, m of them
    weight : (m,), not negative
    shift : float
    """

    member: tuple[Calibrator, ...]
    weight: Floats
    shift: float

    def log_odds(self, scores: Floats) -> Floats:
        """Return the stacked log-odds of members' scores (q, m) -> (q,)."""
        out: Floats = _calibrated(self.member, scores) @ self.weight + self.shift
        return out


def fit_stack(scores: Floats, data: TrainingData, penalties: tuple[float, ...] = SHRINKAGES) -> tuple[Stack, Floats, float]:
    """Fit a stack on all rows, and score each row by a stack that did not see its fold.

    How far to trust the rows over the plain mean is chosen by the log-loss of the cross-fitted scores, by the one-standard-error
    rule: the strongest pull whose loss is not clearly above the least.

    Parameters
    ----------
    scores : (n, m), each by a model that had not seen the row
    data : TrainingData, n rows, outcome 0 or 1
        The standard error is over patients.
    penalties : tuple of float, rising
        Penalties to choose among: how strongly weights are drawn to the plain mean.

    Returns
    -------
    stack : Stack
    out_of_fold : (n,), log-odds
    shrinkage : float, the chosen penalty
    """
    outcome, parts = data.outcome, []
    for f in np.unique(data.fold):
        inside = data.fold == f
        member = _calibrations(scores[~inside], outcome[~inside])
        parts.append((inside, _calibrated(member, scores[~inside]), outcome[~inside], _calibrated(member, scores[inside])))
    scored = []
    for shrinkage in penalties:
        out_of_fold = np.empty(len(outcome))
        for inside, seen, known, asked in parts:
            weight, shift = _weights(seen, known, shrinkage)
            out_of_fold[inside] = asked @ weight + shift
        scored.append(out_of_fold)
    loss = np.array([np.logaddexp(0, z) - outcome * z for z in scored])  # (penalties, n)
    excess = loss - loss[loss.mean(axis=1).argmin()]
    patients = np.stack([np.bincount(data.patient_ids, weights=row) for row in excess])  # (penalties, patients)
    near = patients.sum(axis=1) <= patients.std(axis=1) * patients.shape[1] ** 0.5
    chosen = int(np.flatnonzero(near)[-1])
    shrinkage, out_of_fold = penalties[chosen], scored[chosen]
    member = _calibrations(scores, outcome)
    weight, shift = _weights(_calibrated(member, scores), outcome, shrinkage)
    return Stack(member, weight, shift), out_of_fold, shrinkage


def _calibrations(scores: Floats, outcome: Ints) -> tuple[Calibrator, ...]:
    slopes = 2 if outcome.sum() >= _TWO_SLOPES_FROM else 1
    return tuple(Calibrator.fit(column, outcome, slopes) for column in scores.T)


def _calibrated(member: tuple[Calibrator, ...], scores: Floats) -> Floats:
    return np.column_stack([calibration.log_odds(column) for calibration, column in zip(member, scores.T, strict=True)])


def _weights(members: Floats, outcome: Ints, shrinkage: float) -> tuple[Floats, float]:
    """Minimise log-loss + pull / n * variance * |weight - 1/m|² over weight >= 0; members are calibrated log-odds (n, m)."""
    n, m = members.shape
    even = np.full(m, 1 / m)
    strength = shrinkage * float(np.mean(members.var(axis=0))) / n

    def objective(free: Floats) -> tuple[float, Floats]:
        weight, shift = free[:-1], free[-1]
        z = members @ weight + shift
        error = (expit(z) - outcome) / n
        away = weight - even
        return log_loss(z, outcome) + strength * float(away @ away), np.append(error @ members + 2 * strength * away, error.sum())

    bounds = [(0.0, None)] * m + [(None, None)]
    best = minimize(objective, np.append(even, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    return best[:-1], float(best[-1])
