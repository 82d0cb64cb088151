"""Tokens: types, grids, dates, spikes and holes come back; no value that few have is published, and no outcome is deleted."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.synth.tokenizer.column_tokenizers import FEWEST, RARE, CategoryTokenizer, Grid, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer, warn_of_names
from nearward.tabular.errors import DataWarning, InputError

N = 600


def wide(seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    holes = pl.Series(draw.random(N) < 0.2)
    return pl.DataFrame(
        {
            "whole": pl.Series(draw.integers(-40, 4000, N), dtype=pl.Int32),
            "small": pl.Series(draw.integers(0, 9, N), dtype=pl.UInt8),
            "tenths": draw.normal(37, 1, N).round(1),
            "fives": pl.Series(5 * draw.integers(10, 40, N), dtype=pl.Int64),
            "free": draw.normal(0, 1, N),
            "single": pl.Series(draw.gamma(2, 1, N), dtype=pl.Float32),
            "money": [Decimal(int(x)) / 100 for x in draw.integers(100, 99_999, N)],
            "day": [date.fromordinal(int(x)) for x in draw.integers(730_000, 738_000, N)],
            "hour": [datetime(2020, 1, 1 + int(x) // 24 % 28, int(x) % 24) for x in draw.integers(0, 5000, N)],
            "text": draw.choice(["a", "b", "c d", "RARE?"], N).tolist(),
            "enum": pl.Series(draw.choice(["low", "high"], N), dtype=pl.Enum(["low", "mid", "high"])),
            "flag": draw.random(N) < 0.3,
            "empty": pl.Series([None] * N, dtype=pl.Float64),
            "zeros": np.where(draw.random(N) < 0.4, 0.0, draw.gamma(2, 10, N).round(2)),
        }
    ).with_columns(pl.when(~holes).then(pl.col("tenths", "text", "day", "flag", "small")))


def test_dtypes_columns_and_holes_come_back() -> None:
    frame = wide()
    tokens = TableTokenizer.fit(frame)
    back = tokens.decode(tokens.encode(frame), np.random.default_rng(1).random((N, frame.width)), frame.schema)
    assert back.schema == frame.schema | {"enum": pl.Enum(["low", "high"])}
    assert back.null_count().equals(frame.null_count())
    for name in ("small", "text", "enum", "flag"):  # cells of one value come back as they were
        assert back[name].cast(frame.schema[name]).equals(frame[name]), name


def test_values_stay_on_their_grid_and_near_where_they_were() -> None:
    frame = wide()
    tokens = TableTokenizer.fit(frame)
    back = tokens.decode(tokens.encode(frame), np.random.default_rng(2).random((N, frame.width)), frame.schema)
    assert (back["fives"] % 5 == 0).all()
    assert back["tenths"].drop_nulls().equals(back["tenths"].drop_nulls().round(1))
    assert (back["hour"].dt.minute() == 0).all()
    assert 0.35 < (back["zeros"] == 0).mean() < 0.45
    for name in ("whole", "tenths", "free", "zeros"):
        assert np.corrcoef(frame[name].fill_null(37), back[name].fill_null(37))[0, 1] > 0.98, name


def test_tokens_of_what_they_write_are_the_same_tokens() -> None:
    frame = wide()
    tokens = TableTokenizer.fit(frame)
    coded = tokens.encode(frame)
    back = tokens.decode(coded, np.random.default_rng(3).random(coded.shape), frame.schema)
    again = tokens.encode(back)
    assert (again == coded).mean() > 0.999  # a value on two cells' border may change sides


def test_what_fewer_than_five_rows_have_is_not_published() -> None:
    draw = np.random.default_rng(4)
    values = np.concatenate([draw.normal(50, 5, 995).round(2), [65_526.0, 9999.0, -900.0, 500.0]])
    own = NumberTokenizer.fit(pl.Series("age", values))
    assert own.high[-1] == np.sort(values)[-FEWEST]
    assert own.low[1] == np.sort(values)[FEWEST - 1]
    assert own.encode(pl.Series("age", [65_526.0]))[0] == own.size - 1
    levels = CategoryTokenizer.fit(pl.Series("place", ["a"] * 50 + ["b"] * 5 + ["c"] * 4 + ["d"]))
    assert levels.levels == ("a", "b")
    assert levels.rare == 5
    written = levels.write(levels.encode(pl.Series("place", ["a", "c", "d", None])), pl.String())
    assert written.to_list() == ["a", RARE, RARE, None]
    kind = pl.Enum(["a", "b", "c"])
    assert levels.write(np.array([1, 3]), kind).to_list() == ["a", None]


def test_one_patients_visits_do_not_publish_him() -> None:
    """A rare height and a rare trade in each of twelve visits: five rows, and one patient."""
    draw = np.random.default_rng(0)
    patient = np.concatenate([np.arange(400), np.full(12, 400)])
    height = pl.Series("height", [*draw.normal(170, 8, 400).round(1), *[211.3] * 12])
    trade = pl.Series("trade", [*draw.choice(["clerk", "cook"], 400), *["bishop"] * 12])
    rows = NumberTokenizer.fit(height), CategoryTokenizer.fit(trade)
    assert rows[0].high.max() == 211.3 or "bishop" in rows[1].levels  # where rows are counted he is published
    number, level = NumberTokenizer.fit(height, patient=patient), CategoryTokenizer.fit(trade, patient=patient)
    assert number.high[-1] < 200
    assert level.levels in (("clerk", "cook"), ("cook", "clerk"))
    assert not {211.3} & set(number.points.ravel())


@pytest.mark.parametrize("there", [0, 1, 4, 5, 9])
def test_a_column_that_fewer_than_ten_have_is_written_as_missing(there) -> None:
    values = [*np.random.default_rng(there).normal(100, 20, there), *[None] * (300 - there)]
    own = NumberTokenizer.fit(pl.Series("rare", values, dtype=pl.Float64))
    assert own.size == 1
    assert np.isnan(own.values(own.encode(pl.Series(values, dtype=pl.Float64)), np.zeros(300))).all()
    assert NumberTokenizer.fit(pl.Series("rare", np.arange(10.0).tolist())).points.min() == 4  # of ten, the fifth from either end


def test_an_enum_leaves_unpublished_categories_behind() -> None:
    kind = pl.Enum(["porphyria", "cold", "flu"])
    series = pl.Series("why", ["porphyria"] + ["cold", "flu"] * 50, dtype=kind)
    own = CategoryTokenizer.fit(series)
    assert own.write(own.encode(series), kind).dtype == pl.Enum(["cold", "flu"])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_midnights_stay_midnights_whatever_the_unit(unit) -> None:
    days = pl.Series("day", [datetime(2019, 1, 1 + int(x) % 28) for x in range(600)]).cast(pl.Datetime(unit))
    own = NumberTokenizer.fit(days)
    back = own.write(own.values(own.encode(days), np.random.default_rng(0).random(600)), days.dtype)
    assert back.dtype == days.dtype
    assert back.equals(days)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.String, pl.Boolean])
def test_the_rare_outcome_is_never_deleted(dtype) -> None:
    """Three rows with the outcome: protection of rare levels would delete them, and the whole table's purpose."""
    died = pl.Series("died", [0] * 500 + [1] * 3)
    frame = pl.DataFrame({"died": died.cast(pl.Boolean) if dtype == pl.Boolean else died.cast(dtype), "age": np.arange(503) % 60})
    tokens = TableTokenizer.fit(frame, protect="died")
    back = tokens.decode(tokens.encode(frame), np.zeros((503, 2)), frame.schema)
    assert back["died"].value_counts(sort=True).equals(frame["died"].value_counts(sort=True))
    plain = TableTokenizer.fit(frame)
    lost = plain.decode(plain.encode(frame), np.zeros((503, 2)), frame.schema)["died"]
    assert not lost.equals(frame["died"])  # without protection it is


