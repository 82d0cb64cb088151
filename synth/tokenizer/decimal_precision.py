"""How finely a column writes its values: nearly all glucoses are whole, a few are averages with three decimals.

A few strays must not make every drawn value a stray, nor a mixture come out as fine as the finest of its parts: trees tell such tables from
real ones at once. So each cell knows how often its values are whole, have one decimal, two, and so on.

Letters: n values, k cells, f finest number of decimals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.typing import Floats, Ints

MOST_DECIMALS = 6
FREE = MOST_DECIMALS + 1  # more decimals than any grid has
_PRIOR = 3.0  # rows' worth of the whole column's habits in each cell
_REGULAR = 0.98  # so large a share of one number of decimals needs no account


def decimals(values: Floats) -> Ints:
    """Return the fewest decimals that write each value exactly, 7 where six are not enough (n,).

    Examples
    --------
    >>> decimals(np.array([120.0, 3.5, 0.25, 1 / 3])).tolist()
    [0, 1, 2, 7]
    """
    needed = np.full(len(values), FREE)
    for places in range(MOST_DECIMALS, -1, -1):
        needed[np.round(values, places) == values] = places
    return needed


def finest(needed: Ints, fewest: int) -> int:
    """Return the number of decimals that all values do with, but fewer than ``fewest`` and than one in a hundred."""
    finer = np.cumsum(np.bincount(needed, minlength=FREE + 1)[::-1])[::-1]  # rows that need at least so many
    return int(np.flatnonzero(finer >= min(fewest, 1 + len(needed) // 100))[-1])


@dataclass(frozen=True)
class Precision:
    """Chances of numbers of decimals, cell by cell.

    Parameters
    ----------
    chance : (k, f + 1), that a value is rounded to 0, 1, … f decimals; rows sum to 1
    """

    chance: Floats

    @classmethod
    def fit(cls, needed: Ints, cell: Ints, k: int, most: int, step: int = 1) -> Precision | None:
        """Learn them; None where one number of decimals serves.

        Parameters
        ----------
        needed : (n,), decimals of each value that lies in a range of values
        cell : (n,), its cell
        k : int
        most : int, ``finest`` of the column
        step : int, between values at that number of decimals, in units of the last
        """
        rows = np.zeros((k, most + 1))
        np.add.at(rows, (cell, needed.clip(max=most)), 1)
        column = rows.sum(axis=0, keepdims=True)
        if not column.any() or _chances(column.cumsum(axis=1) / column.sum(), step)[0, -1] >= _REGULAR:
            return None
        some = rows + _PRIOR * column / column.sum()
        return cls(_chances(some.cumsum(axis=1) / some.sum(axis=1, keepdims=True), step))

    def rounded(self, values: Floats, cell: Ints, inside: Floats, low: Floats, high: Floats) -> Floats:
        """Round values of these cells (n,) to what lies nearest between ``low`` and ``high`` (n,), and outside where nothing does.

        The far digits of ``inside`` (n,), which says where in the cell they lie, choose how many decimals.
        """
        lot = (inside * 99_991) % 1
        places = (lot[:, None] >= self.chance.cumsum(axis=1)[cell, :-1]).sum(axis=1)
        result = values.copy()
        for one in range(self.chance.shape[1] - 1):
            at = places == one
            least, most = np.ceil(low[at] * 10.0**one - 1e-9), np.floor(high[at] * 10.0**one + 1e-9)
            result[at] = np.round(np.round(values[at] * 10.0**one).clip(least, most) / 10.0**one, one)
        return result


def _chances(reached: Floats, step: int) -> Floats:
    """Return chances of 0, 1, … f decimals (k, f + 1) from the shares of values that do with so many (k, f + 1).

    One in ten values with two decimals does with one by chance: what is drawn as finer shows as coarser, too.
    """
    place = np.arange(reached.shape[1])
    shown = np.where(place <= place[:, None], 1.0, 10.0 ** (place[:, None] - place).clip(max=0))
    shown[:-1, -1] *= 0 if place[-1] == FREE else step
    chance: Floats = np.linalg.solve(shown, reached.T).T.clip(0)
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))
