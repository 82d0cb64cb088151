"""Stacking: each base learner calibrated on its own, then a non-negative linear combination of their log-odds.

The weights are shrunk towards the plain mean, the more the fewer the events.

Shapes: n rows, q query rows, m base learners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, log_loss
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import parallel_map, single_threaded
from nearward.tabular.statistics import mean_and_deviation
from nearward.tabular.typing import Floats

SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # penalties on the distance to the plain mean, in rows' worth of log-loss
_LEAST_PENALTY = 1e-9  # keeps the curvature positive where base learners are constant, and where all risks are 0 or 1
_MOST_STEPS, _SHORTEST_STEP, _CONVERGED = 50, 1e-8, 1e-14  # of Newton's method: steps, step length, relative decrease of the loss
_TWO_SLOPES_FROM = 200  # events from which calibrators have a slope for each tail


@dataclass(frozen=True)
class Stack:
    """The base learners' calibrators and weights.

    Parameters
    ----------
    calibrators : tuple of Calibrator, m of them
    weight : (m,), not negative
    shift : float
    """

    calibrators: tuple[Calibrator, ...]
    weight: Floats
    shift: float

    def log_odds(self, scores: Floats) -> Floats:
        """Return the stacked log-odds of base learners' scores (q, m) -> (q,)."""
        return np.asarray(_calibrate(self.calibrators, scores) @ self.weight + self.shift)


@single_threaded()
def fit_stack(scores: Floats, data: TrainingData, penalties: tuple[float, ...] = SHRINKAGES) -> tuple[Stack, Floats, float]:
    """Fit a stack on all rows, and score each row by a stack that has not seen its fold.

    The penalty is chosen by the log-loss of the cross-fitted scores with the one-standard-error rule: the strongest penalty with a loss
    that is not clearly above the least.

    Parameters
    ----------
    scores : (n, m), each by a model that has not seen the row
    data : TrainingData, n rows, outcome 0 or 1
        The standard error is over patients.
    penalties : tuple of float, rising
        Candidates: how strongly the weights are shrunk towards the plain mean.

    Returns
    -------
    stack : Stack
    out_of_fold : (n,), log-odds
    shrinkage : float, the chosen penalty
    """

    def fit_fold(f: int) -> list[Floats]:
        """Return the log-odds of a fold's rows under each penalty."""
        train = data.train_rows(f)
        part = data.take(train)
        calibrators = _fit_calibrators(scores[train], part)
        train_log_odds, query_log_odds = _calibrate(calibrators, scores[train]), _calibrate(calibrators, scores[~train])
        fitted = [_fit_weights(train_log_odds, part, penalty) for penalty in penalties]
        return [query_log_odds @ weight + shift for weight, shift in fitted]

    folds = np.unique(data.fold).tolist()
    candidates = [np.empty(len(data)) for _ in penalties]
    for f, by_penalty in zip(folds, parallel_map(fit_fold, folds), strict=True):
        for out_of_fold, log_odds in zip(candidates, by_penalty, strict=True):
            out_of_fold[data.fold == f] = log_odds
    chosen = _strongest_not_clearly_worse(candidates, data)
    calibrators = _fit_calibrators(scores, data)
    weight, shift = _fit_weights(_calibrate(calibrators, scores), data, penalties[chosen])
    return Stack(calibrators, weight, shift), candidates[chosen], penalties[chosen]


@single_threaded()
def adapt_stack(stack: Stack, scores: Floats, data: TrainingData, penalties: tuple[float, ...] = SHRINKAGES) -> tuple[Stack, Floats, float]:
    """Fit the weights of a stack again on other rows, shrunk towards those that it has; its calibrators stay.

    Level and spread stay as well: the new log-odds have the mean and the standard deviation of the old ones. Returns as ``fit_stack``, and
    chooses the penalty as it does.
    """
    log_odds = _calibrate(stack.calibrators, scores)
    candidates = []
    for penalty in penalties:
        out_of_fold = np.empty(len(data))
        for _, train in data.splits():
            weight, shift = _adapt_weights(stack, log_odds[train], data.take(train), penalty)
            out_of_fold[~train] = log_odds[~train] @ weight + shift
        candidates.append(out_of_fold)
    chosen = _strongest_not_clearly_worse(candidates, data)
    weight, shift = _adapt_weights(stack, log_odds, data, penalties[chosen])
    return Stack(stack.calibrators, weight, shift), candidates[chosen], penalties[chosen]


