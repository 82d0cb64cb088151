"""Novelty of a row: the quantile of its distance among the stored rows' leave-one-out distances.

Shapes: n stored rows, q query rows, m quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.statistics import weighted_quantile
from nearward.tabular.typing import Floats


@dataclass(frozen=True)
class DistanceQuantiles:
    """The empirical distribution of the stored rows' distances: novelty 0 is below all of them, 1 is above all.

    Parameters
    ----------
    quantiles : (m,), of the stored rows' leave-one-out distances, evenly spaced
    """

    quantiles: Floats

    @classmethod
    def fit(cls, distance: Floats, count: int = 1001, weight: Floats | None = None) -> DistanceQuantiles:
        """Fit on leave-one-out distances (n,) of rows that stand for ``weight`` (n,) rows each."""
        return cls(weighted_quantile(distance, np.linspace(0, 1, count), weight))

    def score(self, distance: Floats) -> Floats:
        """Return the share of stored rows with a smaller distance (q,)."""
        out: Floats = np.searchsorted(self.quantiles, distance, side="left") / len(self.quantiles)
        return out
