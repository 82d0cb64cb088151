"""From a conformed frame to numbers, fitted once on the stored rows.

Every number column gives its robustly standardised value, logarithmic in its tails, and its mid-rank among the stored rows; every
column that misses values gives a missing flag, so that a missing value is never a category or a zero that means something;
categories give one column a level up to 16 levels (rarer levels pooled), and a frequency where there are more.

Letters: n rows, d number columns, c category columns, p encoded columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.schema import Schema
from nearward.tabular.typing import Floats

Codes = NDArray[np.int64]

ONE_HOT_LEVELS = 16
_KNOTS = 512  # of a column's distribution function; exact up to this many different values
_HUGE = 1e150  # squares of numbers up to here are still numbers
_FURTHEST = 1e4  # standard deviations: beyond, further is not further
_POOL_BELOW = 5  # a level with fewer stored rows than this shares the pool
MISSING, UNSEEN = -1, -2


@dataclass(frozen=True)
class Numbers:
    """A frame as arrays, before anything is blended: what trees like to read.

    Parameters
    ----------
    value : (n, d), asinh of the robust z-score; NaN where missing
    rank : (n, d), mid-rank in [0, 1]; NaN where missing
    code : (n, c), level number, -1 where missing, -2 for a level never seen in a stored row
    """

    value: Floats
    rank: Floats
    code: Codes


@dataclass(frozen=True)
class NumberColumn:
    """How one number column is read: centre and scale, and knots of its distribution function."""

    name: str
    centre: float
    scale: float
    knots: Floats
    ranks: Floats
    misses: bool

    @classmethod
    def fit(cls, values: pl.Series) -> NumberColumn:
        """Fit on a Float64 column with nulls."""
        seen, count = np.unique(values.drop_nulls().to_numpy().clip(-_HUGE, _HUGE), return_counts=True)
        if len(seen) == 0:
            return cls(values.name, 0.0, 1.0, np.zeros(1), np.full(1, 0.5), misses=True)
        middle = (np.cumsum(count) - count / 2) / count.sum()  # mid-rank of each different value
        low, centre, high = np.interp([0.25, 0.5, 0.75], middle, seen)
        scale = (high - low) / 1.349  # the normal's inter-quartile range is 1.349 sd
        if not scale > 1e-9 * abs(centre):  # nearly every value is the same one
            scale = float(np.sqrt(np.average((seen - np.average(seen, weights=count)) ** 2, weights=count)))
        keep = np.unique(np.linspace(0, len(seen) - 1, _KNOTS).round().astype(int)) if len(seen) <= _KNOTS else _spread(middle)
        return cls(
            values.name,
            float(centre),
            max(float(scale), 1e-150) if scale else 1.0,
            seen[keep],
            middle[keep],
            misses=values.null_count() > 0,
        )


@dataclass(frozen=True)
class CategoryColumn:
    """How one category column is read: its levels by falling frequency, and each level's share of the stored rows."""

    name: str
    levels: tuple[str, ...]
    share: Floats
    one_hot: int  # how many leading levels have a column of their own; 0: the share is the column
    misses: bool

    @classmethod
    def fit(cls, values: pl.Series) -> CategoryColumn:
        """Fit on a String column with nulls."""
        table = values.drop_nulls().alias("level").value_counts(name="rows").sort(["rows", "level"], descending=[True, False])
        levels, count = tuple(table.get_column("level").to_list()), table.get_column("rows").to_numpy()
        few = len(levels) <= ONE_HOT_LEVELS
        return cls(
            values.name,
            levels,
            count / max(len(values), 1),
            one_hot=int((count >= _POOL_BELOW).sum()) if few else 0,
            misses=values.null_count() > 0,
        )


