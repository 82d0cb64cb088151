"""Breaches of rules told by tokens alone: each family's are found, and no row that keeps a rule is accused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.violations import violation_checks
from nearward.synth.optimization.discriminator_levels import CLIP, FeatureLevel, SentenceLevel, Shape
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.rules import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rule, Rules


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """Columns that hang together in nothing, holes in two of them."""
    draw = np.random.default_rng(3)
    n = 600
    whole = {name: draw.integers(0, 6, n) for name in ("x", "y")}
    return pl.DataFrame(
        {
            **whole,
            "z": draw.integers(0, 12, n),
            "dbp": draw.normal(75, 10, n).round(1),
            "sbp": draw.normal(85, 10, n).round(1),
            "ward": draw.choice(["ICU", "medical"], n),
            "unit": draw.choice(["A", "B", "C"], n),
        }
    ).with_columns(pl.when(pl.Series(draw.random(n) > 0.3)).then(pl.col(name)).alias(name) for name in ("dbp", "sbp"))


FAMILIES: list[Rule] = [
    Range("x", 2, 4),
    Domain("unit", ("A", "B")),
    MissingTogether(("dbp", "sbp")),
    Order("dbp", "sbp"),
    Order("x", "y"),
    Depends("ward", "unit", (("A", "ICU"),)),
    Implies("ward", "ICU", "unit", "A"),
    Implies("ward", "ICU", "unit", "A", never=True),
    Linear("z", (("x", 1.0), ("y", 1.0))),
]


@pytest.mark.parametrize("rule", FAMILIES, ids=str)
def test_what_is_told_broken_is_broken_and_where_cells_are_single_values_all_of_it_is(frame, rule) -> None:
    tokens = TableTokenizer.fit(frame)
    (found, *more) = violation_checks(Rules((rule,)), tokens)
    told = found.violated(tokens.encode(frame))
    for other in more:
        told = told | other.violated(tokens.encode(frame))
    speaks, breaks = rule.judged(frame)
    assert not (told & ~(speaks & breaks)).any()  # no false alarm
    share = told.sum() / (speaks & breaks).sum()
    assert share > 0.8 if rule == Order("dbp", "sbp") else share == 1.0  # cells that overlap are given the benefit of the doubt


def test_rules_about_other_columns_forbid_nothing(frame) -> None:
    assert violation_checks(Rules((Range("age", 0, 1), Order("dbp", "age"))), TableTokenizer.fit(frame)) == ()


def test_a_broken_rule_costs_the_clip_where_it_is_written_last(frame) -> None:
    tokens = TableTokenizer.fit(frame)
    coded, place = tokens.encode(frame), tokens.column_index
    rows = [np.bincount(coded[:, j], minlength=size) for j, size in enumerate(tokens.sizes)]
    order = list(range(coded.shape[1]))[::-1]
    rules = Rules((Implies("ward", "ICU", "unit", "A"), Range("x", 2, 4)))
    shape = Shape.of(rows, order, (), violation_checks(rules, tokens))
    scores = FeatureLevel(()).scores(shape, coded, shape.coarse(coded))
    broken = rules.violations(frame)
    assert (scores[:, place["ward"]] == -CLIP * broken[:, 0]).all()  # unit is written before ward
    assert not np.delete(scores, place["ward"], axis=1).any()
    alike = SentenceLevel.fit(shape, shape.coarse(coded), shape.coarse(coded)).scores(shape, coded, shape.coarse(coded))
    assert (alike[:, place["x"]] == -CLIP * broken[:, 1]).all()
