"""A linear metric: what finds similar patients where a network would learn the few events by heart.

Each encoded column weighs by how it goes with the outcome, and one direction, a ridge discriminant's, says how much at risk a patient
looks: near are patients who are alike in what matters and alike in risk. The two together are one matrix, turned to its principal axes
and cut there to the width that a search can afford (after discriminant adaptive nearest neighbours; the weights and shares are ours).

Letters: n rows, p encoded columns, e width of the place.

References
----------
Hastie, Tibshirani: Discriminant adaptive nearest neighbor classification (1996).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from nearward.tabular.ensemble.closed_form import STRENGTHS, ridge_discriminant
from nearward.tabular.typing import Floats, Ints

_WIDTH = 48  # axes at the most; 32 to all 144 of diabetes130 vote alike (docs/log/2026-11.md)
_RISK_SHARE = 0.5  # variance along the discriminant, in units of all columns' together
_SAMPLE = 200  # rows that set the temperature


@dataclass(frozen=True)
class LinearMetric:
    """Places whose squared distances are the metric's.

    Parameters
    ----------
    matrix : (p, e), a row times this is its place
    temperature : float, a quarter of the mean squared distance within a row's neighbourhood
    """

    matrix: Floats
    temperature: float

    def place(self, x: Floats) -> Floats:
        """Return the places of rows (n, p) -> (n, e)."""
        return np.asarray(x @ self.matrix, dtype=np.float64)

    def mean_gate(self, x: Floats) -> Floats:
        """Return how far a unit of each column carries, mean 1 over the columns (p,); the same for every row."""
        weight = np.sqrt((self.matrix**2).sum(axis=1))
        out: Floats = weight / weight.mean() if weight.any() else np.ones(len(weight))
        return out


def fit_linear_metric(x: Floats, outcome: Ints, group: Ints, seed: int) -> LinearMetric:
    """Fit the metric on these rows.

    Parameters
    ----------
    x : (n, p), the dense encoding
    outcome : (n,), 0 or 1, both present
    group : (n,), patient numbers
    seed : int
    """
    patient = np.unique(group, return_inverse=True)[1]
    weight = _column_weights(x, outcome)
    direction = _discriminant(x, outcome, patient)
    spread, along = float((x * weight).var(axis=0).sum()), float((x @ direction).var())
    direction = direction * np.sqrt(_RISK_SHARE * spread / along) if along > 0 else direction
    matrix = principal(np.column_stack([np.diag(weight), direction]), x)
    sample = np.random.default_rng(seed).permutation(len(x))[:_SAMPLE]
    place = x[sample] @ matrix
    squared = ((place[:, None, :] - place[None, :, :]) ** 2).sum(axis=2)
    near = np.sort(squared, axis=1)[:, : max(2, len(sample) // 5)]
    return LinearMetric(matrix, float(near.mean()) / 4 or 1.0)


def _column_weights(x: Floats, outcome: Ints) -> Floats:
    """Weigh each column by the root of its correlation with the outcome, shrunk towards equal weights; 0 where it is constant."""
    deviation = x.std(axis=0)
    spread = np.where(deviation > 0, deviation, 1)
    correlation = np.abs(((x - x.mean(axis=0)) / spread * (outcome - outcome.mean())[:, None]).mean(axis=0)) / max(outcome.std(), 1e-9)
    weight = np.where(deviation > 0, np.sqrt(correlation + len(x) ** -0.5), 0)
    out: Floats = weight / weight.mean() if weight.any() else np.ones(x.shape[1])
    return out


def _discriminant(x: Floats, outcome: Ints, patient: Ints) -> Floats:
    """Return the ridge discriminant (p,) whose penalty ranks best, each patient scored as if he had not been there."""
    tried = [ridge_discriminant(x, outcome, patient, strength) for strength in STRENGTHS]
    best = max(tried, key=lambda fitted: average_precision_score(outcome, fitted[1]))
    return best[0].weight[1:]


def principal(matrix: Floats, x: Floats) -> Floats:
    """Turn the places to their principal axes on these rows, and keep the first ``_WIDTH``."""
    if matrix.shape[1] <= _WIDTH:
        return matrix
    covariance = np.cov(x @ matrix, rowvar=False)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :_WIDTH]
    out: Floats = matrix @ axes
    return out
