"""Sequential trees in the manner of synthpop: each column drawn from the leaf of a tree on the columns before it.

Values come from donor rows, so the table repeats cells of real patients: a strong and simple baseline, not a private one.

References
----------
Reiter: Using CART to generate partially synthetic public use microdata (2005). Nowok, Raab, Dibben: synthpop (2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from nearward.tabular.data.conversion import as_number, as_text

_MIN_LEAF = 5  # fewest donors, the default of synthpop
_MANY = 30  # values; more are sorted by event rate and split as numbers


class Cart:
    """A tree per column, fitted on a table without missing outcomes."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, train: pl.DataFrame, outcome: str, groups: str | None = None) -> Cart:
        """Grow a tree per column, the outcome first."""
        table = train.drop(groups) if groups else train
        self._train, self._order = table, [outcome, *(name for name in table.columns if name != outcome)]
        event = as_number(table.get_column(outcome), outcome).to_numpy()
        codes = [_coded(table.get_column(name), event) for name in self._order]
        self._codes = np.column_stack(codes)  # (n, d)
        self._trees: list[Any] = [None]
        for j in range(1, len(self._order)):
            values = self._codes[:, j]
            few = len(np.unique(values)) <= _MANY and not table.schema[self._order[j]].is_float()
            values = np.unique(values, return_inverse=True)[1] if few else values
            tree = (DecisionTreeClassifier if few else DecisionTreeRegressor)(min_samples_leaf=_MIN_LEAF, random_state=self.seed)
            self._trees.append(tree.fit(self._codes[:, :j], values))
        return self

    def sample(self, n: int, seed: int = 0) -> pl.DataFrame:
        """Descend the trees, and take each cell from a donor."""
        rng = np.random.default_rng(seed)
        rows = np.empty((n, len(self._order)), dtype=np.int64)  # which train row gives each cell
        rows[:, 0] = rng.integers(0, len(self._codes), n)
        codes = np.empty((n, len(self._order)))
        codes[:, 0] = self._codes[rows[:, 0], 0]
        for j in range(1, len(self._order)):
            rows[:, j] = _donors(self._trees[j].apply(self._codes[:, :j]), self._trees[j].apply(codes[:, :j]), rng)
            codes[:, j] = self._codes[rows[:, j], j]
        columns = {name: self._train.get_column(name).gather(rows[:, j]) for j, name in enumerate(self._order)}
        return pl.DataFrame([columns[name] for name in self._train.columns])


def _donors(leaf: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a row from each target leaf."""
    order = np.argsort(leaf, kind="stable")
    begin, end = (np.searchsorted(leaf[order], targets, side=side) for side in ("left", "right"))
    return order[begin + (rng.random(len(targets)) * (end - begin)).astype(np.int64)]


def _coded(column: pl.Series, event: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers as they are, categories by the order of their event rates, missing below all."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        values = as_number(column, column.name).to_numpy()
        lowest, spread = np.nanmin(values), np.nanstd(values) + 1.0
        return np.where(np.isnan(values), lowest - spread, values)
    text = as_text(column, column.name)
    rates = pl.DataFrame({"level": text, "event": event}).drop_nulls("level").group_by("level").agg(pl.col("event").mean(), pl.len())
    levels = rates.sort("event", "level").get_column("level").to_list()
    return text.replace_strict(levels, list(range(len(levels))), default=-1, return_dtype=pl.Float64).fill_null(-1).to_numpy()
