"""Tokens: dtypes, grids, dates, frequent values and missing values come back; no rare value is published, and no outcome is deleted."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.synth.tokenizer.column_tokenizers import MIN_PATIENTS, RARE, CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer, warn_of_identifiers, warn_of_text
from nearward.tabular.errors import DataWarning, InputError

N = 600


def wide(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    missing = pl.Series(rng.random(N) < 0.2)
    return pl.DataFrame(
        {
            "whole": pl.Series(rng.integers(-40, 4000, N), dtype=pl.Int32),
            "small": pl.Series(rng.integers(0, 9, N), dtype=pl.UInt8),
            "tenths": rng.normal(37, 1, N).round(1),
            "fives": pl.Series(5 * rng.integers(10, 40, N), dtype=pl.Int64),
            "free": rng.normal(0, 1, N),
            "single": pl.Series(rng.gamma(2, 1, N), dtype=pl.Float32),
            "money": [Decimal(int(x)) / 100 for x in rng.integers(100, 99_999, N)],
            "day": [date.fromordinal(int(x)) for x in rng.integers(730_000, 738_000, N)],
            "hour": [datetime(2020, 1, 1 + int(x) // 24 % 28, int(x) % 24) for x in rng.integers(0, 5000, N)],
            "text": rng.choice(["a", "b", "c d", "RARE?"], N).tolist(),
            "enum": pl.Series(rng.choice(["low", "high"], N), dtype=pl.Enum(["low", "mid", "high"])),
            "flag": rng.random(N) < 0.3,
            "empty": pl.Series([None] * N, dtype=pl.Float64),
            "zeros": np.where(rng.random(N) < 0.4, 0.0, rng.gamma(2, 10, N).round(2)),
        }
    ).with_columns(pl.when(~missing).then(pl.col("tenths", "text", "day", "flag", "small")))


def test_dtypes_columns_and_missing_values_come_back() -> None:
    frame = wide()
    tokenizer = TableTokenizer.fit(frame)
    back = tokenizer.decode(tokenizer.encode(frame), np.random.default_rng(1).random((N, frame.width)), frame.schema)
    assert back.schema == frame.schema | {"enum": pl.Enum(["low", "high"])}
    assert back.null_count().equals(frame.null_count())
    for name in ("small", "text", "enum", "flag"):  # bins of one value come back unchanged
        assert back[name].cast(frame.schema[name]).equals(frame[name]), name


def test_values_stay_on_their_grid_and_near_their_original() -> None:
    frame = wide()
    tokenizer = TableTokenizer.fit(frame)
    back = tokenizer.decode(tokenizer.encode(frame), np.random.default_rng(2).random((N, frame.width)), frame.schema)
    assert (back["fives"] % 5 == 0).all()
    assert back["tenths"].drop_nulls().equals(back["tenths"].drop_nulls().round(1))
    assert (back["hour"].dt.minute() == 0).all()
    assert 0.35 < (back["zeros"] == 0).mean() < 0.45
    for name in ("whole", "tenths", "free", "zeros"):
        assert np.corrcoef(frame[name].fill_null(37), back[name].fill_null(37))[0, 1] > 0.98, name


def test_encoding_a_decoded_table_gives_the_same_tokens() -> None:
    frame = wide()
    tokenizer = TableTokenizer.fit(frame)
    tokens = tokenizer.encode(frame)
    back = tokenizer.decode(tokens, np.random.default_rng(3).random(tokens.shape), frame.schema)
    again = tokenizer.encode(back)
    assert (again == tokens).mean() > 0.999  # a value on the border of two bins may change sides


def test_values_of_fewer_than_five_rows_are_not_published() -> None:
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(50, 5, 995).round(2), [65_526.0, 9999.0, -900.0, 500.0]])
    tokenizer = NumberTokenizer.fit(pl.Series("age", values))
    assert tokenizer.high[-1] == np.sort(values)[-MIN_PATIENTS]
    assert tokenizer.low[1] == np.sort(values)[MIN_PATIENTS - 1]
    assert tokenizer.encode(pl.Series("age", [65_526.0]))[0] == tokenizer.size - 1
    places = CategoryTokenizer.fit(pl.Series("place", ["a"] * 50 + ["b"] * 5 + ["c"] * 4 + ["d"]))
    assert places.categories == ("a", "b")
    assert places.n_rare == 5
    decoded = places.to_series(places.encode(pl.Series("place", ["a", "c", "d", None])), pl.String())
    assert decoded.to_list() == ["a", RARE, RARE, None]
    kind = pl.Enum(["a", "b", "c"])
    assert places.to_series(np.array([1, 3]), kind).to_list() == ["a", None]


def test_many_visits_of_one_patient_do_not_publish_his_values() -> None:
    """A rare height and a rare trade in each of twelve visits: five rows, and one patient."""
    rng = np.random.default_rng(0)
    patient_ids = np.concatenate([np.arange(400), np.full(12, 400)])
    height = pl.Series("height", [*rng.normal(170, 8, 400).round(1), *[211.3] * 12])
    trade = pl.Series("trade", [*rng.choice(["clerk", "cook"], 400), *["bishop"] * 12])
    by_row = NumberTokenizer.fit(height), CategoryTokenizer.fit(trade)
    assert by_row[0].high.max() == 211.3 or "bishop" in by_row[1].categories  # published where rows are counted
    number, category = NumberTokenizer.fit(height, patient_ids=patient_ids), CategoryTokenizer.fit(trade, patient_ids=patient_ids)
    assert number.high[-1] < 200
    assert category.categories in (("clerk", "cook"), ("cook", "clerk"))
    assert not {211.3} & set(number.bin_quantiles.ravel())


@pytest.mark.parametrize("n_present", [0, 1, 4, 5, 9])
def test_a_column_with_fewer_than_ten_values_is_encoded_as_missing(n_present) -> None:
    values = [*np.random.default_rng(n_present).normal(100, 20, n_present), *[None] * (300 - n_present)]
    tokenizer = NumberTokenizer.fit(pl.Series("rare", values, dtype=pl.Float64))
    assert tokenizer.size == 1
    assert np.isnan(tokenizer.values(tokenizer.encode(pl.Series(values, dtype=pl.Float64)), np.zeros(300))).all()
    assert NumberTokenizer.fit(pl.Series("rare", np.arange(10.0).tolist())).bin_quantiles.min() == 4  # of ten, the fifth from either end


def test_an_enum_loses_unpublished_categories() -> None:
    kind = pl.Enum(["porphyria", "cold", "flu"])
    series = pl.Series("why", ["porphyria"] + ["cold", "flu"] * 50, dtype=kind)
    tokenizer = CategoryTokenizer.fit(series)
    assert tokenizer.to_series(tokenizer.encode(series), kind).dtype == pl.Enum(["cold", "flu"])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_midnights_stay_midnights_whatever_the_unit(unit) -> None:
    days = pl.Series("day", [datetime(2019, 1, 1 + int(x) % 28) for x in range(600)]).cast(pl.Datetime(unit))
    tokenizer = NumberTokenizer.fit(days)
    back = tokenizer.to_series(tokenizer.values(tokenizer.encode(days), np.random.default_rng(0).random(600)), days.dtype)
    assert back.dtype == days.dtype
    assert back.equals(days)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.String, pl.Boolean])
def test_the_rare_outcome_is_never_deleted(dtype) -> None:
    """Three rows with the outcome: protection of rare values would delete them, and with them the purpose of the table."""
    died = pl.Series("died", [0] * 500 + [1] * 3)
    frame = pl.DataFrame({"died": died.cast(pl.Boolean) if dtype == pl.Boolean else died.cast(dtype), "age": np.arange(503) % 60})
    tokenizer = TableTokenizer.fit(frame, outcome="died")
    back = tokenizer.decode(tokenizer.encode(frame), np.zeros((503, 2)), frame.schema)
    assert back["died"].value_counts(sort=True).equals(frame["died"].value_counts(sort=True))
    unprotected = TableTokenizer.fit(frame)
    lost = unprotected.decode(unprotected.encode(frame), np.zeros((503, 2)), frame.schema)["died"]
    assert not lost.equals(frame["died"])  # deleted without protection


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_any_numbers_can_be_encoded_and_decoded_within_their_range(values, seed) -> None:
    series = pl.Series("x", values, dtype=pl.Float64)
    tokenizer = NumberTokenizer.fit(series)
    tokens = tokenizer.encode(series)
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.size
    back = tokenizer.values(tokens, np.random.default_rng(seed).random(len(values)))
    present = series.drop_nulls().to_numpy()
    assert (np.isnan(back) == (series.is_null().to_numpy() | (len(present) < 2 * MIN_PATIENTS))).all()
    if len(present) >= 2 * MIN_PATIENTS:
        assert np.nanmin(back) >= present.min()
        assert np.nanmax(back) <= present.max()


@pytest.mark.parametrize(("dtype", "ends"), [(pl.Int8, [-128, 127]), (pl.UInt16, [0, 65_535]), (pl.Int64, [-300, 70_000])])
def test_numbers_beyond_an_integers_limits_are_clipped(dtype, ends) -> None:
    """As values from noisy ranges are: these end at powers of two."""
    own = NumberTokenizer("x", np.zeros((0, 9)), None)
    assert own.to_series(np.array([-300.0, 70_000.0]), dtype()).to_list() == ends


def test_numbers_that_identify_patients_are_an_error() -> None:
    with pytest.raises(InputError, match="drop the column"):
        NumberTokenizer.fit(pl.Series("id", [2**60 + i for i in range(30)]))


def test_identifiers_are_warned_of() -> None:
    frame = pl.DataFrame({"id": list(range(30)), "name": [f"n{i}" for i in range(30)], "x": np.arange(30) / 7, "age": [50, 51] * 15})
    with pytest.warns(DataWarning) as warned:
        warn_of_identifiers(frame)
    assert [str(one.message).split("'")[1] for one in warned] == ["id", "name"]


def test_text_of_numbers_and_dates_is_warned_of() -> None:
    frame = pl.DataFrame(
        {"ferritin": ["<0.6", *map(str, range(19))], "seen": ["2020-02-29"] * 20, "sex": ["f", "m"] * 10, "age": range(20)}
    )
    with pytest.warns(DataWarning) as caught:
        warn_of_text(frame)
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        "column 'ferritin' is text, but 19 of its 20 values read as numbers (besides",
        "column 'seen' is text of dates or times",
    ]
