"""The fitted encoding: mid-ranks by hand, missing values that never become levels, rows that do not see each other."""

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
    levels = st.one_of(st.none(), st.sampled_from(["f", "m", "Zoë", "数", "", "(rare)"]), st.text(max_size=2))
    return pl.DataFrame(
        {
            "x": draw(st.lists(values, min_size=n, max_size=n)),
            "few": draw(st.lists(st.sampled_from([None, 0.0, 1.0]), min_size=n, max_size=n)),
            "c": draw(st.lists(levels, min_size=n, max_size=n)),
        },
        schema={"x": pl.Float64, "few": pl.Float64, "c": pl.String},
    )


# ---- numbers -------------------------------------------------------------------------------------


def test_mid_ranks_by_hand() -> None:
    encoding = fitted(number([10.0, 20.0, 20.0, 40.0, None]))
    rank = encoding.numbers(number([10.0, 20.0, 40.0, 30.0, -99.0, 99.0, None])).rank[:, 0]
    # of four values: one is below its middle by half, two share .25 to .75, one ends at 1; between them a straight line
    assert rank[:6].tolist() == [0.125, 0.5, 0.875, 0.6875, 0.125, 0.875]
    assert math.isnan(rank[6])


def test_values_are_standardised_by_median_and_quartiles_and_drawn_in_by_asinh() -> None:
    stored = [float(v) for v in range(1, 101)]
    encoding = fitted(number(stored))
    (column,) = encoding.number
    assert column.centre == pytest.approx(50.5)
    assert column.scale == pytest.approx(50 / 1.349)
    z = np.array([0.0, 1.0, -1.0, 3.0, 1e6])
    value = encoding.numbers(number((column.centre + column.scale * z).tolist())).value[:, 0]
    assert value == pytest.approx([0, math.asinh(1), -math.asinh(1), math.asinh(3), math.asinh(1e4)], rel=1e-9, abs=1e-9)


def test_quartiles_lie_on_the_line_between_mid_ranks() -> None:
    (column,) = fitted(number([0.0] * 9 + [1.0])).number  # mid-ranks .45 and .95
    assert column.centre == pytest.approx(0.1)
    assert column.scale == pytest.approx(0.6 / 1.349)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e308, 5e-324])
def test_a_constant_column_says_nothing_and_divides_by_nothing(constant: float) -> None:
    encoding = fitted(number([constant] * 7))
    assert encoding.dense(encoding.numbers(number([constant]))).tolist() == [[0.0, 0.0]]
    assert np.isfinite(encoding.dense(encoding.numbers(number([constant + 1, -HUGE, HUGE])))).all()


def test_a_column_of_nulls_is_only_a_flag() -> None:
    encoding = fitted(number([None, None]))
    assert [n for n, _ in encoding.outputs] == ["x", "x: rank", "x: missing"]
    assert encoding.dense(encoding.numbers(number([None, None]))).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert np.isfinite(encoding.dense(encoding.numbers(number([3.0, HUGE])))).all()


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
    encoding = fitted(number(stored))
    (column,) = encoding.number
    assert math.isfinite(column.centre)
    assert math.isfinite(column.scale)
    assert column.scale > 0
    assert np.isfinite(encoding.dense(encoding.numbers(number([*stored, 0.0, 1.0, HUGE, -HUGE])))).all()


def test_one_huge_value_does_not_flatten_the_others() -> None:
    encoding = fitted(number([*map(float, range(100)), 1e308]))
    value = encoding.numbers(number([25.0, 50.0, 75.0])).value[:, 0]
    assert value[0] < -0.5 < 0.5 < value[2]


def test_ranks_of_many_values_stay_near_the_exact_ones() -> None:
    draw = np.random.default_rng(0).lognormal(size=5000)
    encoding = fitted(number(draw.tolist()))
    assert len(encoding.number[0].knots) <= 514
    exact = (np.argsort(np.argsort(draw)) + 0.5) / len(draw)
    assert np.abs(encoding.numbers(number(draw.tolist())).rank[:, 0] - exact).max() < 2e-3


