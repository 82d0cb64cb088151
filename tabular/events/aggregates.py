"""Summaries of sorted values over windows that end at the prediction time, in numpy.

Values are sorted by row, code, falling age and value. A window of a row and code is then the end of their run, and every summary is a
reduction of slices: it depends on the values in the window alone, to the last bit, not on those beside it.

Shapes: p values, g groups (a row and a code with at least one value).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearward.tabular.typing import Bools, Floats, Indices, Ints

STATISTICS = ("first", "min", "max", "mean", "count", "slope")


@dataclass(frozen=True)
class SortedValues:
    """Values of all rows, sorted by row, code, falling age and value.

    Parameters
    ----------
    row, code : (p,)
    age : (p,), hours before the prediction time; infinite for static facts
    value : (p,)
    """

    row: Ints
    code: Ints
    age: Floats
    value: Floats

    @cached_property
    def begin(self) -> Indices:
        """First position of each group (g,)."""
        return np.flatnonzero(self._differs(self.row, self.code))

    @cached_property
    def end(self) -> Indices:
        """Position after each group (g,)."""
        return np.append(self.begin[1:], len(self.row)) if len(self.row) else self.begin

    @cached_property
    def group(self) -> Indices:
        """Group of each value (p,)."""
        return np.repeat(np.arange(len(self.begin)), self.end - self.begin)

    @cached_property
    def mean_of_equal_times(self) -> Floats:
        """Mean of the values that a row and code have at the same time as each value (p,)."""
        starts = np.flatnonzero(self._differs(self.row, self.code, self.age))
        length = np.diff(np.append(starts, len(self.row)))
        if len(starts) == len(self.row):
            return self.value
        return np.repeat(np.add.reduceat(self.value, starts) / length, length)

    @staticmethod
    def _differs(*keys: Ints | Floats) -> Bools:
        """Where a run of equal keys begins (p,)."""
        if len(keys[0]) == 0:
            return np.zeros(0, dtype=bool)
        changes = np.zeros(len(keys[0]), dtype=bool)
        changes[0] = True
        for key in keys:
            changes[1:] |= key[1:] != key[:-1]
        return changes

    def last(self) -> Floats:
        """Return the latest value of each group (g,), the mean of equally late ones."""
        return self.mean_of_equal_times[self.end - 1]

    def from_usual(self, centre: Floats, spread: Floats) -> Floats:
        """Return the distance of the latest value of each group to its code's usual value, in units of its usual range (g,).

        Parameters
        ----------
        centre, spread : (codes,)
        """
        code = self.code[self.begin]
        return np.asarray(np.abs(self.last() - centre[code]) / spread[code], dtype=np.float64)

    def since(self) -> Floats:
        """Return the age of each group's latest value (g,), in hours; NaN for static facts."""
        age = self.age[self.end - 1]
        return np.where(np.isfinite(age), age, np.nan)

    def _window_begin(self, span: float) -> Indices:
        """Return the first position of each group's window (g,); the group's end where it is empty."""
        if np.isinf(span):
            return self.begin
        inside = np.concatenate([[0], np.cumsum(self.age <= span)])
        return np.asarray(self.end - (inside[self.end] - inside[self.begin]), dtype=np.intp)

    def window(self, span: float) -> dict[str, Floats]:
        """Summarise each group's values that are at most ``span`` hours old.

        Parameters
        ----------
        span : float, hours; infinite for all values

        Returns
        -------
        name of a statistic -> (g,); NaN where the window is empty, ``count`` is 0 then. ``slope`` is the least-squares slope per hour, NaN
            below two different times.
        """
        begin = self._window_begin(span)
        count = self.end - begin
        filled = count > 0
        result = {name: np.full(len(begin), np.nan) for name in STATISTICS}
        result["count"] = count.astype(np.float64)
        if not filled.any():
            return result
        positions = np.flatnonzero(np.arange(len(self.row)) >= np.repeat(begin, self.end - self.begin))
        length = count[filled]
        starts = np.append(0, np.cumsum(length)[:-1])
        value, age = self.value[positions], self.age[positions]

        def total(terms: Floats) -> Floats:
            return np.asarray(np.add.reduceat(terms, starts), dtype=np.float64)

        mean = total(value) / length
        result["first"][filled] = self.mean_of_equal_times[begin[filled]]
        result["min"][filled] = np.minimum.reduceat(value, starts)
        result["max"][filled] = np.maximum.reduceat(value, starts)
        result["mean"][filled] = mean
        with np.errstate(invalid="ignore", divide="ignore"):
            centred = np.repeat(total(age) / length, length) - age  # later is greater
            slope = total(centred * (value - np.repeat(mean, length))) / total(centred**2)
            several = age[starts] != age[starts + length - 1]
        result["slope"][filled] = np.where(several & np.isfinite(slope), slope, np.nan)
        return result