@dataclass(frozen=True)
class TableEncoder:
    """The fitted reading of a table's feature columns.

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [61.0, 70.0, None, 55.0] * 5, "sex": ["f", "m", "f", None] * 5})
    >>> encoding = TableEncoder.fit(Schema.infer(frame), frame)
    >>> [name for name, _ in encoding.outputs]
    ['age', 'age: rank', 'age: missing', 'sex = f', 'sex = m', 'sex: missing']
    >>> encoding.dense(encoding.numbers(frame)).shape
    (20, 6)
    """

    number: tuple[NumberColumn, ...]
    category: tuple[CategoryColumn, ...]

    @classmethod
    def fit(cls, schema: Schema, frame: pl.DataFrame) -> TableEncoder:
        """Fit on the stored rows: ``frame`` as ``schema.conform`` gives it."""
        features = [schema[name] for name in schema.named("feature", "expert")]
        return cls(
            tuple(NumberColumn.fit(frame.get_column(c.name)) for c in features if c.kind == "number"),
            tuple(CategoryColumn.fit(frame.get_column(c.name)) for c in features if c.kind == "category"),
        )

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """Name and source column of each of the p dense columns."""
        out: list[tuple[str, str]] = []
        for number in self.number:
            out += [(number.name, number.name), (f"{number.name}: rank", number.name)]
            out += [(f"{number.name}: missing", number.name)] if number.misses else []
        for category in self.category:
            out += [(f"{category.name} = {level}", category.name) for level in category.levels[: category.one_hot]]
            if category.one_hot < len(category.levels) and category.one_hot:
                out.append((f"{category.name} = (rare)", category.name))
            if not category.one_hot:
                out.append((f"{category.name}: frequency", category.name))
            out += [(f"{category.name}: missing", category.name)] if category.misses else []
        return out

    def numbers(self, frame: pl.DataFrame) -> Numbers:
        """Read a conformed frame of n rows."""
        n = frame.height
        value, rank = np.empty((n, len(self.number))), np.empty((n, len(self.number)))
        for j, column in enumerate(self.number):
            x = frame.get_column(column.name).to_numpy().clip(-_HUGE, _HUGE)  # null becomes NaN
            z = ((x - column.centre) / column.scale).clip(-_FURTHEST, _FURTHEST)
            value[:, j] = np.arcsinh(z)  # linear in the middle, logarithmic in the tails, where rare outcomes live
            rank[:, j] = np.where(np.isnan(x), np.nan, np.interp(x, column.knots, column.ranks))
        code = np.full((n, len(self.category)), MISSING, dtype=np.int64)
        for j, category in enumerate(self.category):
            text = frame.get_column(category.name)
            known = text.replace_strict(list(category.levels), list(range(len(category.levels))), default=UNSEEN, return_dtype=pl.Int64)
            code[:, j] = pl.select(pl.when(text.is_null()).then(MISSING).otherwise(known)).to_series().to_numpy()
        return Numbers(value, rank, code)

    def dense(self, numbers: Numbers) -> Floats:
        """Return the (n, p) matrix that distances, ridge and the encoder read; missing values are 0 beside their flag."""
        parts: list[Any] = []
        for j, number in enumerate(self.number):
            missing = np.isnan(numbers.rank[:, j])
            parts.append(np.where(missing, 0.0, numbers.value[:, j]))
            parts.append(np.where(missing, 0.0, (numbers.rank[:, j] - 0.5) * 12**0.5))  # unit variance when uniform
            if number.misses:
                parts.append(missing.astype(float))
        for j, category in enumerate(self.category):
            code = numbers.code[:, j]
            parts += [(code == level).astype(float) for level in range(category.one_hot)]
            if category.one_hot < len(category.levels) and category.one_hot:
                parts.append(((code >= category.one_hot) | (code == UNSEEN)).astype(float))
            if not category.one_hot:
                share = np.append(category.share, [0.0, 0.0])  # code -2 (unseen) and -1 (missing) read the two zeros
                parts.append(np.log1p(1000 * share[code]) / 3)
            if category.misses:
                parts.append((code == MISSING).astype(float))
        n = len(numbers.rank)
        return np.column_stack(parts) if parts else np.zeros((n, 0))

    def gaps(self, frame: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
        """Return, per column that no stored row missed, where a conformed frame misses it (q,).

        Such a cell has no flag to show itself by: it reads as the median, or as no level.
        """
        never = [*(c.name for c in self.number if not c.misses), *(c.name for c in self.category if not c.misses)]
        found = {name: frame.get_column(name).is_null().to_numpy() for name in never}
        return {name: missing for name, missing in found.items() if missing.any()}

    def unseen(self, frame: pl.DataFrame) -> dict[str, int]:
        """Count, per category column of a conformed frame, the rows whose level no stored row has."""
        counts = {c.name: int((~frame.get_column(c.name).drop_nulls().is_in(list(c.levels))).sum()) for c in self.category}
        return {name: count for name, count in counts.items() if count}


def _spread(middle: Floats) -> NDArray[np.intp]:
    """Choose about _KNOTS of the values, evenly in rank, the extremes among them."""
    wanted = np.linspace(middle[0], middle[-1], _KNOTS)
    return np.unique(np.append(np.searchsorted(middle, wanted).clip(0, len(middle) - 1), [0, len(middle) - 1]))
