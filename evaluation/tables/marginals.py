"""Tables as counts: every column binned, and the total variation between two tables' one-, two- and three-way marginals.

Bins are fitted to the real rows. Values outside their range get bins of their own at either end, never the outermost
real bin: a table of numbers around 500 must not look like one of numbers around 0.

Shapes: n rows, d columns, g blocks, b resamples, c joint bins, t tables.
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

_MAX_DISCRETE = 12  # a number with at most so many values has a bin for each


@dataclass(frozen=True)
class NumberBins:
    """Bins of a number column.

    Parameters
    ----------
    points : (m,)
        The values themselves where they are discrete; else the minimum, the inner edges, and the maximum.
    discrete : bool
    """

    points: Floats
    discrete: bool

    @classmethod
    def fit(cls, values: pl.Series, bins: int) -> NumberBins:
        """Cut at the quantiles of a Float64 column, or at each value."""
        present = values.drop_nulls()
        different = np.sort(present.unique().to_numpy())
        if len(different) <= min(_MAX_DISCRETE, 2 * bins):
            return cls(different, discrete=True)
        inner = np.quantile(present.to_numpy(), np.arange(1, bins) / bins)
        return cls(np.concatenate([different[:1], np.unique(inner), different[-1:]]), discrete=False)

    @property
    def size(self) -> int:
        """Number of bins, that of missing values among them."""
        return len(self.points) + 2

    def transform(self, values: pl.Series) -> Ints:
        """Bin a Float64 column (n,); the last bin is for missing, the one before, or the first and that, for values out of range."""
        x = values.to_numpy()
        if self.discrete:
            index = np.searchsorted(self.points, x).clip(0, max(len(self.points) - 1, 0))
            known = self.points[index] == x if len(self.points) else np.zeros(len(x), dtype=bool)
            index = np.where(known, index, len(self.points))
        else:
            index = np.searchsorted(self.points[1:-1], x, side="right") + 1
            index[x < self.points[0]] = 0
            index[x > self.points[-1]] = len(self.points)
        index[np.isnan(x)] = self.size - 1
        return index.astype(np.int64)


@dataclass(frozen=True)
class CategoryBins:
    """Bins of a category column: its commonest categories, all rarer ones together, all unknown ones, missing."""

    common: tuple[str, ...]
    rare: tuple[str, ...]

    @classmethod
    def fit(cls, values: pl.Series, bins: int) -> CategoryBins:
        """Give the commonest categories of a String column a bin each."""
        counts = values.drop_nulls().alias("category").value_counts(name="rows").sort(["rows", "category"], descending=[True, False])
        categories = counts.get_column("category").to_list()
        return cls(tuple(categories[:bins]), tuple(categories[bins:]))

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.common) + 3

    def transform(self, values: pl.Series) -> Ints:
        """Bin a String column (n,)."""
        categories = [*self.common, *self.rare]
        bins = [*range(len(self.common)), *[len(self.common)] * len(self.rare)]
        index = values.replace_strict(categories, bins, default=len(self.common) + 1, return_dtype=pl.Int64)
        return np.array(pl.select(pl.when(values.is_null()).then(self.size - 1).otherwise(index)).to_series().to_numpy(), dtype=np.int64)


@dataclass(frozen=True)
class TableBins:
    """Bins of all columns.

    Examples
    --------
    >>> frame = pl.DataFrame({"sex": ["f", "m", None], "age": [50.0, 60.0, 70.0]})
    >>> TableBins.fit(frame, 4).transform(frame).tolist()
    [[0, 0], [1, 1], [4, 2]]
    """

    columns: tuple[NumberBins | CategoryBins, ...]

    @classmethod
    def fit(cls, real: pl.DataFrame, bins: int) -> TableBins:
        """Fit to the columns of a frame of Float64 and String columns."""
        columns = real.iter_columns()
        return cls(tuple(NumberBins.fit(c, bins) if c.dtype == pl.Float64 else CategoryBins.fit(c, bins) for c in columns))

    @property
    def sizes(self) -> list[int]:
        """Number of bins of each column (d,)."""
        return [column.size for column in self.columns]

    def transform(self, frame: pl.DataFrame) -> Ints:
        """Bin a frame (n, d)."""
        binned = np.empty((frame.width, frame.height), dtype=np.int64)  # columns are contiguous
        for j, (values, column) in enumerate(zip(frame.iter_columns(), self.columns, strict=True)):
            binned[j] = column.transform(values)
        return binned.T


def column_sets(d: int, ways: int, limit: int, seed: int) -> list[tuple[int, ...]]:
    """Return all sets of ``ways`` of d columns, or ``limit`` of them drawn at random."""
    if comb(d, ways) <= limit:
        return list(combinations(range(d), ways))
    rng = np.random.default_rng(seed)
    sets: dict[tuple[int, ...], None] = {}
    while len(sets) < limit:
        sets[tuple(sorted(rng.choice(d, ways, replace=False).tolist()))] = None
    return list(sets)


def joint_bins(binned: Ints, sizes: Sequence[int], columns: tuple[int, ...]) -> tuple[Ints, int]:
    """Return the joint bin of some columns for each row (n,), and the number of joint bins."""
    index, size = binned[:, columns[0]], sizes[columns[0]]
    for j in columns[1:]:
        index = index * sizes[j] + binned[:, j]
        size *= sizes[j]
    return index, size


def total_variations(
    binned: Sequence[Ints], blocks: Sequence[BlockBootstrap], sizes: Sequence[int], sets: Sequence[tuple[int, ...]]
) -> Iterator[tuple[Floats, Floats]]:
    """Yield, per set of columns, the total variation of each table to the first: its value (t,) and its resamples (t, b).

    Parameters
    ----------
    binned : t + 1 tables, each (n, d)
    blocks : t + 1
        The bootstrap of the rows of each.
    """
    for columns in sets:
        shares, resampled = [], []
        for table, block in zip(binned, blocks, strict=True):
            index, size = joint_bins(table, sizes, columns)
            g = block.weight.shape[1]
            counts = np.bincount(block.block * size + index, minlength=g * size).reshape(g, size)
            resampled_counts = block.weight.astype(np.float32) @ counts.astype(np.float32)  # (b, c)
            resampled.append(resampled_counts / resampled_counts.sum(axis=1, keepdims=True))
            shares.append(counts.sum(axis=0) / len(table))
        yield (
            np.array([0.5 * np.abs(share - shares[0]).sum() for share in shares[1:]]),
            np.array([0.5 * np.abs(share - resampled[0]).sum(axis=1) for share in resampled[1:]], dtype=np.float64),
        )
