"""Violations found by tokens alone: those of each kind of rule are found, and no row that satisfies its rule is among them."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.violations import violation_checks
from nearward.synth.optimization.granularities import CLIP, FeatureDiscriminator, SentenceDiscriminator, TableShape
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.kinds import Depends, Domain, Implies, Linear, MissingTogether, MissingWhere, Order, Range, RangeWhere
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """Independent columns, two of them with missing values."""
    rng = np.random.default_rng(3)
    n = 600
    whole = {name: rng.integers(0, 6, n) for name in ("x", "y")}
    return pl.DataFrame(
        {
            **whole,
            "z": rng.integers(0, 12, n),
            "dbp": rng.normal(75, 10, n).round(1),
            "sbp": rng.normal(85, 10, n).round(1),
            "ward": rng.choice(["ICU", "medical"], n),
            "unit": rng.choice(["A", "B", "C"], n),
            "admitted": [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 8, n)],
            "discharged": [datetime(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 8, n)],
        }
    ).with_columns(pl.when(pl.Series(rng.random(n) > 0.3)).then(pl.col(name)).alias(name) for name in ("dbp", "sbp"))


KINDS: list[Rule] = [
    Range("x", 2, 4),
    Domain("unit", ("A", "B")),
    MissingTogether(("dbp", "sbp")),
    Order("dbp", "sbp"),
    Order("x", "y"),
    Depends("ward", "unit", (("A", "ICU"),)),
    Implies("ward", "ICU", "unit", "A"),
    Implies("ward", "ICU", "unit", "A", never=True),
    Linear("z", (("x", 1.0), ("y", 1.0))),
    RangeWhere("ward", "ICU", "x", 2, 4),
    MissingWhere("ward", "ICU", "dbp"),
    MissingWhere("ward", "ICU", "dbp", never=True),
    Order("admitted", "discharged"),
]


@pytest.mark.parametrize("rule", KINDS, ids=str)
def test_checks_find_true_violations_only_and_all_where_bins_are_single_values(frame, rule) -> None:
    tokenizer = TableTokenizer.fit(frame)
    checks = violation_checks(Rules((rule,)), tokenizer)
    violated = np.any([check.violated(tokenizer.encode(frame)) for check in checks], axis=0)
    applies, violates = rule.check(frame)
    assert not (violated & ~(applies & violates)).any()  # no false alarm
    share = violated.sum() / (applies & violates).sum()
    assert share > 0.8 if rule == Order("dbp", "sbp") else share == 1.0  # overlapping bins may satisfy the order


def test_rules_about_other_columns_forbid_nothing(frame) -> None:
    assert violation_checks(Rules((Range("age", 0, 1), Order("dbp", "age"))), TableTokenizer.fit(frame)) == ()


def test_a_violation_scores_minus_the_clip_at_its_last_generated_column(frame) -> None:
    tokenizer = TableTokenizer.fit(frame)
    tokens, index = tokenizer.encode(frame), tokenizer.column_index
    counts = [np.bincount(tokens[:, j], minlength=size) for j, size in enumerate(tokenizer.sizes)]
    order = list(range(tokens.shape[1]))[::-1]
    rules = Rules((Implies("ward", "ICU", "unit", "A"), Range("x", 2, 4)))
    shape = TableShape.of(counts, order, (), violation_checks(rules, tokenizer))
    scores = FeatureDiscriminator(()).scores(shape, tokens, shape.coarse(tokens))
    violated = rules.violations(frame)
    assert (scores[:, index["ward"]] == -CLIP * violated[:, 0]).all()  # unit is generated before ward
    assert not np.delete(scores, index["ward"], axis=1).any()
    scores = SentenceDiscriminator.fit(shape, shape.coarse(tokens), shape.coarse(tokens)).scores(shape, tokens, shape.coarse(tokens))
    assert (scores[:, index["x"]] == -CLIP * violated[:, 1]).all()
