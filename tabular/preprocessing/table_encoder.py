"""Encoder of a conformed frame: numbers for models, fitted once on the stored rows.

Every number column gives its robustly standardised value, logarithmic in its tails, and its mid-rank among the stored rows. Every column
with missing values gives a missing flag, so that a missing value is never a category, nor a zero that means something. Categories are
one-hot encoded up to 16 of them (rarer ones pooled), and frequency encoded where there are more. Lists of codes are multi-hot encoded
(``code_encoding.py``).

Shapes: n rows, d number columns, c category columns, m features of code lists, p encoded features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.schema import Schema
from nearward.tabular.preprocessing.code_encoding import CodeListColumn, count_rows
from nearward.tabular.preprocessing.level_indices import CodeBags, LevelIndices
from nearward.tabular.statistics import row_weights
from nearward.tabular.typing import Bools, Floats, Floats32, Indices, Ints

MAX_ONE_HOT = 16  # categories; columns with more are frequency encoded
_KNOTS = 512  # of a column's distribution function; exact up to this many different values
_HUGE = 1e150  # squares of numbers up to here are still numbers
_MAX_Z = 1e4  # robust standard deviations: clipped here
_MIN_ROWS = 5  # stored rows; rarer categories are pooled
RANK_SCALE = 12**0.5  # a uniform rank has unit variance
MISSING, UNSEEN = -1, -2  # codes of a missing value, and of a category that no stored row has


@dataclass(frozen=True)
class EncodedTable:
    """A frame as arrays, column by column: what trees and embeddings read.

    Parameters
    ----------
    values : (n, d), asinh of the robust z-score; NaN where missing
    ranks : (n, d), mid-rank in [0, 1]; NaN where missing
    codes : (n, c), index of the category; -1 where missing, -2 for a category that no stored row has
    levels : LevelIndices
        The categories and lists of codes as indices of embedding tables, for networks.
    list_features : (n, m), the features of all columns of code lists, in single precision
    """

    values: Floats
    ranks: Floats
    codes: Ints
    levels: LevelIndices
    list_features: Floats32

    def take(self, rows: NDArray[Any]) -> EncodedTable:
        """Return some of the rows."""
        return EncodedTable(self.values[rows], self.ranks[rows], self.codes[rows], self.levels.take(rows), self.list_features[rows])


@dataclass(frozen=True)
class NumberColumn:
    """Encoding of one number column: centre and scale, and knots of its distribution function."""

    name: str
    centre: float
    scale: float
    knots: Floats
    ranks: Floats
    has_missing: bool

    @classmethod
    def fit(cls, values: pl.Series, weight: Floats | None = None) -> NumberColumn:
        """Fit on a Float64 column with nulls, of rows with sampling weights (n,)."""
        unique, count = _count(values.drop_nulls().to_numpy().clip(-_HUGE, _HUGE), _of_present(values, weight))
        if len(unique) == 0:
            return cls(values.name, 0.0, 1.0, np.zeros(1), np.full(1, 0.5), has_missing=True)
        rank = (np.cumsum(count) - count / 2) / count.sum()  # mid-rank of each different value
        low, centre, high = np.interp([0.25, 0.5, 0.75], rank, unique)
        scale = float(high - low) / 1.349  # the normal's inter-quartile range is 1.349 sd
        if not scale > 1e-9 * abs(centre):  # nearly every value is the same one
            scale = float(np.sqrt(np.average((unique - np.average(unique, weights=count)) ** 2, weights=count)))
        knot = np.unique(np.linspace(0, len(unique) - 1, _KNOTS).round().astype(int)) if len(unique) <= _KNOTS else _even_in_rank(rank)
        return cls(
            values.name,
            float(centre),
            max(float(scale), 1e-150) if scale else 1.0,
            unique[knot],
            rank[knot],
            has_missing=values.null_count() > 0,
        )


@dataclass(frozen=True)
class CategoryColumn:
    """Encoding of one category column: its categories by falling frequency, and each one's share of the stored rows."""

    name: str
    categories: tuple[str, ...]
    frequency: Floats
    n_frequent: int  # leading categories, each in at least _MIN_ROWS stored rows
    has_missing: bool

    @classmethod
    def fit(cls, values: pl.Series, weight: Floats | None = None) -> CategoryColumn:
        """Fit on a String column with nulls, of rows with sampling weights (n,)."""
        counts = count_rows(values.drop_nulls().alias("category"), _of_present(values, weight))
        table = counts.sort("rows", "category", descending=[True, False])
        categories, count = tuple(table.get_column("category").to_list()), table.get_column("rows").to_numpy()
        return cls(
            values.name,
            categories,
            count / max(float(row_weights(len(values), weight).sum()), 1.0),
            n_frequent=int((count >= _MIN_ROWS).sum()),
            has_missing=values.null_count() > 0,
        )

    @property
    def n_one_hot(self) -> int:
        """Leading categories with a feature of their own; 0: the column is frequency encoded."""
        return self.n_frequent if len(self.categories) <= MAX_ONE_HOT else 0

    @property
    def has_pool(self) -> bool:
        """Whether rare categories share a feature."""
        return 0 < self.n_one_hot < len(self.categories)


