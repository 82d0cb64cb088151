"""The fitted encoder: mid-ranks by hand, missing values that never become categories, rows that do not affect each other."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.preprocessing.table_encoder import MISSING, UNSEEN, NumberColumn, TableEncoder

HUGE = 1.7976931348623157e308


def number(values: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame({"x": values}, schema={"x": pl.Float64})


def category(values: list[str | None], name: str = "c") -> pl.DataFrame:
    return pl.DataFrame({name: values}, schema={name: pl.String})


def fitted(frame: pl.DataFrame) -> TableEncoder:
    kinds = {pl.Float64(): "number", pl.String(): "category"}
    return TableEncoder.fit(Schema(tuple(Column(n, kind=kinds[t]) for n, t in frame.schema.items())), frame)  # type: ignore[arg-type]


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Conformed frames: two number columns and a category, with nulls, repeats, unicode and the largest floats."""
    n = draw(st.integers(1, 14))
    values = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, 1e308, -HUGE, 5e-324]))
    categories = st.one_of(st.none(), st.sampled_from(["f", "m", "Zoë", "数", "", "(rare)"]), st.text(max_size=2))
    return pl.DataFrame(
        {
            "x": draw(st.lists(values, min_size=n, max_size=n)),
            "few": draw(st.lists(st.sampled_from([None, 0.0, 1.0]), min_size=n, max_size=n)),
            "c": draw(st.lists(categories, min_size=n, max_size=n)),
        },
        schema={"x": pl.Float64, "few": pl.Float64, "c": pl.String},
    )


# ---- numbers -------------------------------------------------------------------------------------


def test_mid_ranks_by_hand() -> None:
    encoder = fitted(number([10.0, 20.0, 20.0, 40.0, None]))
    rank = encoder.encode(number([10.0, 20.0, 40.0, 30.0, -99.0, 99.0, None])).ranks[:, 0]
    # of four values: one is below its middle by half, two share .25 to .75, one ends at 1; between them a straight line
    assert rank[:6].tolist() == [0.125, 0.5, 0.875, 0.6875, 0.125, 0.875]
    assert math.isnan(rank[6])


def test_values_are_standardised_by_median_and_quartiles_and_compressed_by_asinh() -> None:
    stored = [float(v) for v in range(1, 101)]
    encoder = fitted(number(stored))
    (column,) = encoder.numeric
    assert column.centre == pytest.approx(50.5)
    assert column.scale == pytest.approx(50 / 1.349)
    z = np.array([0.0, 1.0, -1.0, 3.0, 1e6])
    value = encoder.encode(number((column.centre + column.scale * z).tolist())).values[:, 0]
    assert value == pytest.approx([0, math.asinh(1), -math.asinh(1), math.asinh(3), math.asinh(1e4)], rel=1e-9, abs=1e-9)


def test_quartiles_lie_on_the_line_between_mid_ranks() -> None:
    (column,) = fitted(number([0.0] * 9 + [1.0])).numeric  # mid-ranks .45 and .95
    assert column.centre == pytest.approx(0.1)
    assert column.scale == pytest.approx(0.6 / 1.349)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e308, 5e-324])
def test_a_constant_column_is_encoded_as_zeros(constant: float) -> None:
    encoder = fitted(number([constant] * 7))
    assert encoder.transform(number([constant])).tolist() == [[0.0, 0.0]]
    assert np.isfinite(encoder.transform(number([constant + 1, -HUGE, HUGE]))).all()


def test_a_column_of_nulls_is_only_a_flag() -> None:
    encoder = fitted(number([None, None]))
    assert encoder.feature_names == ["x", "x: rank", "x: missing"]
    assert encoder.transform(number([None, None])).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert np.isfinite(encoder.transform(number([3.0, HUGE]))).all()


@pytest.mark.parametrize(
    "stored",
    [
        [1e308, 5.0],
        [-HUGE, HUGE],
        [-1e308] * 10 + [1e308] * 10,
        [0.0, 1.0, 2.0, 1e308],
        [-HUGE, 0.0, 1.0, 2.0, HUGE],
        [5e-324, 0.0],
    ],
)
def test_the_largest_floats_leave_centre_scale_and_encoding_finite(stored: list[float]) -> None:
    encoder = fitted(number(stored))
    (column,) = encoder.numeric
    assert math.isfinite(column.centre)
    assert math.isfinite(column.scale)
    assert column.scale > 0
    assert np.isfinite(encoder.transform(number([*stored, 0.0, 1.0, HUGE, -HUGE]))).all()


def test_one_huge_value_does_not_flatten_the_others() -> None:
    encoder = fitted(number([*map(float, range(100)), 1e308]))
    value = encoder.encode(number([25.0, 50.0, 75.0])).values[:, 0]
    assert value[0] < -0.5 < 0.5 < value[2]


