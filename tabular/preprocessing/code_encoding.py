"""Encoding of a column of code lists: multi-hot for the frequent codes, shared features for the others, and the number of codes.

The vocabulary has the codes of at least five stored rows, at most 16,384. The 256 most frequent have a feature each, the others share 32 by
a hash of their text. A code outside the vocabulary, rare or unseen, adds to the number of codes and to nothing else. A missing list has a
flag; an empty list has no codes and is not missing.

Shapes: n rows, v codes of all n rows together, m features.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.tabular.preprocessing.level_indices import CodeBags
from nearward.tabular.typing import Floats, Floats32, Ints

MAX_OWN = 256  # codes with a feature of their own
_BUCKETS = 32  # features that the other codes share
_MAX_CODES = 2**14
MIN_ROWS = 5  # stored rows; rarer codes only add to the number of codes


@dataclass(frozen=True)
class CodeListColumn:
    """Encoding of one column of code lists.

    Parameters
    ----------
    name : str
    codes : tuple of str
        The vocabulary, by falling number of stored rows, codes in equally many rows by their text.
    has_missing : bool

    Examples
    --------
    >>> stored = pl.Series("dx", [["I10", "E11"], ["I10"], [], None] * 5)
    >>> column = CodeListColumn.fit(stored)
    >>> column.feature_names
    ['dx has I10', 'dx has E11', 'dx: number of codes', 'dx: missing']
    >>> column.transform(column.bags(pl.Series("dx", [["E11", "new"]])), np.array([False])).round(2).tolist()
    [[0.0, 1.0, 1.100000023841858, 0.0]]
    """

    name: str
    codes: tuple[str, ...]
    has_missing: bool

    @classmethod
    def fit(cls, lists: pl.Series, weight: Floats | None = None) -> CodeListColumn:
        """Fit on a List(String) column with nulls, codes different within a row, of rows with sampling weights (n,)."""
        codes_of_rows, offsets = _explode(lists)
        of_codes = None if weight is None else np.repeat(weight, np.diff(offsets))
        count = count_rows(codes_of_rows.alias("code"), of_codes).filter(pl.col("rows") >= MIN_ROWS)
        codes = count.sort(["rows", "code"], descending=[True, False]).get_column("code").head(_MAX_CODES)
        return cls(lists.name, tuple(codes.to_list()), has_missing=lists.null_count() > 0)

    @property
    def n_own(self) -> int:
        """Codes with a feature of their own."""
        return min(len(self.codes), MAX_OWN)

    @property
    def n_buckets(self) -> int:
        """Features that the other codes share."""
        return _BUCKETS if len(self.codes) > MAX_OWN else 0

    @property
    def feature_names(self) -> list[str]:
        """Names of the m features."""
        own = [f"{self.name} has {code}" for code in self.codes[:MAX_OWN]]
        shared = [f"{self.name}: other codes, bucket {k + 1}" for k in range(self.n_buckets)]
        missing = [f"{self.name}: missing"] if self.has_missing else []
        return [*own, *shared, f"{self.name}: number of codes", *missing]

    def bags(self, lists: pl.Series) -> CodeBags:
        """Return the codes of n rows as indices of an embedding table; 0 for a code outside the vocabulary."""
        codes, offsets = _explode(lists)
        number = codes.replace_strict(list(self.codes), list(range(1, len(self.codes) + 1)), default=0, return_dtype=pl.Int64)
        return CodeBags(number.to_numpy(), offsets, len(self.codes) + 1)

    def transform(self, bags: CodeBags, missing: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats32:
        """Return the features (n, m) of rows with these codes and missing lists (n,); their number is on a logarithmic scale."""
        length = np.diff(bags.offsets)
        features = np.zeros((len(length), len(self.feature_names)), dtype=np.float32)
        row = np.repeat(np.arange(len(length)), length)
        known = bags.indices > 0
        features[row[known], self._feature_of_code()[bags.indices[known] - 1]] = 1.0
        features[:, self.n_own + self.n_buckets] = np.log1p(length)
        if self.has_missing:
            features[:, -1] = missing
        return features

    def _feature_of_code(self) -> Ints:
        """The feature of each code of the vocabulary."""
        shared = [self.n_own + zlib.crc32(code.encode()) % _BUCKETS for code in self.codes[MAX_OWN:]]
        return np.array([*range(self.n_own), *shared], dtype=np.int64)


def count_rows(values: pl.Series, weight: Floats | None) -> pl.DataFrame:
    """Return the different values and, as ``rows``, how many rows have each, every row counted ``weight`` (n,) times."""
    if weight is None:
        return values.value_counts(name="rows")
    return pl.DataFrame({values.name: values, "rows": weight}).group_by(values.name).agg(pl.col("rows").sum())


def _explode(lists: pl.Series) -> tuple[pl.Series, Ints]:
    """Return the codes of all rows (v,), and where each row's begin (n + 1,)."""
    length = lists.list.len().fill_null(0)
    codes = lists.filter(length > 0).explode()
    return codes.cast(pl.String), np.append(0, np.cumsum(length.to_numpy())).astype(np.int64)