@given(
    st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=120),
    st.integers(0, 3),
    st.integers(1, 7),
)
@settings(max_examples=60, deadline=None)
def test_a_grid_holds_its_values(whole, decimals, step) -> None:
    values = np.round(np.array([3 + step * w for w in whole]) / 10**decimals, decimals)
    grid = Grid.fit(values)
    assert grid is not None
    assert grid.snap(values).tolist() == values.tolist()
    assert (grid.down(values) == values).all()
    assert (grid.up(values) == values).all()


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_numbers_can_be_cut_and_drawn_within_their_range(values, seed) -> None:
    series = pl.Series("x", values, dtype=pl.Float64)
    own = NumberTokenizer.fit(series)
    coded = own.encode(series)
    assert coded.min() >= 0
    assert coded.max() < own.size
    back = own.values(coded, np.random.default_rng(seed).random(len(values)))
    there = series.drop_nulls().to_numpy()
    assert (np.isnan(back) == (series.is_null().to_numpy() | (len(there) < 2 * FEWEST))).all()
    if len(there) >= 2 * FEWEST:
        assert np.nanmin(back) >= there.min()
        assert np.nanmax(back) <= there.max()


def test_numbers_that_name_patients_are_refused() -> None:
    with pytest.raises(InputError, match="drop the column"):
        NumberTokenizer.fit(pl.Series("id", [2**60 + i for i in range(30)]))


def test_columns_that_name_rows_are_warned_of() -> None:
    frame = pl.DataFrame({"id": list(range(30)), "name": [f"n{i}" for i in range(30)], "x": np.arange(30) / 7, "age": [50, 51] * 15})
    with pytest.warns(DataWarning) as told:
        warn_of_names(frame)
    assert [str(one.message).split("'")[1] for one in told] == ["id", "name"]
