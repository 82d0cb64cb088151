"""Conditions: dates as text, missing values, durations in days; nonsense is an error that shows no patient's value."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.synth.inputs.conditions import validate_conditions
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.rules.kinds import Order
from nearward.tabular.rules.rules import Rules


@pytest.fixture(scope="module")
def train() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    day = rng.integers(0, 300, 400)
    return pl.DataFrame(
        {
            "admitted": [date(2024, 1, 1) + timedelta(days=int(d)) for d in day],
            "left": [datetime(2024, 1, 2, 8) + timedelta(days=int(d + s)) for d, s in zip(day, rng.integers(0, 9, 400), strict=True)],
            "stay": [timedelta(hours=int(h)) for h in rng.integers(12, 240, 400)],
            "lactate": [None if x < 0.5 else round(x, 2) for x in rng.gamma(2, 1, 400)],
        }
    )


def conditions(train: pl.DataFrame, **where: object) -> list[object]:
    tokenizer = TableTokenizer.fit(train).with_differences(train, Rules((Order("admitted", "left"),)))
    return [value[0] for value in validate_conditions(where, tokenizer, train.schema, train).values]


def test_dates_are_conditions_as_text_too(train) -> None:
    assert conditions(train, admitted="2024-05-01") == conditions(train, admitted=date(2024, 5, 1)) == [date(2024, 5, 1)]
    assert conditions(train, left="2024-05-01T12:30") == [datetime(2024, 5, 1, 12, 30)]
    assert conditions(train, left="2024-05-01") == [datetime(2024, 5, 1)]
    zoned = train.with_columns(pl.col("left").dt.replace_time_zone("Europe/Berlin"))
    assert conditions(zoned, left="2024-05-01T12:30")[0].isoformat() == "2024-05-01T12:30:00+02:00"


def test_durations_are_conditions_in_days(train) -> None:
    assert conditions(train, stay="2.5") == conditions(train, stay=timedelta(hours=60)) == [timedelta(hours=60)]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_is_a_condition(train, missing) -> None:
    assert conditions(train, lactate=missing) == [None]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"admitted": "May"}, "has dtype Date: write 2024-05-01"),
        ({"admitted": "2024-05-01T08:00"}, "dates without a time of day"),
        ({"admitted": "1999-01-01"}, r"out of range; training values are 2024-\d\d-\d\d to 2024-\d\d-\d\d"),
        ({"left": 5}, "got a value of type int|out of range"),
        ({"stay": "long"}, "got a value of type str"),
    ],
)
def test_nonsense_is_an_error(train, where, message) -> None:
    with pytest.raises(InputError, match=message):
        conditions(train, **where)


def test_a_difference_is_no_column_of_the_table(train) -> None:
    with pytest.raises(MissingColumns):
        conditions(train, **{"left − admitted": 5})
