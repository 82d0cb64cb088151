"""Differences of dates: which are learned, from which date each is computed, and that stays come out as they were."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from nearward.synth.tokenizer.date_differences import Difference, find_differences, learned_lower_bounds
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.kinds import Linear, Order
from nearward.tabular.rules.rules import Rules


@pytest.fixture(scope="module")
def stays() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    start, n = date(2022, 1, 1), 600
    admitted, stay, died = rng.integers(0, 700, n), rng.integers(1, 20, n), rng.random(n) < 0.3
    return pl.DataFrame(
        {
            "born": [start - timedelta(days=int(days)) for days in rng.integers(7000, 33_000, n)],
            "admitted": [start + timedelta(days=int(day)) for day in admitted],
            "discharged": [datetime(2022, 1, 1) + timedelta(days=int(a + s), hours=11) for a, s in zip(admitted, stay, strict=True)],
            "died_on": [start + timedelta(days=int(a + s + 9)) if x else None for a, s, x in zip(admitted, stay, died, strict=True)],
            "days": stay,
        }
    )


ORDERS = Rules(tuple(Order(*pair) for pair in combinations(["born", "admitted", "discharged", "died_on"], 2)))


def test_each_date_is_computed_from_the_nearest_one(stays) -> None:
    differences = find_differences(stays, ORDERS)
    assert {one.computed for one in differences} == {"born", "discharged", "died_on"}  # the admission varies least and is never missing
    assert Difference("discharged", "admitted", "discharged") in differences
    assert next(one.earlier for one in differences if one.computed == "died_on") == "discharged"
    assert set(learned_lower_bounds(differences, ORDERS).values()) == {0.0}
    assert learned_lower_bounds(differences, Rules()) == {}


def test_dates_of_an_identity_are_left_to_it(stays) -> None:
    identity = Linear("discharged", (("admitted", 1.0), ("days", 1.0)), 11 / 24)
    assert find_differences(stays, Rules((Order("admitted", "discharged"), identity))) == ()
    assert find_differences(stays, Rules((Order("days", "days"),))) == ()


def test_the_column_and_its_identity(stays) -> None:
    difference = Difference("discharged", "admitted", "discharged")
    days = difference.column(stays).dt.total_minutes() / 1440
    assert days.to_list() == pytest.approx((stays["days"] + 11 / 24).to_list())
    joined = stays.with_columns(difference.column(stays))
    for one in (difference, Difference("discharged", "admitted", "admitted")):
        applies, violates = Linear(one.identity.column, one.identity.terms, tolerance=1e-6).check(joined)
        assert applies.all()
        assert not violates.any()


def test_differences_are_encoded_and_not_decoded(stays) -> None:
    tokenizer = TableTokenizer.fit(stays).with_differences(stays, ORDERS)
    tokens = tokenizer.encode(stays)
    assert tokens.shape[1] == stays.width + len(tokenizer.differences) == 8
    decoded = tokenizer.decode(tokens, np.full(tokens.shape, 0.5), stays.schema)
    assert decoded.schema == stays.schema
