"""Rules while rows are written: each family holds in every row of a policy that knows none of them, without drawing rows again."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.constraints.compiled_rules import CompiledRules, sums_after_terms
from nearward.synth.constraints.consistency import check_consistent
from nearward.synth.constraints.constrained_sampling import ConstrainedDecoder
from nearward.synth.policy.autoregressive import FREE, Policy
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.errors import RuleError
from nearward.tabular.rules.rules import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rule, Rules


def table(n: int, seed: int) -> pl.DataFrame:
    """Columns that hang together in nothing: a policy of their shares breaks every rule."""
    draw = np.random.default_rng(seed)
    hole = draw.random((2, n)) < 0.4
    return pl.DataFrame(
        {
            "event": (draw.random(n) < 0.2).astype(int),
            "a": draw.normal(80, 10, n).round(1),
            "b": draw.normal(85, 20, n).round(),
            "x": draw.integers(0, 50, n),
            "y": draw.integers(0, 50, n),
            "z": draw.integers(0, 100, n),
            "ward": draw.choice(["ICU", "medical", "surgical"], n),
            "unit": draw.choice(["A", "B", "C"], n),
            "lactate": draw.gamma(2, 1, n).round(2),
            "ph": draw.normal(7.4, 0.1, n).round(2),
        }
    ).with_columns(
        lactate=pl.when(pl.Series(~hole[0])).then(pl.col("lactate")),
        ph=pl.when(pl.Series(~hole[1])).then(pl.col("ph")),
    )


@pytest.fixture(scope="module")
def made_by():
    """(rules, conditions) -> rows, of a policy that knows each column's shares and nothing else."""
    frame = table(1500, 0)
    tokens = TableTokenizer.fit(frame, outcome="event")
    coded = tokens.encode(frame)
    rows = [np.bincount(coded[:, j], minlength=size) for j, size in enumerate(tokens.sizes)]
    ordered = [isinstance(column, NumberTokenizer) for column in tokens.column_tokenizers]

    def make(rules: tuple[Rule, ...], where: dict[str, int | float] | None = None, order: list[int] | None = None) -> pl.DataFrame:
        order = sums_after_terms(order or list(range(len(rows))), Rules(rules), tokens.column_index)
        policy = Policy(tokens.sizes, ordered, order, rows)
        book = CompiledRules.of(Rules(rules), tokens, order, rows)
        given = np.full((800, len(rows)), FREE)
        asked = {tokens.column_index[name]: float(value) for name, value in (where or {}).items()}
        for j, value in asked.items():
            given[:, j] = tokens.column_tokenizers[j].digitize(np.array([value]))[0]
        keepers: list[ConstrainedDecoder] = []

        def make_constraint(first: int) -> ConstrainedDecoder:
            keepers.append(ConstrainedDecoder(book, first, asked))
            return keepers[-1]

        drawn = policy.sample(given, 1, make_constraint)
        return tokens.to_frame(drawn, np.concatenate([keeper.values for keeper in keepers]), frame.schema)

    return make


FAMILIES = [
    Range("a", 75.05, 81),
    Domain("ward", ("ICU", "medical")),
    MissingTogether(("lactate", "ph")),
    Order("a", "b"),
    Order("b", "a"),
    Depends("ward", "unit", (("A", "ICU"), ("B", "medical"))),
    Implies("ward", "ICU", "unit", "A"),
    Implies("ward", "ICU", "unit", "A", never=True),
    Linear("z", (("x", 1.0), ("y", 1.0))),
]


@pytest.mark.parametrize("rule", FAMILIES, ids=str)
@pytest.mark.parametrize("backwards", [False, True])
def test_each_family_holds_in_every_row_whatever_is_written_first(made_by, rule, backwards) -> None:
    if isinstance(rule, Linear) and backwards:
        pytest.skip("sums go behind their terms: see below")
    order = [0, *range(9, 0, -1)] if backwards else None
    free, kept = made_by((), order=order), made_by((rule,), order=order)
    speaks, breaks = rule.judged(free)
    assert (speaks & breaks).mean() > 0.05  # the policy knows nothing of it
    speaks, breaks = rule.judged(kept)
    assert not (speaks & breaks).any()
    assert speaks.mean() > 0.05
    for name in ("a", "x"):  # and nothing else has changed: grids, types
        assert kept[name].drop_nulls().round(1).equals(kept[name].drop_nulls())


MEETING = {
    "an order through a column that is written last": ((Order("x", "y"), Order("y", "z"), Range("z", 0, 45)), ["z", "x", "y"]),
    "implications that meet in one column": (
        (Implies("ward", "ICU", "unit", "A"), Implies("event", "1", "unit", "A", never=True), Domain("unit", ("A", "B"))),
        ["ward", "event", "unit"],
    ),
    "a sum that must stay in its range": ((Linear("z", (("x", 1.0), ("y", 1.0))), Range("z", 30, 60)), ["x", "y", "z"]),
    "a difference that may not be negative": ((Linear("z", (("x", 1.0), ("y", -1.0))), Range("z", 0, 99)), ["y", "x", "z"]),
}


@pytest.mark.parametrize("name", MEETING)
def test_rules_that_meet_in_one_cell_are_foreseen(made_by, name) -> None:
    rules, first = MEETING[name]
    columns = list(table(1, 0).columns)
    order = [columns.index(one) for one in first]
    made = made_by(rules, order=order + [j for j in range(len(columns)) if j not in order])
    assert not Rules(rules).violations(made).any()


def test_orders_leave_no_heap_of_equal_values(made_by) -> None:
    made = made_by((Order("a", "b"),))
    assert (made["a"] == made["b"]).mean() < 0.03


def test_conditions_on_later_columns_bind_earlier_ones(made_by) -> None:
    made = made_by((Order("a", "b"),), where={"b": 70})
    assert made["b"].unique().to_list() == [70]
    assert (made["a"] <= 70).all()


def test_sums_are_written_after_their_terms() -> None:
    place = {"z": 0, "x": 1, "y": 2, "event": 3}
    rules = Rules((Linear("z", (("x", 1.0), ("y", 1.0))),))
    assert sums_after_terms([3, 0, 1, 2], rules, place) == [3, 1, 2, 0]
    assert sums_after_terms([3, 1, 2, 0], rules, place) == [3, 1, 2, 0]


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
        ([Linear("z", (("x", 1.0), ("y", 1.0))), Range("x", 0, 5), Range("y", 0, 5), Range("z", 20, 30)], ["z = x + y", "20"]),
    ],
)
def test_contradictions_are_named(rules, named) -> None:
    with pytest.raises(RuleError) as error:
        check_consistent(Rules(tuple(rules)))
    assert all(words in str(error.value) for words in named)


def test_rules_that_can_be_kept_together_are_no_contradiction() -> None:
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
                Linear("c", (("a", 1.0), ("b", 1.0))),
                Range("c", 0, 25),
            )
        )
    )