def test_ranks_of_many_values_stay_near_the_exact_ones() -> None:
    values = np.random.default_rng(0).lognormal(size=5000)
    encoder = fitted(number(values.tolist()))
    assert len(encoder.numeric[0].knots) <= 514
    exact = (np.argsort(np.argsort(values)) + 0.5) / len(values)
    assert np.abs(encoder.encode(number(values.tolist())).ranks[:, 0] - exact).max() < 2e-3


def test_many_repeated_values_have_their_own_mid_rank() -> None:
    values = np.append(np.zeros(3000), np.random.default_rng(0).random(1000) + 1)
    encoder = fitted(number(values.tolist()))
    assert encoder.encode(number([0.0])).ranks[0, 0] == pytest.approx(0.375)


# ---- categories ----------------------------------------------------------------------------------


def test_categories_by_falling_frequency_with_the_rare_ones_pooled() -> None:
    frame = category(["m"] * 6 + ["f"] * 8 + ["x"] * 4 + ["y"] + [None])
    encoder = fitted(frame)
    assert encoder.feature_names == ["c = f", "c = m", "c = (rare)", "c: missing"]
    assert encoder.categorical[0].categories == ("f", "m", "x", "y")
    queries = encoder.encode(category(["f", "m", "x", "y", "new", None]))
    assert queries.codes[:, 0].tolist() == [0, 1, 2, 3, UNSEEN, MISSING]
    assert encoder.to_matrix(queries).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]


def test_equally_frequent_categories_are_in_alphabetical_order() -> None:
    assert fitted(category(["b", "a", "c"] * 5)).categorical[0].categories == ("a", "b", "c")


def test_many_categories_are_frequency_encoded() -> None:
    stored = [f"l{i:02}" for i in range(17)] + ["l00"] * 3
    encoder = fitted(category([*stored, *[None] * 5]))
    assert encoder.feature_names == ["c: frequency", "c: missing"]
    matrix = encoder.transform(category(["l00", "l16", "new", None]))
    assert matrix[:, 0].tolist() == pytest.approx([math.log1p(1000 * 4 / 25) / 3, math.log1p(1000 / 25) / 3, 0, 0])
    assert matrix[:, 1].tolist() == [0, 0, 0, 1]


def test_unseen_categories_are_counted_by_column_and_missing_ones_are_not() -> None:
    frame = category(["a"] * 9 + ["b"] * 9)
    encoder = fitted(frame)
    assert encoder.unseen_categories(category(["a", "z", None, "y"])) == {"c": 2}
    assert encoder.unseen_categories(frame) == {}


@pytest.mark.parametrize("stored", [[None, None], ["a", None]])
def test_columns_with_no_or_rare_categories_only_are_encoded(stored: list[str | None]) -> None:
    encoder = fitted(category(stored))
    assert np.isfinite(encoder.transform(category(["a", "z", None]))).all()
    assert encoder.encode(category([None])).codes.tolist() == [[MISSING]]


@pytest.mark.parametrize("name", ["count", "proportion", "len", "literal", "index", "ü: missing"])
def test_a_category_column_may_have_any_name(name: str) -> None:
    encoder = fitted(category(["a"] * 6 + ["b"] * 5, name))
    assert encoder.transform(category(["a", "b"], name)).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("word", ["", "NaN", "null", "None", "-1", "(rare)", "missing"])
def test_no_word_is_taken_for_a_missing_value(word: str) -> None:
    encoder = fitted(category([word] * 6 + ["a"] * 7 + [None]))
    assert encoder.encode(category([word, None])).codes[:, 0].tolist() == [1, MISSING]


# ---- together ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(frame=frames(), data=st.data())
def test_a_row_is_encoded_the_same_alone_and_in_a_batch(frame: pl.DataFrame, data: st.DataObject) -> None:
    encoder, queries = fitted(frame), data.draw(frames())
    table = encoder.encode(queries)
    matrix = encoder.to_matrix(table)
    order = data.draw(st.permutations(range(queries.height)))
    assert np.array_equal(encoder.transform(queries[order]), matrix[order])
    alone = [encoder.encode(queries[i]) for i in range(queries.height)]
    assert np.array_equal(np.concatenate([encoder.to_matrix(one) for one in alone]), matrix)
    for part in ("values", "ranks", "codes"):
        assert np.array_equal(np.concatenate([getattr(one, part) for one in alone]), getattr(table, part), equal_nan=part != "codes")


