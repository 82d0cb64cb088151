"""Checks of rules: every kind of contradiction is found and names its rules; consistent rules pass; unknown columns are errors."""

from __future__ import annotations

import pytest

from nearward.synth.constraints.consistency import check_consistent, check_known_columns
from nearward.tabular.errors import RuleError
from nearward.tabular.rules.kinds import Depends, Domain, Implies, Linear, MissingWhere, Order, Range, RangeWhere
from nearward.tabular.rules.rules import Rules


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ([Range("age", 50, 60), Range("age", 70, 80)], ["age is from 50 to 60", "age is from 70 to 80"]),
        ([Range("age", 60, 50)], ["age is from 60 to 50"]),
        ([Domain("ward", ("a", "b")), Domain("ward", ("c", "d"))], ["ward is one of"]),
        (
            [Range("a", 10, 20), Order("a", "b"), Order("b", "c"), Range("c", 0, 5)],
            ["a is at most b", "b is at most c", "c is from 0 to 5"],
        ),
        ([Implies("w", "ICU", "u", "A"), Implies("w", "ICU", "u", "B")], ["u is A", "u is B"]),
        ([Implies("w", "ICU", "u", "A"), Implies("w", "ICU", "u", "A", never=True)], ["never"]),
        ([Depends("u", "w", (("ICU", "A"),)), Implies("w", "ICU", "u", "B")], ["follows from", "u is B"]),
        ([Implies("w", "ICU", "u", "A"), Domain("u", ("B", "C"))], ["u is one of"]),
        ([RangeWhere("w", "ICU", "age", 60, 50)], ["where w is ICU, age is from 60 to 50"]),
        ([RangeWhere("w", "ICU", "age", 50, 60), RangeWhere("w", "ICU", "age", 70, 80)], ["from 50 to 60", "from 70 to 80"]),
        ([MissingWhere("w", "ICU", "u"), MissingWhere("w", "ICU", "u", never=True)], ["u is missing", "u is never missing"]),
        ([Linear("z", (("x", 1.0), ("y", 1.0))), Range("x", 0, 5), Range("y", 0, 5), Range("z", 20, 30)], ["z = x + y", "20"]),
    ],
)
def test_contradictions_are_named(rules, named) -> None:
    with pytest.raises(RuleError) as error:
        check_consistent(Rules(tuple(rules)))
    assert all(words in str(error.value) for words in named)


def test_consistent_rules_are_accepted() -> None:
    check_consistent(
        Rules(
            (
                Range("a", 0, 10),
                Range("b", 5, 20),
                Order("a", "b"),
                Order("b", "a"),
                Domain("w", ("x", "y")),
                Implies("w", "x", "u", "A"),
                Implies("w", "y", "u", "B"),
                Implies("w", "x", "u", "C", never=True),
                RangeWhere("w", "x", "a", 1, 3),
                RangeWhere("w", "x", "a", 2, 9),
                RangeWhere("w", "y", "a", 5, 9),
                MissingWhere("w", "x", "d"),
                MissingWhere("w", "y", "d", never=True),
                Linear("c", (("a", 1.0), ("b", 1.0))),
                Range("c", 0, 25),
            )
        )
    )


def test_unknown_columns_are_an_error_with_a_suggestion() -> None:
    rules = Rules((Range("aeg", 0, 120), Order("dbp", "sbp")))
    with pytest.raises(RuleError, match=r"\['aeg'\].*'age'"):
        check_known_columns(rules, ["age", "dbp", "sbp"])
    check_known_columns(rules, ["aeg", "dbp", "sbp"])
