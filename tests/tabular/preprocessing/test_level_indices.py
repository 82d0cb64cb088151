"""Indices of embedding tables: numbered by frequency, 0 for values without a level of their own."""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.preprocessing.level_indices import CodeBags
from nearward.tabular.preprocessing.table_encoder import TableEncoder


def fitted(frame: pl.DataFrame) -> TableEncoder:
    return TableEncoder.fit(Schema(tuple(Column(name, kind="category") for name in frame.columns)), frame)


def test_levels_by_falling_frequency_and_0_for_rare_unseen_and_missing_values() -> None:
    stored = pl.DataFrame({"ward": ["b"] * 7 + ["c"] * 5 + ["a"] * 5 + ["rare"] * 4 + [None]})
    encoder = fitted(stored)
    levels = encoder.encode(pl.DataFrame({"ward": ["b", "a", "c", "rare", "unseen", None]})).levels
    assert levels.categories.ravel().tolist() == [1, 2, 3, 0, 0, 0]
    assert levels.n_levels == (4,)


def test_a_column_of_many_categories_has_levels_though_its_dense_feature_is_a_frequency() -> None:
    stored = pl.DataFrame({"icd": [f"{i:03}" for i in range(700) for _ in range(5)] + ["once"]})
    encoder = fitted(stored)
    assert encoder.feature_names == ["icd: frequency"]
    levels = encoder.encode(pl.DataFrame({"icd": ["000", "699", "once"]})).levels
    assert levels.categories.ravel().tolist() == [1, 700, 0]
    assert levels.n_levels == (701,)


def test_levels_are_below_their_number_and_travel_with_the_rows() -> None:
    rng = np.random.default_rng(0)
    stored = pl.DataFrame({"a": [f"a{v}" for v in rng.integers(0, 30, 200)], "b": [f"b{v}" for v in rng.integers(0, 3, 200)]})
    table = fitted(stored).encode(stored)
    assert (table.levels.categories < np.array(table.levels.n_levels)).all()
    rows = np.array([5, 3, 5])
    assert np.array_equal(table.take(rows).levels.categories, table.levels.categories[rows])
    assert table.take(rows).levels.n_levels == table.levels.n_levels


def test_a_table_without_categories_has_no_levels() -> None:
    frame = pl.DataFrame({"age": [60.0, 70.0]})
    levels = TableEncoder.fit(Schema((Column("age"),)), frame).encode(frame).levels
    assert levels.categories.shape == (2, 0)
    assert levels.n_levels == ()


def test_bags_of_codes_travel_with_their_rows() -> None:
    bags = CodeBags(np.array([1, 2, 0, 3]), np.array([0, 2, 2, 4]), 4)  # rows of two codes, of none, and of two
    taken = bags.take(np.array([2, 1, 0, 2]))
    assert taken.indices.tolist() == [0, 3, 1, 2, 0, 3]
    assert taken.offsets.tolist() == [0, 2, 2, 4, 6]
    mask = bags.take(np.array([False, True, True]))
    assert (mask.indices.tolist(), mask.offsets.tolist()) == ([0, 3], [0, 0, 2])
