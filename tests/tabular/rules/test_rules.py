"""A set of rules: violations of lazy frames, missing columns, and the union of two sets."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.rules.kinds import Order, Range
from nearward.tabular.rules.rule import Evidence
from nearward.tabular.rules.rules import Rules

FRAME = pl.DataFrame({"age": [50, 130, None], "dbp": [80.0, 90.0, 100.0], "sbp": [120.0, 80.0, None], "ward": ["ICU", "ICU", None]})


def test_violations_by_row_and_rule() -> None:
    rules = Rules((Range("age", 0, 120), Order("dbp", "sbp")))
    assert rules.violations(FRAME.lazy()).tolist() == [[False, False], [True, True], [False, False]]


def test_missing_columns_and_text_in_place_of_numbers_are_errors() -> None:
    with pytest.raises(MissingColumns, match="did you mean 'sbp'"):
        Rules((Order("dbp", "sbpp"),)).violations(FRAME)
    with pytest.raises(InputError, match="'ward' must be a number"):
        Rules((Range("ward", 0, 1),)).violations(FRAME)


def test_of_equal_rules_the_users_is_used() -> None:
    mined, user = Range("age", 0, 120, evidence=Evidence("mined")), Range("age", 0, 120)
    (only,) = Rules((mined,)) + Rules((user,))
    assert only.evidence.source == "user"


def test_enforced_rules() -> None:
    shown = Range("age", 0, 120, evidence=Evidence("mined", enforced=False))
    assert list(Rules((shown, Order("dbp", "sbp"))).enforced) == [Order("dbp", "sbp")]
