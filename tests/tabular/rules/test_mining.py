"""Mining: planted rules are found, chance is not, and no rule identifies a patient."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from nearward.tabular.rules.kinds import Domain, Implies, Linear, MissingTogether, Order, Range
from nearward.tabular.rules.mining import MineConfig, mine, upper_bound


@pytest.fixture(scope="module")
def mined(ward):
    return mine(ward(4000, 1), seed=0)


def test_planted_rules_are_mined(mined):
    assert MissingTogether(("lactate", "ph")) in mined
    assert Order("dbp", "sbp") in mined
    assert {Order("drains", "output"), Order("urine", "output")} <= set(mined)
    (ward_of_unit,) = [rule for rule in mined if rule.kind == "depends"]
    assert dict(ward_of_unit.pairs) == {"A": "ICU", "B": "ICU", "C": "medical", "D": "surgical", "E": "surgical"}
    (total,) = [rule for rule in mined if isinstance(rule, Linear)]
    assert (total.column, dict(total.terms)) == ("output", {"drains": 1.0, "urine": 1.0})
    assert Implies("ward", "medical", "unit", "C") in mined
    assert Domain("sex", ("f", "m")) in mined


def test_rules_hold_on_fresh_rows_and_each_has_its_evidence(mined, ward):
    rates = mined.violations(ward(4000, 2)).mean(axis=0)
    assert rates.max() < 0.015
    for rule in mined:
        assert rule.evidence.source == "mined"
        assert rule.evidence.at_most == pytest.approx(upper_bound(rule.evidence.violations, rule.evidence.rows), abs=1e-5)
        assert rule.evidence.at_most <= 0.01
        assert rule.evidence.rows <= 2100  # of one half only


def test_independent_columns_have_no_joint_rules(ward):
    frame = ward(4000, 1)
    rng = np.random.default_rng(0)
    alone = pl.DataFrame([column.gather(rng.permutation(4000)) for column in frame.iter_columns()])
    several = [rule for rule in mine(alone, seed=0) if len(rule.columns) > 1]
    assert not several, several


def test_bounds_are_those_of_the_fifth_row_and_rare_values_are_not_named():
    n = 6000
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, n)
    x[:4] = [1e6, 2e6, -1e6, -2e6]
    level = np.array(["a", "b"])[rng.integers(0, 2, n)]
    level[:4] = "only four"
    rules = list(mine(pl.DataFrame({"x": x, "level": level.tolist()}), seed=1))
    (bounds,) = [rule for rule in rules if isinstance(rule, Range)]
    assert bounds.high < 5
    assert bounds.low > -5
    assert sorted(x[x > bounds.high])[:1] >= [bounds.high]
    (domain,) = [rule for rule in rules if isinstance(rule, Domain)]
    assert domain.levels == ("a", "b")


def test_small_tables_have_no_hard_rules():
    assert upper_bound(0, 298) > 0.01 >= upper_bound(0, 299)
    low = np.arange(500.0)
    assert not list(mine(pl.DataFrame({"low": low, "high": low + 1}), seed=0))


def test_a_rule_violated_too_often_is_not_hard():
    rng = np.random.default_rng(0)
    low = rng.normal(0, 1, 4000)
    for share, hard in ((0.002, True), (0.03, False)):
        high = np.where(rng.random(4000) < share, low - 1, low + 1)
        kinds = {rule.kind for rule in mine(pl.DataFrame({"low": low, "high": high}), seed=0)}
        assert ("order" in kinds) is hard


def test_patients_are_mined_on_or_confirmed_on():
    patient = np.arange(4000) // 2000  # two patients: one is mined on, the other confirms
    x = np.where(patient == 0, 1.0, -1.0)
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"low": rng.normal(0, 0.1, 4000), "high": rng.normal(0, 0.1, 4000) + x})
    assert not [rule for rule in mine(frame, seed=0, patient_ids=patient) if rule.kind == "order"]


def test_seed_and_units():
    rng = np.random.default_rng(0)
    celsius = rng.normal(37, 1, 3000).round(2)
    frame = pl.DataFrame({"celsius": celsius, "fahrenheit": (celsius * 1.8 + 32).round(2)})
    first, again = mine(frame, seed=4), mine(frame, seed=4)
    assert first == again
    (line,) = [rule for rule in first if isinstance(rule, Linear)]
    assert dict(line.terms)["celsius"] == pytest.approx(1.8, abs=1e-3)
    assert line.tolerance < 0.02


def test_a_column_and_its_copy_are_equal_without_a_spurious_constant():
    rng = np.random.default_rng(0)
    activities = rng.integers(0, 8, 3000).astype(float)
    frame = pl.DataFrame({"adls": activities, "adlsc": activities})
    (line,) = [rule for rule in mine(frame, seed=0) if isinstance(rule, Linear)]
    assert (line.terms, line.constant) == (((line.terms[0][0], 1.0),), 0.0)
    assert 1e-7 < line.tolerance < 1e-5


def test_upper_bound_is_clopper_pearsons():
    for violations, rows in ((0, 400), (3, 500), (7, 7)):
        expected = stats.binomtest(violations, rows, alternative="less").proportion_ci(0.95, "exact").high
        assert upper_bound(violations, rows) == pytest.approx(expected)


def test_rules_are_capped():
    config = MineConfig(max_each=1)
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 3000)
    frame = pl.DataFrame({f"x{i}": base + i * 0.5 for i in range(5)})
    assert sum(rule.kind == "order" for rule in mine(frame, seed=0, config=config)) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_patient_with_many_rows_is_one_patient(seed):
    """In either half: the patient's height is no bound and the trade no listed value."""
    rng = np.random.default_rng(0)
    height = pl.Series([*rng.normal(170, 8, 8000).round(1), *[211.3] * 12])
    trade = pl.Series([*rng.choice(["clerk", "cook"], 8000), *["bishop"] * 12])
    rules = mine(pl.DataFrame({"height": height, "trade": trade}), seed, patient_ids=np.array([*range(8000), *[8000] * 12]))
    assert max(rule.high for rule in rules if isinstance(rule, Range)) < 211
    assert all("bishop" not in rule.levels for rule in rules if isinstance(rule, Domain))