def test_many_repeated_values_keep_their_own_mid_rank() -> None:
    draw = np.append(np.zeros(3000), np.random.default_rng(0).random(1000) + 1)
    encoding = fitted(number(draw.tolist()))
    assert encoding.numbers(number([0.0])).rank[0, 0] == pytest.approx(0.375)


# ---- categories ----------------------------------------------------------------------------------


def test_levels_by_falling_frequency_with_the_rare_ones_pooled() -> None:
    frame = category(["m"] * 6 + ["f"] * 8 + ["x"] * 4 + ["y"] + [None])
    encoding = fitted(frame)
    assert [n for n, _ in encoding.outputs] == ["c = f", "c = m", "c = (rare)", "c: missing"]
    assert encoding.category[0].levels == ("f", "m", "x", "y")
    asked = encoding.numbers(category(["f", "m", "x", "y", "new", None]))
    assert asked.code[:, 0].tolist() == [0, 1, 2, 3, UNSEEN, MISSING]
    assert encoding.dense(asked).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]


def test_equally_frequent_levels_stand_in_alphabetical_order() -> None:
    assert fitted(category(["b", "a", "c"] * 5)).category[0].levels == ("a", "b", "c")


def test_many_levels_become_their_frequency() -> None:
    stored = [f"l{i:02}" for i in range(17)] + ["l00"] * 3
    encoding = fitted(category([*stored, *[None] * 5]))
    assert [n for n, _ in encoding.outputs] == ["c: frequency", "c: missing"]
    dense = encoding.dense(encoding.numbers(category(["l00", "l16", "new", None])))
    assert dense[:, 0].tolist() == pytest.approx([math.log1p(1000 * 4 / 25) / 3, math.log1p(1000 / 25) / 3, 0, 0])
    assert dense[:, 1].tolist() == [0, 0, 0, 1]


def test_unseen_levels_are_counted_by_column_and_missing_ones_are_not() -> None:
    frame = category(["a"] * 9 + ["b"] * 9)
    encoding = fitted(frame)
    assert encoding.unseen(category(["a", "z", None, "y"])) == {"c": 2}
    assert encoding.unseen(frame) == {}


@pytest.mark.parametrize("stored", [[None, None], ["a", None]])
def test_columns_with_no_or_rare_levels_only_are_fine(stored: list[str | None]) -> None:
    encoding = fitted(category(stored))
    assert np.isfinite(encoding.dense(encoding.numbers(category(["a", "z", None])))).all()
    assert encoding.numbers(category([None])).code.tolist() == [[MISSING]]


@pytest.mark.parametrize("name", ["count", "proportion", "len", "literal", "index", "ü: missing"])
def test_a_category_column_may_have_any_name(name: str) -> None:
    encoding = fitted(category(["a"] * 6 + ["b"] * 5, name))
    assert encoding.dense(encoding.numbers(category(["a", "b"], name))).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("word", ["", "NaN", "null", "None", "-1", "(rare)", "missing"])
def test_no_word_is_taken_for_a_missing_value(word: str) -> None:
    encoding = fitted(category([word] * 6 + ["a"] * 7 + [None]))
    assert encoding.numbers(category([word, None])).code[:, 0].tolist() == [1, MISSING]


# ---- together ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(frame=frames(), data=st.data())
def test_rows_are_encoded_alone_as_in_any_company(frame: pl.DataFrame, data: st.DataObject) -> None:
    encoding, asked = fitted(frame), data.draw(frames())
    numbers = encoding.numbers(asked)
    dense = encoding.dense(numbers)
    order = data.draw(st.permutations(range(asked.height)))
    assert np.array_equal(encoding.dense(encoding.numbers(asked[order])), dense[order])
    alone = [encoding.numbers(asked[i]) for i in range(asked.height)]
    assert np.array_equal(np.concatenate([encoding.dense(one) for one in alone]), dense)
    for part in ("value", "rank", "code"):
        assert np.array_equal(np.concatenate([getattr(one, part) for one in alone]), getattr(numbers, part), equal_nan=part != "code")