def _adapt_weights(stack: Stack, log_odds: Floats, data: TrainingData, penalty: float) -> tuple[Floats, float]:
    """Return weights and shift, rescaled so that the mean and the deviation of the stacked log-odds are those of the old weights."""
    weight, _ = _fit_weights(log_odds, data, penalty, stack.weight)
    (mean, deviation), (old_mean, old_deviation) = (mean_and_deviation(log_odds @ w, data.weight) for w in (weight, stack.weight))
    ratio = old_deviation / deviation if deviation > 0 else 1.0
    return ratio * weight, old_mean + stack.shift - ratio * mean


def _strongest_not_clearly_worse(candidates: list[Floats], data: TrainingData) -> int:
    """Return the last of some log-odds (n,) whose loss is not above the least by more than its standard error over patients."""
    loss = np.array([np.logaddexp(0, z) - data.outcome * z for z in candidates])  # (penalties, n)
    excess = data.row_weight * (loss - loss[np.average(loss, axis=1, weights=data.weight).argmin()])
    by_patient = np.stack([np.bincount(data.patient_ids, weights=row) for row in excess])  # (penalties, patients)
    not_clearly_worse = by_patient.sum(axis=1) <= by_patient.std(axis=1) * by_patient.shape[1] ** 0.5
    return int(np.flatnonzero(not_clearly_worse)[-1])


def _fit_calibrators(scores: Floats, data: TrainingData) -> tuple[Calibrator, ...]:
    slopes = 2 if data.outcome.sum() >= _TWO_SLOPES_FROM else 1
    return tuple(Calibrator.fit(column, data.outcome, slopes, data.weight) for column in scores.T)


def _calibrate(calibrators: tuple[Calibrator, ...], scores: Floats) -> Floats:
    return np.column_stack([calibrator.log_odds(column) for calibrator, column in zip(calibrators, scores.T, strict=True)])


def _fit_weights(log_odds: Floats, data: TrainingData, shrinkage: float, towards: Floats | None = None) -> tuple[Floats, float]:
    """Minimise log-loss + shrinkage / n * variance * |weight - towards|² over weight >= 0, for calibrated log-odds (n, m).

    The weights are shrunk towards the plain mean by default. Newton's steps, each a least-squares problem with bounds: base learners are
    so alike that a quasi-Newton method stops at different weights where the scores differ by rounding.
    """
    outcome, rows, n, m = data.outcome, data.row_weight, data.n_rows, log_odds.shape[1]
    variance = np.average((log_odds - np.average(log_odds, axis=0, weights=data.weight)) ** 2, axis=0, weights=data.weight)
    x = np.column_stack([log_odds, np.ones(len(log_odds))])
    centre = np.append(np.full(m, 1 / m) if towards is None else towards, 0.0)
    penalty = np.append(np.full(m, 2 * shrinkage * float(np.mean(variance)) / n), 0.0) + _LEAST_PENALTY
    lower, upper = np.append(np.zeros(m), -np.inf), np.full(m + 1, np.inf)

    def loss(solution: Floats) -> float:
        return log_loss(x @ solution, outcome, data.weight) + float(penalty @ (solution - centre) ** 2) / 2

    solution, least = centre, loss(centre)
    for _ in range(_MOST_STEPS):
        risk = expit(x @ solution)
        gradient = x.T @ (rows * (risk - outcome)) / n + penalty * (solution - centre)
        curvature = (x * (rows * risk * (1 - risk))[:, None]).T @ x / n + np.diag(penalty)
        root = np.linalg.cholesky(curvature).T
        wanted = root @ solution - np.linalg.solve(root.T, gradient)
        step = lsq_linear(root, wanted, (lower, upper), method="bvls").x - solution
        length, before = 1.0, least
        while (least := loss(shorter := np.maximum(solution + length * step, lower))) > before and length > _SHORTEST_STEP:
            length /= 2
        solution = shorter
        if before - least <= _CONVERGED * before:
            break
    return solution[:-1], float(solution[-1])
