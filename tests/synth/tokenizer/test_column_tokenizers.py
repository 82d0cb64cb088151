"""Tokenizers of columns: single precision, codes, the protection word, units of dates."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.synth.tokenizer.column_tokenizers import RARE, CategoryTokenizer, NumberTokenizer, days_per_unit, fit_column


def test_single_precision_keeps_its_decimals() -> None:
    weights = pl.Series("kg", np.random.default_rng(0).normal(80, 15, 500).round(1), dtype=pl.Float32)
    tokenizer = NumberTokenizer.fit(weights)
    assert tokenizer.grid is not None
    assert tokenizer.grid.decimals == 1
    tokens = tokenizer.encode(weights)
    written = tokenizer.to_series(tokenizer.values(tokens, np.full(500, 0.3)), weights.dtype).cast(pl.String)
    assert written.str.len_chars().max() <= len("123.4")


def test_a_value_that_is_the_protection_word_is_not_merged_with_protected_ones() -> None:
    bacteria = pl.Series("bacteria", ["RARE"] * 50 + ["MANY"] * 50 + ["yeast", "crystals"])
    tokenizer = CategoryTokenizer.fit(bacteria)
    written = tokenizer.to_series(tokenizer.encode(bacteria), pl.String())
    assert written[:100].to_list() == bacteria[:100].to_list()
    assert set(written[100:]) == {"RARE (fewer than 5 patients)"}
    few = CategoryTokenizer.fit(pl.Series("bacteria", ["RARE"] * 2 + ["MANY"] * 50))
    assert few.rare != RARE  # also where it is itself protected
    levels = pl.Enum(["RARE", "MANY"])
    assert tokenizer.to_series(np.array([1, 2, 3]), levels).to_list() == ["MANY", "RARE", None]


def test_codes_are_values_that_five_patients_have() -> None:
    rng = np.random.default_rng(0)
    codes = pl.Series("icd", [*rng.choice([1001, 2087, 5990], 400), 777, 778], dtype=pl.Int32)
    tokenizer = fit_column(codes, category=True)
    assert isinstance(tokenizer, CategoryTokenizer)
    written = tokenizer.to_series(tokenizer.encode(codes), codes.dtype)
    assert written.dtype == pl.Int32
    assert set(written.drop_nulls()) == {1001, 2087, 5990}
    assert written[400:].null_count() == 2
    assert isinstance(fit_column(codes), NumberTokenizer)


@pytest.mark.parametrize(
    "dtype", [pl.Date(), pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Duration("ms"), pl.Duration("ns")]
)
def test_units_of_dates_are_days(dtype) -> None:
    kind = timedelta(days=1) if dtype.base_type() == pl.Duration else datetime(1970, 1, 2)
    days = pl.Series("at", [kind] * 20).cast(dtype)
    tokenizer = NumberTokenizer.fit(days)
    assert tokenizer.unit == days_per_unit(dtype)
    assert tokenizer.low[1] * tokenizer.unit == pytest.approx(1)
    assert days_per_unit(pl.Int64()) == 1
