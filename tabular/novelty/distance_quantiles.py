"""Novelty of a row: the quantile of its distance among the stored rows' own distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.typing import Floats


@dataclass(frozen=True)
class DistanceQuantiles:
    """The empirical distribution of the stored patients' distances: 0 is the most usual distance, 1 is further than any.

    Parameters
    ----------
    knots : (m,), quantiles of the stored rows' leave-one-out distances, evenly spaced
    """

    knots: Floats

    @classmethod
    def fit(cls, distance: Floats, knots: int = 1001) -> DistanceQuantiles:
        """Fit on leave-one-out distances (n,)."""
        return cls(np.quantile(distance, np.linspace(0, 1, knots)))

    def score(self, distance: Floats) -> Floats:
        """Return the share of stored patients whose distance is smaller (q,)."""
        out: Floats = np.searchsorted(self.knots, distance, side="left") / len(self.knots)
        return out
