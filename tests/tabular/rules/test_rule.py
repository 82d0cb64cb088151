"""How rules read columns: dates in days, single precision as written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.tabular.errors import InputError
from nearward.tabular.rules.rule import is_in, is_missing, read_numbers, read_texts


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_dates_times_and_durations_count_in_days_whatever_their_unit(unit) -> None:
    times = pl.Series([datetime(1970, 1, 3, 6), None]).cast(pl.Datetime(unit))
    assert read_numbers(times)[0] == 2.25
    assert np.isnan(read_numbers(times)[1])
    assert read_numbers(pl.Series([timedelta(hours=36)]).cast(pl.Duration(unit))).tolist() == [1.5]
    assert read_numbers(pl.Series([date(1970, 1, 3)])).tolist() == [2.0]
    zoned = pl.Series([datetime(1970, 1, 3, 6, tzinfo=UTC)]).cast(pl.Datetime(unit, "Europe/Berlin"))
    assert read_numbers(zoned).tolist() == [2.25]


def test_a_date_has_the_text_of_its_number() -> None:
    assert read_texts(pl.Series([date(1970, 1, 3), None])).to_list() == ["2", None]


def test_single_precision_is_read_as_it_is_written() -> None:
    weights = pl.Series([70.1, 0.3, None], dtype=pl.Float32)
    assert read_numbers(weights)[:2].tolist() == [70.1, 0.3]
    assert read_texts(weights).to_list() == ["70.1", "0.3", None]


def test_missing_and_membership() -> None:
    assert is_missing(pl.Series([1.0, float("nan"), None])).tolist() == [False, True, True]
    assert is_in(pl.Series(["a", None, "b"]), ["a"]).tolist() == [True, False, False]
    with pytest.raises(InputError, match="must be a number"):
        read_numbers(pl.Series("ward", ["ICU"]))
