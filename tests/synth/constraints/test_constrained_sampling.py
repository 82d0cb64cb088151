"""Constrained sampling: each kind of rule holds in every row of a policy that has learned none, without sampling rows again."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.compiled_rules import CompiledRules, sums_after_terms
from nearward.synth.constraints.constrained_sampling import ConstrainedDecoder
from nearward.synth.policy.autoregressive import FREE, Policy
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
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
from nearward.tabular.rules.rules import Rules


def table(n: int, seed: int) -> pl.DataFrame:
    """Independent columns: a policy of their marginal distributions violates every rule."""
    rng = np.random.default_rng(seed)
    missing = rng.random((2, n)) < 0.4
    return pl.DataFrame(
        {
            "event": (rng.random(n) < 0.2).astype(int),
            "a": rng.normal(80, 10, n).round(1),
            "b": rng.normal(85, 20, n).round(),
            "x": rng.integers(0, 50, n),
            "y": rng.integers(0, 50, n),
            "z": rng.integers(0, 100, n),
            "ward": rng.choice(["ICU", "medical", "surgical"], n),
            "unit": rng.choice(["A", "B", "C"], n),
            "lactate": rng.gamma(2, 1, n).round(2),
            "ph": rng.normal(7.4, 0.1, n).round(2),
            **{f"flag{i}": rng.integers(0, 2, n) for i in range(3)},
            "kg": rng.normal(80, 15, n).round(1),
            "cm": rng.normal(170, 10, n).round(),
            "bmi": rng.normal(27, 6, n).round(1),
            "admitted": [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 300, n)],
            "discharged": [datetime(2024, 1, 1) + timedelta(minutes=int(at)) for at in rng.integers(0, 300 * 1440, n)],
        }
    ).with_columns(
        lactate=pl.when(pl.Series(~missing[0])).then(pl.col("lactate")),
        ph=pl.when(pl.Series(~missing[1])).then(pl.col("ph")),
    )


@pytest.fixture(scope="module")
def sample_with():
    """(rules, conditions) -> rows of a policy that has each column's marginal distribution and nothing else."""
    frame = table(1500, 0)
    tokenizer = TableTokenizer.fit(frame, outcome="event")
    tokens = tokenizer.encode(frame)
    counts = [np.bincount(tokens[:, j], minlength=size) for j, size in enumerate(tokenizer.sizes)]

    def sample(rules: tuple[Rule, ...], where: dict[str, int | float] | None = None, order: list[int] | None = None) -> pl.DataFrame:
        order = sums_after_terms(order or list(range(len(counts))), Rules(rules), tokenizer.column_index)
        policy = Policy(tokenizer.sizes, tokenizer.ordinal, order, counts)
        compiled = CompiledRules.compile(Rules(rules), tokenizer, order, counts)
        conditions = np.full((800, len(counts)), FREE)
        numbers = {tokenizer.column_index[name]: float(value) for name, value in (where or {}).items()}
        for j, value in numbers.items():
            conditions[:, j] = tokenizer.column_tokenizers[j].digitize(np.array([value]))[0]
        decoders: list[ConstrainedDecoder] = []

        def make_constraint(first: int) -> ConstrainedDecoder:
            decoders.append(ConstrainedDecoder(compiled, first, numbers))
            return decoders[-1]

        sampled = policy.sample(conditions, 1, make_constraint)
        return tokenizer.to_frame(sampled, np.concatenate([decoder.values for decoder in decoders]), frame.schema)

    return sample


KINDS = [
    Range("a", 75.05, 81),
    Domain("ward", ("ICU", "medical")),
    MissingTogether(("lactate", "ph")),
    Order("a", "b"),
    Order("b", "a"),
    Depends("ward", "unit", (("A", "ICU"), ("B", "medical"))),
    Implies("ward", "ICU", "unit", "A"),
    Implies("ward", "ICU", "unit", "A", never=True),
    Linear("z", (("x", 1.0), ("y", 1.0))),
    Order("admitted", "discharged"),
    Order("discharged", "admitted"),
    Range("admitted", 19_750.5, 19_800),
    ExactlyOne(("flag0", "flag1", "flag2")),
    RangeWhere("ward", "ICU", "a", 75.05, 81),
    RangeWhere("flag0", "1", "x", 0, 20),
    MissingWhere("ward", "ICU", "lactate"),
    MissingWhere("ward", "ICU", "lactate", never=True),
    Product("bmi", (("kg", 1.0), ("cm", -2.0)), 10_000.0, 0.06),
]


