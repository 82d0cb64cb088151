"""Tables of allowed tokens by hand, for each kind of rule that has one."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.token_tables import has_value, is_level, pair_tables
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.kinds import ExactlyOne, MissingWhere, Order, RangeWhere
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules

FRAME = pl.DataFrame({"sex": ["f", "m"] * 30, "n": [1, 2, 3] * 20, "flag": [True, False, None] * 20})
TOKENIZER = TableTokenizer.fit(FRAME)


def table(rule: Rule) -> list[list[bool]]:
    tables = pair_tables(Rules((rule,)), TOKENIZER, np.arange(3), [np.ones(size, dtype=bool) for size in TOKENIZER.sizes])
    a, b = (TOKENIZER.column_index[name] for name in rule.columns)
    assert (tables[a, b] == tables[b, a].T).all()
    return tables[a, b].astype(int).tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RangeWhere("sex", "m", "n", 2, 9), [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]),  # missing f m RARE × missing 1 2 3
        (MissingWhere("sex", "f", "n"), [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]),
        (MissingWhere("sex", "f", "n", never=True), [[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
        (ExactlyOne(("n", "flag")), [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),  # flag: missing false true RARE
    ],
)
def test_pairs_by_hand(rule: Rule, expected: list[list[int]]) -> None:
    assert table(rule) == expected


def test_tokens_of_a_value() -> None:
    assert has_value(TOKENIZER, 1, {"2"}).tolist() == [True, False, True, False]  # missing violates nothing
    assert is_level(TOKENIZER, 0, "m").tolist() == [False, False, True, False]


def test_a_difference_is_present_where_both_dates_are() -> None:
    rng = np.random.default_rng(0)
    first = [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 300, 400)]
    last = [day + timedelta(days=int(stay)) if stay else None for day, stay in zip(first, rng.integers(0, 6, 400), strict=True)]
    frame = pl.DataFrame({"first": first, "last": last})
    rules = Rules((Order("first", "last"),))
    tokenizer = TableTokenizer.fit(frame).with_differences(frame, rules)
    tokens = tokenizer.encode(frame)
    allowed = [np.bincount(tokens[:, j], minlength=size) > 0 for j, size in enumerate(tokenizer.sizes)]
    tables = pair_tables(rules, tokenizer, np.arange(3), allowed)
    difference, computed = tables[2, 1], np.arange(tokenizer.sizes[1]) > 0
    assert (difference[0] == ~computed).all()
    assert (difference[1:] == computed).all()
