"""Target encoding of categories: each category's smoothed event rate, cross-fitted so that no row's encoding uses its own outcome.

Shapes: n rows, c category columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.data.splits import assign_folds
from nearward.tabular.statistics import row_weights
from nearward.tabular.typing import Floats, Ints

_INNER_FOLDS = 5


@dataclass(frozen=True)
class TargetEncoder:
    """Log-odds of the event in each category, shrunk towards the overall rate where a category has few rows.

    Parameters
    ----------
    log_odds : tuple of (categories + 2,) arrays, one a column
        The last two entries are for a category that no row has (code -2) and for a missing value (code -1).

    References
    ----------
    Micci-Barreca: A preprocessing scheme for high-cardinality categorical attributes (2001).
    """

    log_odds: tuple[Floats, ...]

    @classmethod
    def fit(
        cls, codes: Ints, n_categories: list[int], outcome: Ints, smoothing: float = 20.0, weight: Floats | None = None
    ) -> TargetEncoder:
        """Fit on rows with ``codes`` (n, c), each counted ``weight`` (n,) times; ``smoothing`` is in rows at the overall rate."""
        row_weight = row_weights(len(outcome), weight)
        weighted_outcome = row_weight * outcome
        overall = (weighted_outcome.sum() + 0.5) / (row_weight.sum() + 1)
        log_odds = []
        for j, count in enumerate(n_categories):
            code = codes[:, j] % (count + 2)  # -2 and -1 become the last two
            rows = np.bincount(code, weights=row_weight, minlength=count + 2)
            events = np.bincount(code, weights=weighted_outcome, minlength=count + 2)
            rate = (events + smoothing * overall) / (rows + smoothing)
            log_odds.append(np.log(rate / (1 - rate)))
        return cls(tuple(log_odds))

    def transform(self, codes: Ints) -> Floats:
        """Return the log-odds of ``codes`` (q, c) -> (q, c)."""
        columns = [log_odds[codes[:, j] % len(log_odds)] for j, log_odds in enumerate(self.log_odds)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(codes), 0))


def cross_fit_transform(
    codes: Ints, n_categories: list[int], outcome: Ints, patient_ids: Ints, seed: int, weight: Floats | None = None
) -> Floats:
    """Return each row's log-odds (n, c), fitted on other patients only: features that a model may be trained on.

    Parameters
    ----------
    codes : (n, c)
    n_categories : one a column
    outcome : (n,), 0 or 1
    patient_ids : (n,), patient numbers from 0
    seed : int
    weight : (n,), optional
        Sampling weights.
    """
    fold = assign_folds(outcome, patient_ids, _INNER_FOLDS, seed)
    encoded = np.zeros(codes.shape)
    for f in range(_INNER_FOLDS):
        inside = fold == f
        if inside.any():
            others = None if weight is None else weight[~inside]
            encoder = TargetEncoder.fit(codes[~inside], n_categories, outcome[~inside], weight=others)
            encoded[inside] = encoder.transform(codes[inside])
    return encoded