@pytest.mark.parametrize("rule", KINDS, ids=str)
@pytest.mark.parametrize("backwards", [False, True])
def test_each_kind_of_rule_holds_in_every_row_in_any_order_of_generation(sample_with, rule, backwards) -> None:
    if isinstance(rule, Linear) and backwards:
        pytest.skip("sums are generated after their terms: see below")
    order = [0, *range(table(1, 0).width - 1, 0, -1)] if backwards else None
    unconstrained, constrained = sample_with((), order=order), sample_with((rule,), order=order)
    applies, violates = rule.check(unconstrained)
    assert (applies & violates).mean() > 0.05  # the policy has not learned it
    applies, violates = rule.check(constrained)
    assert not (applies & violates).any()
    assert applies.mean() > 0.05
    for name in ("a", "x"):  # grids are unchanged
        assert constrained[name].drop_nulls().round(1).equals(constrained[name].drop_nulls())


INTERACTING = {
    "an order through a column that is generated last": ((Order("x", "y"), Order("y", "z"), Range("z", 0, 45)), ["z", "x", "y"]),
    "implications that meet in one column": (
        (Implies("ward", "ICU", "unit", "A"), Implies("event", "1", "unit", "A", never=True), Domain("unit", ("A", "B"))),
        ["ward", "event", "unit"],
    ),
    "a sum that must stay in its range": ((Linear("z", (("x", 1.0), ("y", 1.0))), Range("z", 30, 60)), ["x", "y", "z"]),
    "a product that must stay in its range": (
        (Product("bmi", (("kg", 1.0), ("cm", -2.0)), 10_000.0, 0.06), Range("bmi", 20, 30)),
        ["cm", "kg", "bmi"],
    ),
    "a difference of dates that must stay in its range": (
        (Linear("x", (("discharged", 1.0), ("admitted", -1.0)), 0.0, 1.0), Range("x", 0, 40)),
        ["admitted", "discharged", "x"],
    ),
    "a difference that may not be negative": ((Linear("z", (("x", 1.0), ("y", -1.0))), Range("z", 0, 99)), ["y", "x", "z"]),
}


@pytest.mark.parametrize("name", INTERACTING)
def test_interacting_rules_hold_without_rejection(sample_with, name) -> None:
    rules, first = INTERACTING[name]
    columns = list(table(1, 0).columns)
    order = [columns.index(one) for one in first]
    synthetic = sample_with(rules, order=order + [j for j in range(len(columns)) if j not in order])
    assert not Rules(rules).violations(synthetic).any()


def test_an_order_does_not_pile_up_equal_values(sample_with) -> None:
    synthetic = sample_with((Order("a", "b"),))
    assert (synthetic["a"] == synthetic["b"]).mean() < 0.03


def test_conditions_on_later_columns_bound_earlier_ones(sample_with) -> None:
    synthetic = sample_with((Order("a", "b"),), where={"b": 70})
    assert synthetic["b"].unique().to_list() == [70]
    assert (synthetic["a"] <= 70).all()


def test_sums_are_generated_after_their_terms() -> None:
    index = {"z": 0, "x": 1, "y": 2, "event": 3}
    rules = Rules((Linear("z", (("x", 1.0), ("y", 1.0))),))
    assert sums_after_terms([3, 0, 1, 2], rules, index) == [3, 1, 2, 0]
    assert sums_after_terms([3, 1, 2, 0], rules, index) == [3, 1, 2, 0]


def test_a_sum_of_sums_is_generated_last() -> None:
    index = {"z": 0, "x": 1, "y": 2, "w": 3}
    rules = Rules((Linear("w", (("z", 1.0), ("y", 1.0))), Product("z", (("x", 1.0), ("y", 1.0)))))
    assert sums_after_terms([3, 0, 1, 2], rules, index) == [3, 1, 2, 0]  # the outcome stays first
    assert sums_after_terms([1, 3, 0, 2], rules, index) == [1, 2, 0, 3]
