"""Rounding: whole numbers stay whole beside a few others, and mixtures of decimals keep their shares in each bin."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.decimal_precision import NO_GRID, DecimalPrecision, Grid, common_decimals, count_decimals


def decoded(values: np.ndarray, n: int = 20_000) -> np.ndarray:
    series = pl.Series("x", values)
    tokenizer = NumberTokenizer.fit(series)
    rng = np.random.default_rng(1)
    return tokenizer.values(tokenizer.encode(series)[rng.integers(0, len(values), n)], rng.random(n))


def share_rounded(values: np.ndarray, decimals: int = 0) -> float:
    return float((np.round(values, decimals) == values).mean())


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=120), st.integers(0, 3), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_a_grid_contains_its_values(whole, decimals, step) -> None:
    values = np.round(np.array([3 + step * w for w in whole]) / 10**decimals, decimals)
    grid = Grid.fit(values)
    assert grid is not None
    assert grid.snap(values).tolist() == values.tolist()
    assert (grid.down(values) == values).all()
    assert (grid.up(values) == values).all()


def test_decimals_by_hand() -> None:
    needed = count_decimals(np.array([7.0, -3.0, 0.5, 2.25, 1e-7, np.pi, 1e15]))
    assert needed.tolist() == [0, 0, 1, 2, NO_GRID, NO_GRID, 0]
    assert common_decimals(np.array([0] * 596 + [3] * 4), fewest=5) == 0
    assert common_decimals(np.array([0] * 595 + [3] * 5), fewest=5) == 3
    assert common_decimals(np.array([0] * 595 + [1, 2, 2, 3, NO_GRID]), fewest=5) == 1  # four need more than one
    assert common_decimals(np.array([0] * 20 + [3]), fewest=5) == 3  # one in twenty is not an exception


def test_four_values_off_the_grid_do_not_change_it_and_are_not_generated() -> None:
    values = np.random.default_rng(0).integers(60, 400, 3000).astype(float)
    values[:4] += [0.123, 0.5, 0.25, 1 / 3]
    assert share_rounded(decoded(values)) == 1
    assert not set(values[:4]) & set(decoded(values))


def test_a_mixture_keeps_its_shares() -> None:
    values = np.random.default_rng(0).gamma(4, 25, 6000)
    values[:4200] = values[:4200].round()
    values[4200:5400] = values[4200:5400].round(2)
    synthetic = decoded(values)
    for decimals in (0, 1, 2, 3):
        # frequent whole numbers are points of the bins' quantile functions, and are generated a little too often
        assert share_rounded(synthetic, decimals) == pytest.approx(share_rounded(values, decimals), abs=0.04), decimals


def test_two_decimals_become_one_no_more_often_than_by_chance() -> None:
    values = np.random.default_rng(0).normal(7.4, 0.8, 8000).round(2)
    assert NumberTokenizer.fit(pl.Series("x", values)).precision is None
    assert share_rounded(decoded(values), 1) == pytest.approx(0.1, abs=0.02)


def test_each_bin_has_its_own_probabilities() -> None:
    """Small values with two decimals, large ones whole, as laboratories write hormones."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0, 10, 3000).round(2), rng.uniform(10, 200, 3000).round()])
    synthetic = decoded(values)
    assert share_rounded(synthetic[synthetic < 9]) < 0.1
    assert share_rounded(synthetic[synthetic > 15]) > 0.97


def test_probabilities_by_hand() -> None:
    """Half of the values whole, half with one decimal: a tenth of the values rounded to one decimal is whole by chance."""
    precision = DecimalPrecision.fit(np.array([0, 1] * 500), np.zeros(1000, dtype=int), 1, 1)
    assert precision is not None
    assert precision.probability[0].tolist() == pytest.approx([0.5 - 0.5 / 9, 0.5 + 0.5 / 9])


def test_a_grid_of_halves_is_whole_half_of_the_time_by_chance() -> None:
    halves = np.random.default_rng(0).integers(0, 2000, 4000) / 2
    assert NumberTokenizer.fit(pl.Series("x", halves)).precision is None
    mostly_whole = np.where(np.arange(4000) % 10 > 0, halves.round(), halves)
    assert share_rounded(decoded(mostly_whole)) == pytest.approx(share_rounded(mostly_whole), abs=0.02)
    assert share_rounded(decoded(mostly_whole) * 2) == 1
