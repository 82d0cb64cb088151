"""Conditional rules and exactly-one flags: planted ones are mined and confirmed, chance gives none, no bound is a single patient's."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from nearward.tabular.rules.conditional import mine_exactly_one
from nearward.tabular.rules.kinds import ExactlyOne, Implies, MissingWhere, Order, RangeWhere
from nearward.tabular.rules.mining import mine


def obstetrics(n: int, seed: int) -> pl.DataFrame:
    """Only women under 50 are pregnant; men have no number of births; the dead have a date of death; one of three flags is set."""
    rng = np.random.default_rng(seed)
    female, age = rng.random(n) < 0.5, rng.integers(0, 90, n)
    pregnant = female & (age > 15) & (age < 46) & (rng.random(n) < 0.7)
    admitted, died, ward = rng.integers(0, 700, n), rng.random(n) < 0.2, rng.integers(0, 3, n)
    start = date(2022, 1, 1)
    return pl.DataFrame(
        {
            "sex": np.where(female, "f", "m"),
            "age": age,
            "pregnant": np.where(pregnant, "yes", "no"),
            "births": [int(k) if f else None for k, f in zip(rng.poisson(1, n), female, strict=True)],
            "admitted": [start + timedelta(days=int(d)) for d in admitted],
            "died": died,
            "died_on": [
                start + timedelta(days=int(d + s)) if x else None for d, s, x in zip(admitted, rng.integers(0, 30, n), died, strict=True)
            ],
            **{f"ward_{w}": (ward == w).astype(int) for w in range(3)},
        }
    )


def test_planted_conditions_are_mined() -> None:
    rules = set(mine(obstetrics(6000, 0), seed=0))
    assert Implies("sex", "m", "pregnant", "no") in rules
    assert MissingWhere("sex", "m", "births") in rules
    assert MissingWhere("sex", "f", "births", never=True) in rules
    assert MissingWhere("died", "false", "died_on") in rules
    assert MissingWhere("died", "true", "died_on", never=True) in rules
    assert Order("admitted", "died_on") in rules
    assert ExactlyOne(("ward_0", "ward_1", "ward_2")) in rules
    (bound,) = [rule for rule in rules if isinstance(rule, RangeWhere) and (rule.where, rule.column) == ("pregnant", "age")]
    assert bound.level == "yes"
    assert 10 <= bound.low <= 16
    assert 45 <= bound.high <= 50


def test_independent_columns_have_none() -> None:
    frame = obstetrics(6000, 0)
    rng = np.random.default_rng(0)
    alone = pl.DataFrame([column.gather(rng.permutation(6000)) for column in frame.iter_columns()])
    assert not [rule for rule in mine(alone, seed=0) if len(rule.columns) > 1]


def test_bounds_of_a_condition_are_not_those_of_few_patients() -> None:
    rng, narrow = np.random.default_rng(0), np.arange(12_000) < 6000
    x = np.where(narrow, rng.normal(0, 1, 12_000), rng.normal(0, 20, 12_000))
    x[:4] = 77.0
    frame = pl.DataFrame({"kind": np.where(narrow, "narrow", "wide"), "x": x})
    bounds = [rule for rule in mine(frame, seed=0) if isinstance(rule, RangeWhere)]
    assert [rule.level for rule in bounds] == ["narrow"]
    assert bounds[0].high < 10


def test_flags_that_exclude_each_other_without_covering_all_rows_are_no_group() -> None:
    ward = np.random.default_rng(0).integers(0, 4, 2000)
    flags = {f"ward_{w}": (ward == w).astype(float) for w in range(3)}
    assert mine_exactly_one(pl.DataFrame(flags)) == []
    other = {"other": (ward == 3).astype(float), "icu": (ward == 1).astype(float)}
    (rule,) = mine_exactly_one(pl.DataFrame({**flags, "other": other["other"]}))
    assert rule.of == ("ward_0", "ward_1", "ward_2", "other")
