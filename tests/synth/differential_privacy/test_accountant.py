from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nearward.synth.differential_privacy.accountant import PrivacyAccountant, delta_of, epsilon_of, rho_within
from nearward.tabular.errors import BudgetSpent, InputError


def gaussian_delta(epsilon: float, sensitivity_over_sd: float) -> float:
    """The exact delta of the Gaussian mechanism (Balle and Wang 2018, theorem 5)."""
    s = sensitivity_over_sd
    return float(stats.norm.cdf(s / 2 - epsilon / s) - math.exp(epsilon) * stats.norm.cdf(-s / 2 - epsilon / s))


@pytest.mark.parametrize("rho", [1e-4, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_conversion_lies_between_the_exact_gaussian_and_the_simple_bound(rho, epsilon):
    exact = gaussian_delta(epsilon, math.sqrt(2 * rho))
    simple = math.exp(-((epsilon - rho) ** 2) / (4 * rho)) if epsilon > rho else 1.0
    assert exact - 1e-12 <= delta_of(rho, epsilon) <= simple * (1 + 1e-3)


@given(st.floats(0.05, 20), st.floats(1e-9, 1e-2))
@settings(max_examples=30, deadline=None)
def test_conversions_are_inverse(epsilon, delta):
    rho = rho_within(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon * (1 + 1e-9)
    assert epsilon_of(rho * 1.001, delta) > epsilon * (1 - 1e-9)
    assert delta_of(rho, epsilon) == pytest.approx(delta, rel=1e-3)


def test_entries_add_up_and_the_budget_holds():
    accountant = PrivacyAccountant(1.0, 1e-6, rows_per_patient=2)
    for part in (0.25, 0.5):
        accountant = accountant.charge(f"part {part}", accountant.budget * part)
    assert accountant.remaining == pytest.approx(accountant.budget / 4)
    with pytest.raises(BudgetSpent, match="not released"):
        accountant.charge("too much", accountant.budget * 0.26)
    with pytest.raises(BudgetSpent):
        accountant.charge("too unlikely", 0.0, delta=0.6e-6)
    whole = accountant.charge("rest", accountant.remaining, delta=0.5e-6)
    assert whole.spent() == (pytest.approx(1.0), pytest.approx(1e-6))
    assert PrivacyAccountant.from_json(whole.to_json()) == whole
    assert "part 0.25" in str(whole)
    assert accountant.spent()[0] < 1


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, math.nan])
def test_an_invalid_budget_is_refused(epsilon):
    with pytest.raises(InputError, match="epsilon"):
        PrivacyAccountant(epsilon, 1e-6)
    with pytest.raises(InputError, match="delta"):
        PrivacyAccountant(1.0, 0.0)
    with pytest.raises(InputError, match="rows_per_patient"):
        PrivacyAccountant(1.0, 1e-6, rows_per_patient=0)


def test_zero_costs_nothing():
    assert epsilon_of(0.0, 1e-6) == 0
    assert PrivacyAccountant(1.0, 1e-6).spent()[0] == 0
    assert np.isfinite(PrivacyAccountant(50.0, 1e-6).budget)
