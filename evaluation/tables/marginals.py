"""Tables as counts: every column cut into a few bins, and how far two tables' counts lie apart, one, two and three columns at a time.

Bins are made from the real rows. Whatever lies outside them falls into bins of its own at either end, never into the outermost
real bin: a table of numbers around 500 must not pass for one of numbers around 0.

Letters: n rows, d columns, g blocks, b resamples, c cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap
from nearward.tabular.typing import Floats, Ints

_FEW = 12  # a number with at most so many values has a bin for each


@dataclass(frozen=True)
class NumberBins:
    """Bins of a number column.

    Parameters
    ----------
    points : (m,)
        The values themselves where they are few; else the least, the inner edges, and the greatest.
    few : bool
    """

    points: Floats
    few: bool

    @classmethod
    def fit(cls, values: pl.Series, bins: int) -> NumberBins:
        """Cut at the quantiles of a Float64 column, or at each value."""
        seen = values.drop_nulls()
        different = np.sort(seen.unique().to_numpy())
        if len(different) <= min(_FEW, 2 * bins):
            return cls(different, few=True)
        inner = np.quantile(seen.to_numpy(), np.arange(1, bins) / bins)
        return cls(np.concatenate([different[:1], np.unique(inner), different[-1:]]), few=False)

    @property
    def size(self) -> int:
        """How many codes there are, that of a missing value among them."""
        return len(self.points) + 2

    def codes(self, values: pl.Series) -> Ints:
        """Code a Float64 column (n,); the last code is for missing, the one before, or the first and that, for outside."""
        x = values.to_numpy()
        missing = np.isnan(x)
        if self.few:
            place = np.searchsorted(self.points, x).clip(0, max(len(self.points) - 1, 0))
            known = self.points[place] == x if len(self.points) else np.zeros(len(x), dtype=bool)
            code = np.where(known, place, len(self.points))
        else:
            code = np.searchsorted(self.points[1:-1], x, side="right") + 1
            code[x < self.points[0]] = 0
            code[x > self.points[-1]] = len(self.points)
        code[missing] = self.size - 1
        return code.astype(np.int64)


@dataclass(frozen=True)
class CategoryBins:
    """Bins of a category column: its commonest levels, all rarer ones together, all never seen, missing."""

    common: tuple[str, ...]
    rare: tuple[str, ...]

    @classmethod
    def fit(cls, values: pl.Series, levels: int) -> CategoryBins:
        """Keep the commonest levels of a String column."""
        counted = values.drop_nulls().alias("level").value_counts(name="rows").sort(["rows", "level"], descending=[True, False])
        order = counted.get_column("level").to_list()
        return cls(tuple(order[:levels]), tuple(order[levels:]))

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.common) + 3

    def codes(self, values: pl.Series) -> Ints:
        """Code a String column (n,)."""
        names = [*self.common, *self.rare]
        numbers = [*range(len(self.common)), *[len(self.common)] * len(self.rare)]
        coded = values.replace_strict(names, numbers, default=len(self.common) + 1, return_dtype=pl.Int64)
        return np.array(pl.select(pl.when(values.is_null()).then(self.size - 1).otherwise(coded)).to_series().to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class Coding:
    """Bins of all columns.

    Examples
    --------
    >>> frame = pl.DataFrame({"sex": ["f", "m", None], "age": [50.0, 60.0, 70.0]})
    >>> Coding.fit(frame, 4).codes(frame).tolist()
    [[0, 0], [1, 1], [4, 2]]
    """

    bins: tuple[NumberBins | CategoryBins, ...]

    @classmethod
    def fit(cls, real: pl.DataFrame, bins: int) -> Coding:
        """Cut the columns of a frame of Float64 and String columns."""
        columns = real.iter_columns()
        return cls(tuple(NumberBins.fit(c, bins) if c.dtype == pl.Float64 else CategoryBins.fit(c, bins) for c in columns))

    @property
    def sizes(self) -> list[int]:
        """Codes of each column (d,)."""
        return [column.size for column in self.bins]

    def codes(self, frame: pl.DataFrame) -> Ints:
        """Code a frame (n, d)."""
        coded = np.empty((frame.width, frame.height), dtype=np.int64)  # a column at a time lies together
        for j, (column, bins) in enumerate(zip(frame.iter_columns(), self.bins, strict=True)):
            coded[j] = bins.codes(column)
        return coded.T


def chosen_sets(d: int, ways: int, most: int, seed: int) -> list[tuple[int, ...]]:
    """Return all sets of ``ways`` of d columns, or ``most`` of them drawn at random."""
    if comb(d, ways) <= most:
        return list(combinations(range(d), ways))
    draw = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        found[tuple(sorted(draw.choice(d, ways, replace=False).tolist()))] = None
    return list(found)


def cell_numbers(codes: Ints, sizes: Sequence[int], columns: tuple[int, ...]) -> tuple[Ints, int]:
    """Number the cell of each row in the cross of some columns (n,), and say how many cells there are."""
    number, cells = codes[:, columns[0]], sizes[columns[0]]
    for j in columns[1:]:
        number = number * sizes[j] + codes[:, j]
        cells *= sizes[j]
    return number, cells


def distances(
    codes: Sequence[Ints], blocks: Sequence[BlockBootstrap], sizes: Sequence[int], sets: Sequence[tuple[int, ...]]
) -> Iterator[tuple[Floats, Floats]]:
    """Yield, per set of columns, the total variation of each table to the first: its value (t,) and its resamples (t, b).

    Parameters
    ----------
    codes : t + 1 tables, each (n, d)
    blocks : t + 1
        How the rows of each are resampled.
    """
    for columns in sets:
        shares, resampled = [], []
        for table, block in zip(codes, blocks, strict=True):
            number, cells = cell_numbers(table, sizes, columns)
            g = block.weight.shape[1]
            counts = np.bincount(block.block * cells + number, minlength=g * cells).reshape(g, cells)
            drawn = block.weight.astype(np.float32) @ counts.astype(np.float32)  # (b, c)
            resampled.append(drawn / drawn.sum(axis=1, keepdims=True))
            shares.append(counts.sum(axis=0) / len(table))
        yield (
            np.array([0.5 * np.abs(share - shares[0]).sum() for share in shares[1:]]),
            np.array([0.5 * np.abs(drawn - resampled[0]).sum(axis=1) for drawn in resampled[1:]], dtype=np.float64),
        )
