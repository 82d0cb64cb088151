from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.privacy_attacks.attribute_inference import _equal, attribute_inference
from nearward.evaluation.privacy_attacks.linkability import linkability
from nearward.evaluation.privacy_attacks.residual_risk import AttackResult, attack_table, residual_risk
from nearward.evaluation.privacy_attacks.singling_out import Condition, _count, singling_out
from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.tables.inputs import read_tables


@pytest.fixture(scope="module")
def tables(ward):
    return read_tables(ward(600, 1), ward(600, 2), ward(600, 3), "died")


def test_residual_risk_by_hand():
    result = AttackResult.from_counts("x", (60, 100), (10, 100), (20, 100))
    assert result.risk.value == pytest.approx((0.6 - 0.2) / (1 - 0.2))
    assert result.risk.low < result.risk.value < result.risk.high
    assert result.trusted
    assert not AttackResult.from_counts("x", (10, 100), (10, 100), (0, 100)).trusted


def test_residual_risk_at_its_ends():
    assert residual_risk(wilson(10, 100), wilson(30, 100)).value == 0.0
    assert residual_risk(wilson(100, 100), wilson(0, 100)).value == 1.0
    assert residual_risk(wilson(100, 100), wilson(100, 100)) == Estimate(0.0, 0.0, 1.0, 100)


def test_the_interval_covers():
    rng = np.random.default_rng(0)
    truth = (0.3 - 0.1) / 0.9
    covered = 0
    for _ in range(1000):
        risk = residual_risk(wilson(int(rng.binomial(300, 0.3)), 300), wilson(int(rng.binomial(300, 0.1)), 300))
        covered += risk.low <= truth <= risk.high
    assert 930 <= covered <= 970


def test_several_attacks_have_wider_intervals():
    one, many = (AttackResult.from_counts("x", (60, 100), (0, 100), (20, 100), tests=tests).risk for tests in (1, 20))
    assert many.low < one.low < one.high < many.high


def test_rows_that_meet_a_predicate():
    frame = pl.DataFrame({"age": [50.0, 60.0, None], "sex": ["f", "m", "m"]})
    assert _count((Condition("age", ">=", 55.0),), frame) == 1
    assert _count((Condition("sex", "=", "m"),), frame) == 2
    assert _count((Condition("sex", "=", "m"), Condition("age", "missing")), frame) == 1


def test_right_values():
    guess, truth = pl.Series([100.0, 94.0, None, None]), pl.Series([104.0, 100.0, None, 1.0])
    assert _equal(guess, truth).tolist() == [True, False, True, False]
    assert _equal(pl.Series(["a", "b", None]), pl.Series(["a", "a", None])).tolist() == [True, False, True]


@pytest.mark.parametrize("attack", [singling_out, linkability, attribute_inference])
def test_a_copy_is_detected_and_fresh_rows_are_not(attack, tables):
    fresh = attack(tables, 0)
    copied = attack(tables.with_synthetic(tables.train), 0)
    assert len(fresh) == len(copied) == {"singling_out": 2, "linkability": 1, "attribute_inference": 14}[attack.__name__]
    assert all(result.risk.low > 0.9 and result.trusted for result in copied)
    assert all(result.risk.low == 0 for result in fresh)
    table = attack_table(copied)
    assert table.height == len(copied)
    assert table["verdict"].to_list() == [""] * len(copied)


def test_same_seed_same_result(tables):
    assert singling_out(tables, 3) == singling_out(tables, 3)
    assert singling_out(tables, 3) != singling_out(tables, 4)


def test_the_outcome_is_the_first_secret(tables):
    assert attribute_inference(tables, 0)[0].name == "value of died"
