"""Each kind of rule by hand: the rows that violate it, and the rows it does not apply to."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.tabular.rules.kinds import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rule

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
