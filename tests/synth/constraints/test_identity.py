"""Identities by hand: what is required of the last column, by how much it fails, and the bounds of the others."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.constraints.identity import Identity
from nearward.tabular.rules.kinds import Linear, Product

INDEX = {"kg": 0, "cm": 1, "bmi": 2}
BMI = Product("bmi", (("kg", 1.0), ("cm", -2.0)), 10_000.0, 0.05)
VALUES = np.array([[80.0, 200.0, 20.0], [np.nan, 200.0, 20.0], [0.0, 200.0, 20.0]])


@pytest.mark.parametrize(("last", "expected"), [("bmi", 20.0), ("kg", 80.0), ("cm", 200.0)])
def test_a_product_requires_each_of_its_columns(last, expected) -> None:
    identity = Identity.of(BMI, INDEX, {j: int(j == INDEX[last]) for j in range(3)})
    assert identity.last == INDEX[last]
    assert identity.required(VALUES)[0] == pytest.approx(expected)
    required, changed = np.array([expected]), np.array([expected * 1.01])
    by_hand = {"bmi": 0.2, "kg": 0.2, "cm": 20 * (1 - 1.01**-2)}[last]
    assert identity.deviation(changed, required, VALUES[:1])[0] == pytest.approx(by_hand)


def test_missing_and_zero_factors_require_nothing() -> None:
    identity = Identity.of(BMI, INDEX, {0: 0, 1: 1, 2: 2})
    assert np.isnan(identity.required(VALUES)[1])
    assert identity.required(VALUES)[2] == 0  # the rule does not apply to it


def test_bounds_of_a_factor_keep_the_product_in_its_range() -> None:
    identity = Identity.of(BMI, INDEX, {0: 0, 1: 1, 2: 2})
    low, high = np.array([40.0, 140.0, 15.0]), np.array([120.0, 210.0, 40.0])
    least, greatest = identity.bounds(0, VALUES[:1], {1}, low, high, {0, 1, 2})
    assert (least[0], greatest[0]) == (pytest.approx(60), pytest.approx(160))
    least, greatest = identity.bounds(0, VALUES[:1], {1}, low, high, {0, 1})  # a missing product needs nothing
    assert np.isnan([least[0], greatest[0]]).all()


def test_a_sum_by_hand() -> None:
    identity = Identity.of(Linear("bmi", (("kg", 1.0), ("cm", -2.0)), 5.0), INDEX, {0: 0, 1: 2, 2: 1})
    assert identity.last == 1
    assert identity.required(np.array([[80.0, np.nan, 25.0]])).tolist() == [30.0]
    assert identity.deviation(np.array([31.0]), np.array([30.0]), VALUES[:1]).tolist() == [2.0]
