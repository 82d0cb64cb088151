"""A linear metric learned in closed form: neighbours for tables with too few events to train a network.

Each encoded column is weighted by its correlation with the outcome, and the direction of a ridge discriminant is added: near patients
are alike in the informative columns and alike in risk. Both together are one matrix, rotated to its principal axes and truncated to
the width that a search can afford (after discriminant adaptive nearest neighbours; the weights and shares are ours).

Shapes: n rows, p encoded columns, e embedding width.

References
----------
Hastie, Tibshirani: Discriminant adaptive nearest neighbor classification (1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.metrics import average_precision_score

from nearward.tabular.ensemble.closed_form import STRENGTHS, ridge_discriminant
from nearward.tabular.typing import Floats, Ints

_WIDTH = 48  # maximum number of axes; 32 to all 144 of diabetes130 vote alike (docs/log/2026-11.md)
_RISK_SHARE = 0.5  # variance along the discriminant, in units of the total variance of all columns
_SAMPLE = 200  # rows from which the temperature is estimated


@dataclass(frozen=True)
class LinearMetric:
    """A linear map to embeddings; their squared distances are the metric's.

    Parameters
    ----------
    matrix : (p, e), ``x @ matrix`` is the embedding
    temperature : float, a quarter of the mean squared distance within a row's neighbourhood
    """

    matrix: Floats
    temperature: float

    def transform(self, x: Floats) -> Floats:
        """Return the embeddings of rows (n, p) -> (n, e)."""
        return np.asarray(x @ self.matrix, dtype=np.float64)

    def mean_gate(self, x: Floats) -> Floats:
        """Return the weight of each column, mean 1 (p,): the length of its row of the matrix; the same for all x."""
        weight = np.sqrt((self.matrix**2).sum(axis=1))
        out: Floats = weight / weight.mean() if weight.any() else np.ones(len(weight))
        return out


def fit_linear_metric(x: Floats, outcome: Ints, patient_ids: Ints, seed: int, row_weight: Floats | None = None) -> LinearMetric:
    """Fit the metric on dense rows (n, p) with both outcomes (n,), the patients' numbers (n,) and sampling weights (n,)."""
    weight = _column_weights(x, outcome, row_weight)
    direction = _discriminant(x, outcome, np.unique(patient_ids, return_inverse=True)[1], row_weight)
    total, along = float(weighted_variance(x * weight, row_weight).sum()), float(weighted_variance(x @ direction, row_weight))
    direction = direction * np.sqrt(_RISK_SHARE * total / along) if along > 0 else direction
    matrix = principal(np.column_stack([np.diag(weight), direction]), x, row_weight)
    return LinearMetric(matrix, neighbourhood_temperature(matrix, x, seed, row_weight))


def neighbourhood_temperature(matrix: Floats, x: Floats, seed: int, row_weight: Floats | None = None) -> float:
    """Return a quarter of the mean squared distance from 200 rows to the nearest fifth of them, embedded by a matrix (p, e)."""
    rng = np.random.default_rng(seed)
    if row_weight is None:
        sample = rng.permutation(len(x))[:_SAMPLE]
    else:
        sample = rng.choice(len(x), min(_SAMPLE, len(x)), replace=False, p=row_weight / row_weight.sum())
    embedding = x[sample] @ matrix
    sq_distance = ((embedding[:, None, :] - embedding[None, :, :]) ** 2).sum(axis=2)
    nearest = np.sort(sq_distance, axis=1)[:, : max(2, len(sample) // 5)]
    return float(nearest.mean()) / 4 or 1.0


def _column_weights(x: Floats, outcome: Ints, row_weight: Floats | None) -> Floats:
    """Weight each column by the root of its correlation with the outcome, shrunk towards equal weights; 0 where it is constant."""
    deviation, prevalence = np.sqrt(weighted_variance(x, row_weight)), np.average(outcome, weights=row_weight)
    scale = np.where(deviation > 0, deviation, 1)
    product = (x - np.average(x, axis=0, weights=row_weight)) / scale * (outcome - prevalence)[:, None]
    outcome_deviation = float(np.sqrt(weighted_variance(outcome, row_weight)))
    correlation = np.abs(np.average(product, axis=0, weights=row_weight)) / max(outcome_deviation, 1e-9)
    weight = np.where(deviation > 0, np.sqrt(correlation + len(x) ** -0.5), 0)
    out: Floats = weight / weight.mean() if weight.any() else np.ones(x.shape[1])
    return out


def weighted_variance(x: NDArray[Any], row_weight: Floats | None) -> Floats:
    """Return the variance of columns (n, p) -> (p,), or of numbers (n,)."""
    if row_weight is None:
        return np.asarray(x.var(axis=0))
    return np.asarray(np.average((x - np.average(x, axis=0, weights=row_weight)) ** 2, axis=0, weights=row_weight))


def _discriminant(x: Floats, outcome: Ints, patient_ids: Ints, row_weight: Floats | None) -> Floats:
    """Return the ridge discriminant (p,) whose penalty ranks best, by leave-one-patient-out scores."""
    fits = [ridge_discriminant(x, outcome, patient_ids, strength, row_weight) for strength in STRENGTHS]
    best = max(fits, key=lambda fit: average_precision_score(outcome, fit[1], sample_weight=row_weight))
    return best[0].weight[1:]


def principal(matrix: Floats, x: Floats, row_weight: Floats | None = None, width: int | None = None) -> Floats:
    """Rotate the embeddings to their principal axes on these rows, and truncate to the first ``width``, by default 48."""
    width = width or _WIDTH
    if matrix.shape[1] <= width:
        return matrix
    covariance = np.cov(x @ matrix, rowvar=False, aweights=row_weight)
    axes = eigh(covariance, subset_by_index=(len(covariance) - width, len(covariance) - 1))[1][:, ::-1]
    out: Floats = matrix @ axes
    return out
