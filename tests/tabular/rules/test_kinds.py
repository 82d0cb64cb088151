"""Each kind of rule by hand: the rows that violate it, and the rows it does not apply to."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from nearward.tabular.rules.kinds import (
    Depends,
    Domain,
    ExactlyOne,
    Implies,
    Linear,
    MissingTogether,
    MissingWhere,
    Order,
    Product,
    Range,
    RangeWhere,
)
from nearward.tabular.rules.rule import Rule

FRAME = pl.DataFrame(
    {
        "age": [50, 130, None, 70],
        "dbp": [80.0, 90.0, 100.0, None],
        "sbp": [120.0, 80.0, None, None],
        "ward": ["ICU", "ICU", "medical", None],
        "unit": ["A", "C", "C", "B"],
        "total": [200.0, 170.0, 1.0, None],
    }
)


def violations(rule: Rule, frame: pl.DataFrame) -> list[bool]:
    applies, violates = rule.check(frame)
    return [bool(a and v) for a, v in zip(applies, violates, strict=True)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Range("age", 0, 120), [False, True, False, False]),  # 130 is out of range; a missing age is not
        (Domain("ward", ("ICU", "surgical")), [False, False, True, False]),
        (MissingTogether(("dbp", "sbp")), [False, False, True, False]),  # both missing is together, too
        (Order("dbp", "sbp"), [False, True, False, False]),
        (Depends("ward", "unit", (("A", "ICU"), ("B", "ICU"), ("C", "medical"))), [False, True, False, False]),  # C belongs to medical
        (Implies("ward", "ICU", "unit", "A"), [False, True, False, False]),
        (Implies("ward", "medical", "unit", "C", never=True), [False, False, True, False]),
        (Linear("total", (("dbp", 1.0), ("sbp", 1.0)), tolerance=0.5), [False, False, False, False]),  # others lack a term
    ],
)
def test_each_kind_by_hand(rule: Rule, expected: list[bool]) -> None:
    assert violations(rule, FRAME) == expected


def test_linear_beyond_its_tolerance() -> None:
    rule = Linear("total", (("dbp", 1.0), ("sbp", 1.0)), tolerance=0.5)
    assert violations(rule, FRAME.with_columns(pl.col("total") + 0.6)) == [True, True, False, False]


def test_whole_numbers_and_booleans_are_categories_of_any_dtype() -> None:
    for flags in ([1, 2], [1.0, 2.0], ["1", "2"]):
        assert violations(Domain("flag", ("1",)), pl.DataFrame({"flag": flags})) == [False, True]
    assert violations(Domain("flag", ("true",)), pl.DataFrame({"flag": [True, False]})) == [False, True]


OBSTETRICS = pl.DataFrame(
    {
        "sex": ["f", "f", "m", "m", None],
        "pregnant": [True, True, None, False, True],
        "age": [30, 60, 40, 70, 99],
        "kg": [80.0, 80.0, 0.0, None, 80.0],
        "cm": [200.0, 200.0, 200.0, 200.0, 200.0],
        "bmi": [20.0, 20.2, 1.0, 1.0, 20.05],
        "a": [1, 1, 0, 0, 1],
        "b": [True, False, False, True, None],
        "c": [0, 0, 0, 0, 0],
    }
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            Product("bmi", (("kg", 1.0), ("cm", -2.0)), factor=10_000.0, tolerance=0.1),
            [False, True, False, False, False],
        ),  # no weight, or 0
        (ExactlyOne(("a", "b", "c")), [True, False, True, False, False]),  # two, one, none, one, one unknown
        (ExactlyOne(("a", "c"), value="0"), [False, False, True, True, False]),
        (RangeWhere("pregnant", "true", "age", 12, 50), [False, True, False, False, True]),
        (MissingWhere("sex", "m", "pregnant"), [False, False, False, True, False]),
        (MissingWhere("sex", "m", "pregnant", never=True), [False, False, True, False, False]),
    ],
)
def test_products_flags_and_conditions_by_hand(rule: Rule, expected: list[bool]) -> None:
    assert violations(rule, OBSTETRICS) == expected


def test_dates_are_ordered_bounded_and_subtracted_like_numbers() -> None:
    stays = pl.DataFrame(
        {
            "admitted": [date(2024, 1, 1), date(2024, 1, 5), date(2024, 1, 9)],
            "discharged": [datetime(2024, 1, 3, 12), datetime(2024, 1, 4), None],
            "hours": [60, 24, 5],
        }
    )
    assert violations(Order("admitted", "discharged"), stays) == [False, True, False]
    assert violations(Linear("discharged", (("admitted", 1.0), ("hours", 1 / 24))), stays) == [False, True, False]
    assert violations(Range("admitted", 19_723, 19_727), stays) == [False, False, True]  # 2024-01-01 is day 19,723
