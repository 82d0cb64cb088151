"""Level rates: the smoothed log-odds by hand, and no row that sees its own label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.preprocessing import target_encoder as levels
from nearward.tabular.preprocessing.target_encoder import TargetEncoder, cross_fitted_rates


def odds(rate: float) -> float:
    return math.log(rate / (1 - rate))


def test_rates_by_hand() -> None:
    code = np.array([[0], [0], [1], [-1], [-1], [-1]])
    outcome = np.array([1, 0, 0, 1, 1, 0])
    overall = 3.5 / 7
    rates = TargetEncoder.fit(code, [2], outcome, smoothing=2.0)
    asked = rates.apply(np.array([[0], [1], [-2], [-1]]))[:, 0]
    hand = [(1 + 2 * overall) / 4, (0 + 2 * overall) / 3, overall, (2 + 2 * overall) / 5]
    assert asked == pytest.approx([odds(rate) for rate in hand])


def test_a_level_never_seen_reads_the_overall_rate_and_a_missing_value_has_its_own() -> None:
    code = np.repeat([0, -1], 50)[:, None]
    rates = TargetEncoder.fit(code, [1], np.repeat([0, 1], 50)).apply(np.array([[-2], [-1], [0]]))[:, 0]
    assert rates[0] == pytest.approx(0)
    assert rates[1] > 1 > -1 > rates[2]


def test_columns_do_not_mix() -> None:
    draw = np.random.default_rng(0)
    code, outcome = draw.integers(-2, 3, size=(60, 2)), draw.integers(0, 2, size=60)
    both = TargetEncoder.fit(code, [3, 3], outcome).apply(code)
    for j in (0, 1):
        assert np.array_equal(both[:, [j]], TargetEncoder.fit(code[:, [j]], [3], outcome).apply(code[:, [j]]))


def test_no_categories_give_no_columns() -> None:
    empty = np.zeros((4, 0), dtype=np.int64)
    assert TargetEncoder.fit(empty, [], np.array([0, 1, 0, 1])).apply(empty).shape == (4, 0)
    assert cross_fitted_rates(empty, [], np.array([0, 1, 0, 1]), np.arange(4), 0).shape == (4, 0)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=30),
    smoothing=st.sampled_from([1.0, 20.0, 1e6]),
)
def test_rates_are_finite_and_between_the_level_and_the_whole(rows: list[tuple[int, bool]], smoothing: float) -> None:
    code, outcome = np.array([[c] for c, _ in rows]), np.array([int(y) for _, y in rows])
    table = TargetEncoder.fit(code, [3], outcome, smoothing).table[0]
    assert np.isfinite(table).all()
    overall = odds((outcome.sum() + 0.5) / (len(outcome) + 1))
    for level in np.unique(code):
        mean = outcome[code[:, 0] == level].mean()
        raw = odds(mean) if 0 < mean < 1 else (math.inf if mean == 1 else -math.inf)
        assert min(raw, overall) - 1e-9 <= table[level] <= max(raw, overall) + 1e-9


# ---- out of fold ---------------------------------------------------------------------------------


def _cohort(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    group = np.unique(draw.integers(0, 25, size=80), return_inverse=True)[1]
    return draw.integers(-2, 4, size=(80, 2)), (draw.random(80) < 0.4).astype(np.int64), group


def test_each_row_reads_the_rates_of_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    code, outcome, group = _cohort(0)
    fold = group % 5
    monkeypatch.setattr(levels, "assign_folds", lambda *_: fold)
    rates = cross_fitted_rates(code, [4, 4], outcome, group, seed=0)
    for i in range(len(code)):
        others = fold != fold[i]
        assert rates[i] == pytest.approx(TargetEncoder.fit(code[others], [4, 4], outcome[others]).apply(code[i : i + 1])[0])


@pytest.mark.parametrize("flipped", range(0, 80, 7))
def test_no_rate_depends_on_the_label_of_its_own_patient(flipped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code, outcome, group = _cohort(1)
    fold = group % 5  # the deal looks at outcomes; with the same deal, nothing else may
    monkeypatch.setattr(levels, "assign_folds", lambda *_: fold)
    before = cross_fitted_rates(code, [4, 4], outcome, group, seed=3)
    outcome[flipped] = 1 - outcome[flipped]
    after = cross_fitted_rates(code, [4, 4], outcome, group, seed=3)
    own = group == group[flipped]
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before, after)  # the others do learn from it


def test_nor_with_the_real_deal_where_the_patient_keeps_an_event() -> None:
    code, outcome, group = _cohort(2)
    events = np.bincount(group, weights=outcome)
    rows = [i for i in range(80) if outcome[i] and events[group[i]] >= 2]
    assert len(rows) > 3
    before = cross_fitted_rates(code, [4, 4], outcome, group, seed=3)
    for i in rows:
        flipped = outcome.copy()
        flipped[i] = 0
        after = cross_fitted_rates(code, [4, 4], flipped, group, seed=3)
        assert np.array_equal(before[group == group[i]], after[group == group[i]])
        assert not np.array_equal(before, after)