@settings(deadline=None, max_examples=60, derandomize=True)
@given(stored=frames(), asked=frames())
def test_every_frame_gives_finite_columns_and_missing_is_never_a_code(stored: pl.DataFrame, asked: pl.DataFrame) -> None:
    encoding = fitted(stored)
    for frame in (stored, asked):
        numbers = encoding.numbers(frame)
        dense = encoding.dense(numbers)
        assert dense.shape == (frame.height, len(encoding.outputs))
        assert np.isfinite(dense).all()
        assert ((numbers.code[:, 0] == MISSING) == frame["c"].is_null().to_numpy()).all()
        for j, name in enumerate(("x", "few")):
            missing = frame[name].is_null().to_numpy()
            assert (np.isnan(numbers.value[:, j]) == missing).all()
            assert (np.isnan(numbers.rank[:, j]) == missing).all()
            present = numbers.rank[~missing, j]
            assert ((present >= 0) & (present <= 1)).all()
        assert (np.abs(numbers.value[~np.isnan(numbers.value)]) <= 10).all()
    assert (encoding.numbers(stored).code != UNSEEN).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(frame=frames(), data=st.data())
def test_the_order_of_the_stored_rows_is_forgotten(frame: pl.DataFrame, data: st.DataObject) -> None:
    shuffled = frame[data.draw(st.permutations(range(frame.height)))]
    one, other = fitted(frame), fitted(shuffled)
    assert np.array_equal(one.dense(one.numbers(frame)), other.dense(other.numbers(frame)))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_larger_numbers_never_rank_lower(values: list[float]) -> None:
    encoding = fitted(number(values))
    numbers = encoding.numbers(number(sorted(values)))
    assert (np.diff(numbers.rank[:, 0]) >= 0).all()
    assert (np.diff(numbers.value[:, 0]) >= -1e-12).all()


def test_a_flag_exists_where_stored_rows_miss_values_and_only_there() -> None:
    whole, holed = fitted(number([1.0, 2.0])), fitted(number([1.0, None]))
    assert [n for n, _ in whole.outputs] == ["x", "x: rank"]
    assert [n for n, _ in holed.outputs] == ["x", "x: rank", "x: missing"]
    assert whole.dense(whole.numbers(number([None]))).tolist() == [[0, 0]]
    assert holed.dense(holed.numbers(number([None, 1.0])))[:, 2].tolist() == [1, 0]


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
    encoding = TableEncoder.fit(schema, frame)
    assert [source for _, source in encoding.outputs] == ["y", "y", "sofa", "sofa", "x", "x"]
    assert encoding.dense(encoding.numbers(frame[["x", "sofa", "y"]])).shape == (
        2,
        6,
    )  # a batch in another order, without the rest


def test_no_features_give_no_columns() -> None:
    encoding = TableEncoder.fit(Schema((Column("id", role="id"),)), pl.DataFrame({"id": [1.0, 2.0]}))
    assert encoding.dense(encoding.numbers(pl.DataFrame({"id": [1.0, 2.0]}))).shape == (2, 0)


def test_rank_columns_have_unit_variance_where_values_are_spread_evenly() -> None:
    frame = number([float(i) for i in range(500)])
    encoding = fitted(frame)
    assert encoding.dense(encoding.numbers(frame))[:, 1].std() == pytest.approx(1, abs=1e-3)


def test_a_column_is_fitted_alone() -> None:
    assert NumberColumn.fit(pl.Series("x", [1.0, None])).misses
    assert not NumberColumn.fit(pl.Series("x", [1.0])).misses
