"""How well scores part two groups of rows, several scores at once, with intervals that hold for all of them together.

Letters: m rows of the first group, w of the second, s scores.

References
----------
DeLong, DeLong and Clarke-Pearson (1988); Obuchowski: Nonparametric analysis of clustered ROC curve data (1997); Romano and Wolf (2005)
for the greatest of several studentised deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from nearward.evaluation.stats.confidence import LEVEL, Estimate
from nearward.tabular.typing import Floats, Ints

_DRAWS = 4000
# Half of the error that 95 % allow. At 95 % itself 12 of 200 independent tables of 600 rows were accused, where 5 should have been: what
# the attackers' reference rows add by chance is not in the placements.
_TOGETHER = 1 - (1 - LEVEL) / 2


@dataclass(frozen=True)
class Parted:
    """Areas under the ROC curve of s scores, and what each patient adds to them.

    Parameters
    ----------
    auc : (s,)
    influence : (patients of both groups, s)
        Sums to zero over each group; the area's error is about the sum of these.
    n : int, rows of both groups
    """

    auc: Floats
    influence: Floats
    n: int

    @property
    def error(self) -> Floats:
        """Standard error of each area (s,), with one row more in doubt on either side: a score that calls few rows is not that sure."""
        count = len(self.influence)
        found = (self.influence**2).sum(axis=0) * count / max(count - 1, 1)
        return np.asarray(np.sqrt(found + 2 / max(count, 1) ** 2))

    def simultaneous(self, seed: int) -> list[Estimate]:
        """Return the areas with intervals that all hold at once, by the multiplier bootstrap of the greatest deviation."""
        error = self.error
        draw = np.random.default_rng(seed)
        noise = draw.standard_normal((_DRAWS, len(self.influence))) @ (self.influence / error)  # (draws, s)
        width = max(float(np.quantile(np.abs(noise).max(axis=1), _TOGETHER)), float(stats.norm.ppf(0.5 + LEVEL / 2)))
        return self._estimates(width)

    def each(self) -> list[Estimate]:
        """Return the areas, each with an interval of its own."""
        return self._estimates(float(stats.norm.ppf(0.5 + LEVEL / 2)))

    def _estimates(self, width: float) -> list[Estimate]:
        low, high = np.clip(self.auc - width * self.error, 0, 1), np.clip(self.auc + width * self.error, 0, 1)
        return [Estimate(float(a), float(lo), float(hi), self.n) for a, lo, hi in zip(self.auc, low, high, strict=True)]


def part(first: Floats, second: Floats, first_patient: Ints | None = None, second_patient: Ints | None = None) -> Parted:
    """Compare the scores of two groups: the area is the chance that a row of the first scores higher, ties counting half.

    Parameters
    ----------
    first : (m, s), m > 0
    second : (w, s), w > 0
    first_patient, second_patient : (m,) and (w,), optional
        Patients; rows of one patient are not independent.

    Examples
    --------
    >>> part(np.array([[3.0], [1.0]]), np.array([[2.0], [0.0]])).auc.tolist()
    [0.75]
    """
    m, w = len(first), len(second)
    v10, v01 = np.empty(first.shape), np.empty(second.shape)
    for j in range(first.shape[1]):
        a, b = np.sort(first[:, j]), np.sort(second[:, j])
        v10[:, j] = (np.searchsorted(b, first[:, j], "left") + np.searchsorted(b, first[:, j], "right")) / (2 * w)
        v01[:, j] = 1 - (np.searchsorted(a, second[:, j], "left") + np.searchsorted(a, second[:, j], "right")) / (2 * m)
    auc = v10.mean(axis=0)
    influence = np.concatenate([_by_patient((v10 - auc) / m, first_patient), _by_patient((v01 - auc) / w, second_patient)])
    return Parted(auc, influence, m + w)


def pooled(parts: list[Parted]) -> Parted:
    """Average several comparisons of different rows."""
    count = len(parts)
    auc = np.asarray(np.mean([one.auc for one in parts], axis=0))
    return Parted(auc, np.concatenate([one.influence / count for one in parts]), sum(one.n for one in parts))


def _by_patient(values: Floats, patient: Ints | None) -> Floats:
    if patient is None:
        return values
    number = np.unique(patient, return_inverse=True)[1]
    return np.stack([np.bincount(number, weights=column) for column in values.T], axis=1)