@settings(deadline=None, max_examples=60, derandomize=True)
@given(stored=frames(), queries=frames())
def test_every_frame_gives_finite_features_and_missing_is_never_a_category(stored: pl.DataFrame, queries: pl.DataFrame) -> None:
    encoder = fitted(stored)
    for frame in (stored, queries):
        table = encoder.encode(frame)
        matrix = encoder.to_matrix(table)
        assert matrix.shape == (frame.height, len(encoder.feature_names))
        assert np.isfinite(matrix).all()
        assert ((table.codes[:, 0] == MISSING) == frame["c"].is_null().to_numpy()).all()
        for j, name in enumerate(("x", "few")):
            missing = frame[name].is_null().to_numpy()
            assert (np.isnan(table.values[:, j]) == missing).all()
            assert (np.isnan(table.ranks[:, j]) == missing).all()
            present = table.ranks[~missing, j]
            assert ((present >= 0) & (present <= 1)).all()
        assert (np.abs(table.values[~np.isnan(table.values)]) <= 10).all()
    assert (encoder.encode(stored).codes != UNSEEN).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(frame=frames(), data=st.data())
def test_the_order_of_the_stored_rows_does_not_matter(frame: pl.DataFrame, data: st.DataObject) -> None:
    shuffled = frame[data.draw(st.permutations(range(frame.height)))]
    one, other = fitted(frame), fitted(shuffled)
    assert np.array_equal(one.transform(frame), other.transform(frame))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_larger_numbers_never_rank_lower(values: list[float]) -> None:
    encoder = fitted(number(values))
    table = encoder.encode(number(sorted(values)))
    assert (np.diff(table.ranks[:, 0]) >= 0).all()
    assert (np.diff(table.values[:, 0]) >= -1e-12).all()


def test_a_missing_flag_exists_only_where_stored_rows_miss_values() -> None:
    whole, holed = fitted(number([1.0, 2.0])), fitted(number([1.0, None]))
    assert whole.feature_names == ["x", "x: rank"]
    assert holed.feature_names == ["x", "x: rank", "x: missing"]
    assert whole.transform(number([None])).tolist() == [[0, 0]]
    assert holed.transform(number([None, 1.0]))[:, 2].tolist() == [1, 0]


def test_features_and_scores_are_encoded_in_the_schemas_order_and_nothing_else() -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "y": [1.0, 2.0], "sofa": [1.0, 2.0], "x": [3.0, 4.0], "died": [0.0, 1.0]})
    schema = Schema(
        (
            Column("id", role="id", kind="category"),
            Column("y"),
            Column("sofa", role="expert"),
            Column("x"),
            Column("died", role="outcome"),
        )
    )
    encoder = TableEncoder.fit(schema, frame)
    assert encoder.source_columns == ["y", "y", "sofa", "sofa", "x", "x"]
    assert encoder.transform(frame[["x", "sofa", "y"]]).shape == (2, 6)  # a batch in another order, without the rest


def test_no_features_give_no_columns() -> None:
    encoder = TableEncoder.fit(Schema((Column("id", role="id"),)), pl.DataFrame({"id": [1.0, 2.0]}))
    assert encoder.transform(pl.DataFrame({"id": [1.0, 2.0]})).shape == (2, 0)


def test_rank_columns_have_unit_variance_where_values_are_spread_evenly() -> None:
    frame = number([float(i) for i in range(500)])
    encoder = fitted(frame)
    assert encoder.transform(frame)[:, 1].std() == pytest.approx(1, abs=1e-3)


def test_a_column_is_fitted_alone() -> None:
    assert NumberColumn.fit(pl.Series("x", [1.0, None])).has_missing
    assert not NumberColumn.fit(pl.Series("x", [1.0])).has_missing


def test_an_encoder_of_weighted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "x": pl.Series(rng.normal(size=900).round(2)).set(pl.Series(rng.random(900) < 0.1), None),
            "mostly": np.where(rng.random(900) < 0.1, 3.0, 0.0),
            "few": rng.choice(["a", "b", "c", None], 900, p=[0.7, 0.28, 0.01, 0.01]).tolist(),
            "many": [f"v{i}" for i in rng.zipf(1.5, 900).clip(1, 40)],
            "dx": [[f"c{i}" for i in range(rng.integers(0, 6))] for _ in range(900)],
        }
    )
    kinds = {"x": "number", "mostly": "number", "few": "category", "many": "category", "dx": "list"}
    schema = Schema(tuple(Column(name, kind=kind) for name, kind in kinds.items()))  # type: ignore[arg-type]
    times = rng.integers(1, 6, 900)
    weighted = TableEncoder.fit(schema, frame, times.astype(float))
    repeated = TableEncoder.fit(schema, frame[np.repeat(np.arange(900), times)])
    assert weighted.feature_names == repeated.feature_names
    assert [column.categories for column in weighted.categorical] == [column.categories for column in repeated.categorical]
    assert weighted.transform(frame) == pytest.approx(repeated.transform(frame), abs=1e-9)
    assert np.abs(weighted.transform(frame)[:, 0] - TableEncoder.fit(schema, frame).transform(frame)[:, 0]).max() > 1e-3
