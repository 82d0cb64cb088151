"""Categories as numbers that know the outcome: each level's smoothed event rate, learned so that no row sees its own label.

Letters: n rows, c category columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.data.splits import assign_folds
from nearward.tabular.typing import Floats, Ints

_INNER_FOLDS = 5


@dataclass(frozen=True)
class TargetEncoder:
    """Log-odds of the outcome per level, drawn towards the overall rate where a level has few rows.

    Parameters
    ----------
    table : tuple of (levels + 2,) arrays, one a column
        The last two entries are for a level never seen (-2) and for a missing value (-1).

    References
    ----------
    Micci-Barreca: A preprocessing scheme for high-cardinality categorical attributes (2001).
    """

    table: tuple[Floats, ...]

    @classmethod
    def fit(cls, code: Ints, levels: list[int], outcome: Ints, smoothing: float = 20.0) -> TargetEncoder:
        """Fit on rows with ``code`` (n, c); ``smoothing`` is in rows at the overall rate."""
        overall = (outcome.sum() + 0.5) / (len(outcome) + 1)
        tables = []
        for j, count in enumerate(levels):
            slot = code[:, j] % (count + 2)  # -2 and -1 take the last two places
            rows = np.bincount(slot, minlength=count + 2)
            events = np.bincount(slot, weights=outcome, minlength=count + 2)
            rate = (events + smoothing * overall) / (rows + smoothing)
            tables.append(np.log(rate / (1 - rate)))
        return cls(tuple(tables))

    def apply(self, code: Ints) -> Floats:
        """Read the log-odds of ``code`` (q, c) -> (q, c)."""
        columns = [table[code[:, j] % len(table)] for j, table in enumerate(self.table)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(code), 0))


def cross_fitted_rates(code: Ints, levels: list[int], outcome: Ints, group: Ints, seed: int) -> Floats:
    """Give each row the rates learned from other patients only: what a model may be trained on. (n, c)."""
    fold = assign_folds(outcome, group, _INNER_FOLDS, seed)
    rates = np.zeros(code.shape)
    for f in range(_INNER_FOLDS):
        inside = fold == f
        if inside.any():
            rates[inside] = TargetEncoder.fit(code[~inside], levels, outcome[~inside]).apply(code[inside])
    return rates