@dataclass(frozen=True)
class TableEncoder:
    """Fitted encoder of a table's feature and expert columns.

    Parameters
    ----------
    numeric : d number columns
    categorical : c category columns
    lists : columns of code lists

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [61.0, 70.0, None, 55.0] * 5, "sex": ["f", "m", "f", None] * 5})
    >>> encoder = TableEncoder.fit(Schema.infer(frame), frame)
    >>> encoder.feature_names
    ['age', 'age: rank', 'age: missing', 'sex = f', 'sex = m', 'sex: missing']
    >>> encoder.transform(frame).shape
    (20, 6)
    """

    numeric: tuple[NumberColumn, ...]
    categorical: tuple[CategoryColumn, ...]
    lists: tuple[CodeListColumn, ...] = ()

    @classmethod
    def fit(cls, schema: Schema, frame: pl.DataFrame, weight: Floats | None = None) -> TableEncoder:
        """Fit on the stored rows: ``frame`` as ``schema.conform`` gives it, with sampling weights (n,)."""
        features = [schema[name] for name in schema.named("feature", "expert")]
        return cls(
            tuple(NumberColumn.fit(frame.get_column(c.name), weight) for c in features if c.kind == "number"),
            tuple(CategoryColumn.fit(frame.get_column(c.name), weight) for c in features if c.kind == "category"),
            tuple(CodeListColumn.fit(frame.get_column(c.name), weight) for c in features if c.kind == "list"),
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the p encoded features."""
        return [name for name, _ in self._features()]

    @property
    def source_columns(self) -> list[str]:
        """The column that each of the p encoded features is made of."""
        return [column for _, column in self._features()]

    def transform(self, frame: pl.DataFrame) -> Floats:
        """Return the encoded features (n, p) of a conformed frame: what distances, linear models and networks read."""
        return self.to_matrix(self.encode(frame))

    def encode(self, frame: pl.DataFrame) -> EncodedTable:
        """Encode a conformed frame of n rows column by column."""
        n = frame.height
        values, ranks = np.empty((n, len(self.numeric))), np.empty((n, len(self.numeric)))
        for j, number in enumerate(self.numeric):
            x = frame.get_column(number.name).to_numpy().clip(-_HUGE, _HUGE)  # null becomes NaN
            z = ((x - number.centre) / number.scale).clip(-_MAX_Z, _MAX_Z)
            values[:, j] = np.arcsinh(z)  # linear in the middle, logarithmic in the tails, where rare outcomes are
            ranks[:, j] = np.where(np.isnan(x), np.nan, np.interp(x, number.knots, number.ranks))
        codes = np.full((n, len(self.categorical)), MISSING, dtype=np.int64)
        for j, category in enumerate(self.categorical):
            text, count = frame.get_column(category.name), len(category.categories)
            code = text.replace_strict(list(category.categories), list(range(count)), default=UNSEEN, return_dtype=pl.Int64)
            codes[:, j] = pl.select(pl.when(text.is_null()).then(MISSING).otherwise(code)).to_series().to_numpy()
        bags = tuple(column.bags(frame.get_column(column.name)) for column in self.lists)
        blocks = [
            column.transform(own, frame.get_column(column.name).is_null().to_numpy()) for column, own in zip(self.lists, bags, strict=True)
        ]
        list_features = np.concatenate(blocks, axis=1) if blocks else np.zeros((n, 0), dtype=np.float32)
        return EncodedTable(values, ranks, codes, self._levels(codes, bags), list_features)

    def levels_to_embed(self, table: EncodedTable) -> LevelIndices:
        """Return the levels of the category columns that ``to_matrix`` has by frequency alone."""
        return table.levels.select([j for j, category in enumerate(self.categorical) if not category.n_one_hot])

    def to_matrix(self, table: EncodedTable) -> Floats:
        """Return the encoded features (n, p) of an encoded table; missing values are 0 beside their flag."""
        matrix = np.empty((len(table.ranks), len(self._features())))
        for k, feature in enumerate(self._columns(table)):
            matrix[:, k] = feature
        if table.list_features.shape[1]:
            matrix[:, -table.list_features.shape[1] :] = table.list_features
        return matrix

    def _columns(self, table: EncodedTable) -> Iterator[NDArray[Any]]:
        """Yield the features (n,) of numbers and categories: one at a time, since a wide table has thousands."""
        for j, number in enumerate(self.numeric):
            missing = np.isnan(table.ranks[:, j])
            yield np.where(missing, 0.0, table.values[:, j])
            yield np.where(missing, 0.0, (table.ranks[:, j] - 0.5) * RANK_SCALE)
            if number.has_missing:
                yield missing
        for j, category in enumerate(self.categorical):
            code = table.codes[:, j]
            for k in range(category.n_one_hot):
                yield code == k
            if category.has_pool:
                yield (code >= category.n_one_hot) | (code == UNSEEN)
            if not category.n_one_hot:
                frequency = np.append(category.frequency, [0.0, 0.0])  # codes -2 (unseen) and -1 (missing) read the two zeros
                yield np.log1p(1000 * frequency[code]) / 3
            if category.has_missing:
                yield code == MISSING

    def new_missing(self, frame: pl.DataFrame) -> dict[str, Bools]:
        """Return where a conformed frame is missing (q,), for each column that no stored row misses.

        Such a value has no missing flag: it is encoded as the median, or as no category.
        """
        columns: list[NumberColumn | CategoryColumn | CodeListColumn] = [*self.numeric, *self.categorical, *self.lists]
        complete = [column.name for column in columns if not column.has_missing]
        missing = {name: frame.get_column(name).is_null().to_numpy() for name in complete}
        return {name: mask for name, mask in missing.items() if mask.any()}

    def unseen_categories(self, frame: pl.DataFrame) -> dict[str, int]:
        """Count, for each category column of a conformed frame, the rows with a category that no stored row has."""
        counts = {c.name: int((~frame.get_column(c.name).drop_nulls().is_in(list(c.categories))).sum()) for c in self.categorical}
        return {name: count for name, count in counts.items() if count}

    def unknown_lists(self, frame: pl.DataFrame) -> dict[str, int]:
        """Count, for each list column of a conformed frame in which no code of any row has a feature or an embedding, the rows with codes.

        A column whose every code was rare in the stored rows is left out.
        """
        bags = {column.name: column.bags(frame.get_column(column.name)) for column in self.lists if column.codes}
        return {name: int((np.diff(bag.offsets) > 0).sum()) for name, bag in bags.items() if len(bag.indices) and not bag.indices.any()}

    def _levels(self, codes: Ints, bags: tuple[CodeBags, ...]) -> LevelIndices:
        """Number the frequent categories from 1; all other codes (n, c) become 0."""
        n_frequent = np.array([category.n_frequent for category in self.categorical], dtype=np.int64)
        own = (codes >= 0) & (codes < n_frequent)
        return LevelIndices(np.where(own, codes + 1, 0), tuple((n_frequent + 1).tolist()), bags)

    def _features(self) -> list[tuple[str, str]]:
        """Name and source column of each encoded feature, in the order of ``to_matrix``."""
        features: list[tuple[str, str]] = []
        for number in self.numeric:
            features += [(number.name, number.name), (f"{number.name}: rank", number.name)]
            features += [(f"{number.name}: missing", number.name)] if number.has_missing else []
        for category in self.categorical:
            names = [f"{category.name} = {value}" for value in category.categories[: category.n_one_hot]]
            names += [f"{category.name} = (rare)"] if category.has_pool else []
            names += [] if category.n_one_hot else [f"{category.name}: frequency"]
            names += [f"{category.name}: missing"] if category.has_missing else []
            features += [(name, category.name) for name in names]
        return features + [(name, column.name) for column in self.lists for name in column.feature_names]


def _of_present(values: pl.Series, weight: Floats | None) -> Floats | None:
    """Return the weights of the rows that are not null."""
    return None if weight is None else weight[values.is_not_null().to_numpy()]


def _count(values: Floats, weight: Floats | None) -> tuple[Floats, Any]:
    """Return the different values, rising, and how many rows have each."""
    if weight is None:
        return np.unique(values, return_counts=True)
    unique, number = np.unique(values, return_inverse=True)
    return unique, np.bincount(number, weights=weight, minlength=len(unique))


def _even_in_rank(rank: Floats) -> Indices:
    """Return the indices of about _KNOTS values, evenly spaced in rank, the extremes among them."""
    knot = np.linspace(rank[0], rank[-1], _KNOTS)
    return np.unique(np.append(np.searchsorted(rank, knot).clip(0, len(rank) - 1), [0, len(rank) - 1]))


ENCODER_TYPES = (TableEncoder, NumberColumn, CategoryColumn, CodeListColumn)  # of a saved encoder
