"""Identities: sums, differences and products are found through typing errors, missing terms and distractors, and none among chance."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.tabular.rules.identities import mine_linear, mine_products


def columns(**named: np.ndarray) -> tuple[np.ndarray, list[str]]:
    return np.column_stack([np.asarray(x, dtype=np.float64) for x in named.values()]), list(named)


def test_a_score_of_six_items_is_found_beside_a_correlated_column() -> None:
    rng = np.random.default_rng(0)
    items = {f"item{i}": rng.integers(0, 5, 3000) for i in range(6)}
    total = sum(items.values())
    values, names = columns(other=total + rng.normal(0, 2, 3000), **items, total=total)
    (rule,) = mine_linear(values, names)
    assert rule.column == "total"
    assert dict(rule.terms) == dict.fromkeys(items, 1.0)
    assert rule.constant == 0


def test_mistyped_and_missing_values_hide_no_sum() -> None:
    rng = np.random.default_rng(1)
    eye, verbal, motor = (rng.integers(1, most, 3000).astype(float) for most in (5, 6, 7))
    gcs = eye + verbal + motor
    gcs[rng.random(3000) < 0.005] += 3
    motor[rng.random(3000) < 0.3] = np.nan
    (rule,) = mine_linear(*columns(eye=eye, verbal=verbal, motor=motor, gcs=gcs))
    assert str(rule) == "gcs = eye + verbal + motor"


def test_a_rounded_mean_and_a_difference_of_days() -> None:
    rng = np.random.default_rng(2)
    dbp = rng.normal(75, 10, 3000).round()
    sbp = dbp + rng.gamma(4, 10, 3000).round()
    pressure = columns(sbp=sbp, dbp=dbp, mean=((sbp + 2 * dbp) / 3).round())
    (rule,) = mine_linear(*pressure)
    assert dict(rule.terms) == {"sbp": pytest.approx(1 / 3, abs=0.01), "dbp": pytest.approx(2 / 3, abs=0.01)}
    assert rule.tolerance < 0.6
    admitted, stay = rng.integers(18_000, 19_000, 3000), rng.integers(1, 30, 3000)
    (rule,) = mine_linear(*columns(admitted=admitted, discharged=admitted + stay, stay=stay))
    assert str(rule) == "discharged = admitted + stay"


def test_products_and_ratios() -> None:
    rng = np.random.default_rng(3)
    kg, cm = rng.normal(80, 15, 3000).round(1), rng.normal(170, 10, 3000).round()
    pulse, sbp = rng.normal(80, 15, 3000).round(), rng.normal(120, 15, 3000).round()
    values, names = columns(kg=kg, cm=cm, bmi=(kg / (cm / 100) ** 2).round(1), pulse=pulse, sbp=sbp, shock=(pulse / sbp).round(2))
    bmi, shock = mine_products(values, names)
    assert str(bmi) == "bmi = 10000 × kg × cm^-2"
    assert bmi.tolerance <= 0.06
    assert str(shock) == "shock = pulse × sbp^-1"


def test_chance_and_mere_correlation_give_nothing() -> None:
    rng = np.random.default_rng(4)
    base = rng.gamma(4, 10, 3000)
    values = np.column_stack([base, *(base + rng.normal(0, 5, 3000) for _ in range(4)), *rng.gamma(4, 10, (4, 3000))])
    names = [f"x{i}" for i in range(values.shape[1])]
    assert mine_linear(values, names) == mine_products(values, names) == []


def test_a_sum_is_no_product_over_a_narrow_range() -> None:
    rng = np.random.default_rng(5)
    admitted, stay = rng.integers(18_000, 18_500, 3000).astype(float), rng.integers(1, 30, 3000).astype(float)
    values, names = columns(admitted=admitted, discharged=admitted + stay, stay=stay)
    assert mine_products(values, names) == []
