"""Precision: whole numbers stay whole beside a few strays, and mixtures of decimals come out in their shares, cell by cell."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.decimal_precision import FREE, Precision, decimals, finest


def drawn(values: np.ndarray, n: int = 20_000) -> np.ndarray:
    series = pl.Series("x", values)
    own = NumberTokenizer.fit(series)
    draw = np.random.default_rng(1)
    return own.values(own.encode(series)[draw.integers(0, len(values), n)], draw.random(n))


def whole(values: np.ndarray, places: int = 0) -> float:
    return float((np.round(values, places) == values).mean())


def test_decimals_and_the_finest_by_hand() -> None:
    needed = decimals(np.array([7.0, -3.0, 0.5, 2.25, 1e-7, np.pi, 1e15]))
    assert needed.tolist() == [0, 0, 1, 2, FREE, FREE, 0]
    assert finest(np.array([0] * 596 + [3] * 4), fewest=5) == 0
    assert finest(np.array([0] * 595 + [3] * 5), fewest=5) == 3
    assert finest(np.array([0] * 595 + [1, 2, 2, 3, FREE]), fewest=5) == 1  # four need more than one
    assert finest(np.array([0] * 20 + [3]), fewest=5) == 3  # one in twenty is no stray


def test_four_strays_do_not_unmake_a_grid_and_are_not_written() -> None:
    values = np.random.default_rng(0).integers(60, 400, 3000).astype(float)
    values[:4] += [0.123, 0.5, 0.25, 1 / 3]
    assert whole(drawn(values)) == 1
    assert not set(values[:4]) & set(drawn(values))


def test_a_mixture_keeps_its_shares() -> None:
    draw = np.random.default_rng(0)
    values = draw.gamma(4, 25, 6000)
    values[:4200] = values[:4200].round()
    values[4200:5400] = values[4200:5400].round(2)
    made = drawn(values)
    for places in (0, 1, 2, 3):
        # whole numbers that many rows have are points of the cells' quantile functions, and are drawn a little too often
        assert whole(made, places) == pytest.approx(whole(values, places), abs=0.04), places


def test_two_decimals_do_not_turn_into_one_more_often_than_by_chance() -> None:
    values = np.random.default_rng(0).normal(7.4, 0.8, 8000).round(2)
    assert NumberTokenizer.fit(pl.Series("x", values)).precision is None
    assert whole(drawn(values), 1) == pytest.approx(0.1, abs=0.02)


def test_cells_have_habits_of_their_own() -> None:
    """Small values with two decimals, large ones whole, as laboratories write hormones."""
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.uniform(0, 10, 3000).round(2), draw.uniform(10, 200, 3000).round()])
    made = drawn(values)
    assert whole(made[made < 9]) < 0.1
    assert whole(made[made > 15]) > 0.97


def test_chances_by_hand() -> None:
    """Half of the values whole, half with one decimal: of what is drawn with one decimal a tenth is whole by chance."""
    found = Precision.fit(np.array([0, 1] * 500), np.zeros(1000, dtype=int), 1, 1)
    assert found is not None
    assert found.chance[0].tolist() == pytest.approx([0.5 - 0.5 / 9, 0.5 + 0.5 / 9])


def test_halves_are_whole_half_of_the_time_by_chance() -> None:
    """Steps of .5: where half of the values are whole no more are asked for."""
    halves = np.random.default_rng(0).integers(0, 2000, 4000) / 2
    assert NumberTokenizer.fit(pl.Series("x", halves)).precision is None
    mostly = np.where(np.arange(4000) % 10 > 0, halves.round(), halves)
    assert whole(drawn(mostly)) == pytest.approx(whole(mostly), abs=0.02)
    assert whole(drawn(mostly) * 2) == 1
