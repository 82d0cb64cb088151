"""Multi-hot codes: a feature each for the frequent, shared features for others, the number, and missing apart from empty."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.preprocessing.code_encoding import MAX_OWN, CodeListColumn
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder

SCHEMA = Schema((Column("dx", kind="list"),))


def lists(*rows: list[str] | None) -> pl.DataFrame:
    return pl.DataFrame({"dx": list(rows)}, schema={"dx": pl.List(pl.String)})


def fitted(frame: pl.DataFrame) -> TableEncoder:
    return TableEncoder.fit(SCHEMA, frame)


STORED = lists(*[["I10", "E11"]] * 5, *[["I10"]] * 3, ["rare"], [], None)


def test_features_by_hand() -> None:
    encoder = fitted(STORED)
    assert encoder.feature_names == ["dx has I10", "dx has E11", "dx: number of codes", "dx: missing"]
    assert encoder.source_columns == ["dx"] * 4
    matrix = encoder.transform(lists(["E11", "I10"], ["rare"], ["unseen", "I10"], [], None))
    expected = [[1, 1, np.log(3), 0], [0, 0, np.log(2), 0], [1, 0, np.log(3), 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert np.allclose(matrix, expected)


def test_a_rare_and_an_unseen_code_are_the_same_and_the_embedding_index_is_0() -> None:
    encoder = fitted(STORED)
    rows = lists(["rare", "I10"], ["unseen", "I10"])
    matrix = encoder.transform(rows)
    assert np.array_equal(matrix[0], matrix[1])
    (bags,) = encoder.encode(rows).levels.lists
    assert (bags.indices.tolist(), bags.offsets.tolist(), bags.n_levels) == ([0, 1, 0, 1], [0, 2, 4], 3)


def test_missing_and_empty_lists_have_no_code_and_differ_by_the_flag() -> None:
    encoder = fitted(STORED)
    rows = lists([], None, ["I10"])
    (bags,) = encoder.encode(rows).levels.lists
    assert bags.offsets.tolist() == [0, 0, 0, 1]
    assert encoder.transform(rows)[:2, 3].tolist() == [0, 1]
    assert encoder.new_missing(rows) == {}
    complete = fitted(lists(["a"], []))
    assert complete.feature_names == ["dx: number of codes"]
    assert complete.new_missing(rows)["dx"].tolist() == [False, True, False]


def test_codes_in_equally_many_rows_are_in_alphabetical_order_whatever_the_order_of_rows() -> None:
    rows = [["b"], ["a"], ["c"], ["c"]] * 5
    assert CodeListColumn.fit(lists(*rows)["dx"]).codes == CodeListColumn.fit(lists(*rows[::-1])["dx"]).codes == ("c", "a", "b")


def test_codes_beyond_the_most_frequent_share_features_by_a_hash_of_their_text() -> None:
    frequent = [f"f{i:03}" for i in range(MAX_OWN)]
    others = [f"o{i:03}" for i in range(100)]
    encoder = fitted(lists(*[frequent] * 6, *[others] * 5))
    assert len(encoder.feature_names) == MAX_OWN + 32 + 1
    one = encoder.transform(lists([others[0]], [others[0], others[1]], [frequent[-1]]))
    assert one[0, :MAX_OWN].sum() == 0
    assert one[0, MAX_OWN:-1].sum() == 1
    assert (one[1] >= one[0]).all()
    assert np.flatnonzero(one[2, :-1]).tolist() == [MAX_OWN - 1]
    more = fitted(lists(*[frequent] * 6, *[[*others, "p"]] * 5))  # another code in the vocabulary moves no bucket
    assert np.array_equal(more.transform(lists([others[0]])), one[:1])


def test_rows_travel_with_their_codes() -> None:
    table = fitted(STORED).encode(STORED)
    taken = table.take(np.array([8, 0]))
    assert np.array_equal(taken.list_features, table.list_features[[8, 0]])
    assert taken.levels.lists[0].indices.tolist() == [0, 1, 2]
    assert table.list_features.dtype == np.float32


def test_a_row_is_encoded_alone_as_in_a_batch() -> None:
    encoder = fitted(STORED)
    matrix = encoder.transform(STORED)
    assert np.array_equal(np.concatenate([encoder.transform(STORED[i]) for i in range(STORED.height)]), matrix)
    assert encoder.transform(STORED[:0]).shape == (0, 4)


def test_the_layout_masks_a_list_as_missing() -> None:
    layout = FeatureLayout.from_encoder(fitted(STORED))
    assert layout.columns == ("dx",)
    assert layout.missing_value.tolist() == [0, 0, 0, 1]


def test_a_hundred_thousand_codes_are_bounded() -> None:
    """Features and vocabulary are bounded; memory is that of the codes themselves and of the features."""
    rng = np.random.default_rng(0)
    codes = (100_000 * rng.random((20_000, 12)) ** 4).astype(int)
    frame = pl.DataFrame({"dx": [[f"c{code}" for code in set(row)] for row in codes.tolist()]})
    assert frame["dx"].explode().n_unique() > 60_000
    tracemalloc.start()
    encoder = fitted(frame)
    table = encoder.encode(frame)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.list_features.shape == (20_000, MAX_OWN + 32 + 1)
    assert len(encoder.lists[0].codes) <= 2**14
    assert peak < 4 * table.list_features.nbytes
