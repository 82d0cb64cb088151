"""Rounding of a numeric column: the grid that its values lie on, and how often they have 0, 1, 2, … decimals, bin by bin.

Nearly all glucoses are whole and a few are averages with three decimals. Rounding all synthetic values to the finest or the most frequent
number of decimals would let a tree classifier tell them from real ones at once.

Shapes: n values, k bins, f the greatest number of decimals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.typing import Floats, Ints

MAX_DECIMALS = 6
NO_GRID = MAX_DECIMALS + 1  # decimals of a value that six are not enough for
_PRIOR_ROWS = 3.0  # with the whole column's frequencies, added to each bin
_SINGLE = 0.98  # probability of one number of decimals from which no model is needed


@dataclass(frozen=True)
class Grid:
    """Equally spaced values of a column: (offset + step × whole number) / 10^decimals.

    Parameters
    ----------
    decimals : int
    offset, step : int
    """

    decimals: int
    offset: int
    step: int

    @classmethod
    def fit(cls, values: Floats) -> Grid | None:
        """Find the coarsest grid that contains all values (n,); None where there is none."""
        for decimals in range(MAX_DECIMALS + 1):
            scaled = values * 10.0**decimals
            if np.abs(scaled).max(initial=0) > 2**53:
                return None
            whole = np.round(scaled)
            if np.array_equal(np.round(values, decimals), values):
                offset = int(whole[0])
                step = int(np.gcd.reduce((whole - whole[0]).astype(np.int64)))
                return cls(decimals, offset, max(step, 1))
        return None

    def snap(self, values: Floats) -> Floats:
        """Return the nearest grid values (n,)."""
        return self.at(np.round(self._steps(values)))

    def up(self, values: Floats) -> Floats:
        """Return the least grid values that are not below (n,)."""
        return self.at(np.ceil(self._steps(values) - 1e-9))

    def down(self, values: Floats) -> Floats:
        """Return the greatest grid values that are not above (n,)."""
        return self.at(np.floor(self._steps(values) + 1e-9))

    def at(self, steps: Floats) -> Floats:
        """Return the grid values at these numbers of steps (n,), rounded to the column's decimals."""
        return np.asarray(np.round((self.offset + self.step * steps) / 10.0**self.decimals, self.decimals))

    def _steps(self, values: Floats) -> Floats:
        return (values * 10.0**self.decimals - self.offset) / self.step


@dataclass(frozen=True)
class DecimalPrecision:
    """Probabilities of numbers of decimals in each bin.

    Parameters
    ----------
    probability : (k, f + 1)
        That a value is rounded to 0, 1, … f decimals; rows sum to 1.
    """

    probability: Floats

    @classmethod
    def fit(cls, needed: Ints, bin_index: Ints, k: int, most: int, step: int = 1) -> DecimalPrecision | None:
        """Estimate the probabilities; None where one number of decimals describes the column.

        Parameters
        ----------
        needed : (n,), decimals of each value whose bin is an interval
        bin_index : (n,)
        k : int
        most : int, ``common_decimals`` of the column
        step : int, between values at that number of decimals, in units of the last
        """
        count = np.zeros((k, most + 1))
        np.add.at(count, (bin_index, needed.clip(max=most)), 1)
        column = count.sum(axis=0, keepdims=True)
        if not column.any() or _probabilities(column.cumsum(axis=1) / column.sum(), step)[0, -1] >= _SINGLE:
            return None
        smoothed = count + _PRIOR_ROWS * column / column.sum()
        return cls(_probabilities(smoothed.cumsum(axis=1) / smoothed.sum(axis=1, keepdims=True), step))

    def round(self, values: Floats, bin_index: Ints, position: Floats, low: Floats, high: Floats) -> Floats:
        """Round values (n,) to the nearest number between ``low`` and ``high`` (n,), or outside where there is none between.

        The trailing digits of ``position`` (n,), the value's position in its bin from 0 to 1, choose the number of decimals.
        """
        uniform = (position * 99_991) % 1
        decimals = (uniform[:, None] >= self.probability.cumsum(axis=1)[bin_index, :-1]).sum(axis=1)
        result = values.copy()
        for f in range(self.probability.shape[1] - 1):
            at = decimals == f
            least, most = np.ceil(low[at] * 10.0**f - 1e-9), np.floor(high[at] * 10.0**f + 1e-9)
            result[at] = np.round(np.round(values[at] * 10.0**f).clip(least, most) / 10.0**f, f)
        return result


def count_decimals(values: Floats) -> Ints:
    """Return the fewest decimals that write each value exactly, 7 where six are not enough (n,).

    Examples
    --------
    >>> count_decimals(np.array([120.0, 3.5, 0.25, 1 / 3])).tolist()
    [0, 1, 2, 7]
    """
    needed = np.full(len(values), NO_GRID)
    for decimals in range(MAX_DECIMALS, -1, -1):
        needed[np.round(values, decimals) == values] = decimals
    return needed


def common_decimals(needed: Ints, fewest: int) -> int:
    """Return the number of decimals that suffices for all values but fewer than ``fewest`` and than one in a hundred."""
    finer = np.cumsum(np.bincount(needed, minlength=NO_GRID + 1)[::-1])[::-1]  # values that need at least so many
    return int(np.flatnonzero(finer >= min(fewest, 1 + len(needed) // 100))[-1])


def _probabilities(cumulative: Floats, step: int) -> Floats:
    """Return probabilities of rounding to 0, 1, … f decimals from the shares of values that these suffice for, both (k, f + 1).

    One in ten values rounded to two decimals has one by chance: the shares of coarser values include values rounded more finely.
    """
    decimals = np.arange(cumulative.shape[1])
    by_chance = np.where(decimals <= decimals[:, None], 1.0, 10.0 ** (decimals[:, None] - decimals).clip(max=0))
    by_chance[:-1, -1] *= 0 if decimals[-1] == NO_GRID else step
    probability: Floats = np.linalg.solve(by_chance, cumulative.T).T.clip(0)
    return np.asarray(probability / probability.sum(axis=1, keepdims=True))
