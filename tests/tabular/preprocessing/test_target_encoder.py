"""Target encoding: the smoothed log-odds by hand, and no row whose encoding uses its own outcome."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.preprocessing import target_encoder as module
from nearward.tabular.preprocessing.target_encoder import TargetEncoder, cross_fit_transform


def odds(rate: float) -> float:
    return math.log(rate / (1 - rate))


def test_rates_by_hand() -> None:
    codes = np.array([[0], [0], [1], [-1], [-1], [-1]])
    outcome = np.array([1, 0, 0, 1, 1, 0])
    overall = 3.5 / 7
    encoder = TargetEncoder.fit(codes, [2], outcome, smoothing=2.0)
    log_odds = encoder.transform(np.array([[0], [1], [-2], [-1]]))[:, 0]
    expected = [(1 + 2 * overall) / 4, (0 + 2 * overall) / 3, overall, (2 + 2 * overall) / 5]
    assert log_odds == pytest.approx([odds(rate) for rate in expected])


def test_an_unseen_category_has_the_overall_rate_and_a_missing_value_its_own() -> None:
    codes = np.repeat([0, -1], 50)[:, None]
    encoded = TargetEncoder.fit(codes, [1], np.repeat([0, 1], 50)).transform(np.array([[-2], [-1], [0]]))[:, 0]
    assert encoded[0] == pytest.approx(0)
    assert encoded[1] > 1 > -1 > encoded[2]


def test_columns_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    codes, outcome = rng.integers(-2, 3, size=(60, 2)), rng.integers(0, 2, size=60)
    both = TargetEncoder.fit(codes, [3, 3], outcome).transform(codes)
    for j in (0, 1):
        assert np.array_equal(both[:, [j]], TargetEncoder.fit(codes[:, [j]], [3], outcome).transform(codes[:, [j]]))


def test_no_categories_give_no_columns() -> None:
    empty = np.zeros((4, 0), dtype=np.int64)
    assert TargetEncoder.fit(empty, [], np.array([0, 1, 0, 1])).transform(empty).shape == (4, 0)
    assert cross_fit_transform(empty, [], np.array([0, 1, 0, 1]), np.arange(4), 0).shape == (4, 0)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=30),
    smoothing=st.sampled_from([1.0, 20.0, 1e6]),
)
def test_log_odds_are_finite_and_between_the_category_and_the_whole(rows: list[tuple[int, bool]], smoothing: float) -> None:
    codes, outcome = np.array([[c] for c, _ in rows]), np.array([int(y) for _, y in rows])
    log_odds = TargetEncoder.fit(codes, [3], outcome, smoothing).log_odds[0]
    assert np.isfinite(log_odds).all()
    overall = odds((outcome.sum() + 0.5) / (len(outcome) + 1))
    for category in np.unique(codes):
        mean = outcome[codes[:, 0] == category].mean()
        raw = odds(mean) if 0 < mean < 1 else (math.inf if mean == 1 else -math.inf)
        assert min(raw, overall) - 1e-9 <= log_odds[category] <= max(raw, overall) + 1e-9


# ---- out of fold ---------------------------------------------------------------------------------


def _cohort(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patient_ids = np.unique(rng.integers(0, 25, size=80), return_inverse=True)[1]
    return rng.integers(-2, 4, size=(80, 2)), (rng.random(80) < 0.4).astype(np.int64), patient_ids


def test_each_row_is_encoded_by_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, outcome, patient_ids = _cohort(0)
    fold = patient_ids % 5
    monkeypatch.setattr(module, "assign_folds", lambda *_: fold)
    encoded = cross_fit_transform(codes, [4, 4], outcome, patient_ids, seed=0)
    for i in range(len(codes)):
        others = fold != fold[i]
        assert encoded[i] == pytest.approx(TargetEncoder.fit(codes[others], [4, 4], outcome[others]).transform(codes[i : i + 1])[0])


@pytest.mark.parametrize("flipped", range(0, 80, 7))
def test_no_encoding_depends_on_the_outcome_of_its_own_patient(flipped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, outcome, patient_ids = _cohort(1)
    fold = patient_ids % 5  # folds depend on outcomes; with the same folds nothing else may
    monkeypatch.setattr(module, "assign_folds", lambda *_: fold)
    before = cross_fit_transform(codes, [4, 4], outcome, patient_ids, seed=3)
    outcome[flipped] = 1 - outcome[flipped]
    after = cross_fit_transform(codes, [4, 4], outcome, patient_ids, seed=3)
    own = patient_ids == patient_ids[flipped]
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before, after)  # the others do learn from it


def test_nor_with_real_folds_where_the_patient_still_has_an_event() -> None:
    codes, outcome, patient_ids = _cohort(2)
    events = np.bincount(patient_ids, weights=outcome)
    rows = [i for i in range(80) if outcome[i] and events[patient_ids[i]] >= 2]
    assert len(rows) > 3
    before = cross_fit_transform(codes, [4, 4], outcome, patient_ids, seed=3)
    for i in rows:
        flipped = outcome.copy()
        flipped[i] = 0
        after = cross_fit_transform(codes, [4, 4], flipped, patient_ids, seed=3)
        assert np.array_equal(before[patient_ids == patient_ids[i]], after[patient_ids == patient_ids[i]])
        assert not np.array_equal(before, after)


def test_weighted_rows_are_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    codes, outcome, times = rng.integers(-2, 4, size=(80, 2)), rng.integers(0, 2, size=80), rng.integers(1, 6, 80)
    weighted = TargetEncoder.fit(codes, [4, 4], outcome, weight=times.astype(float))
    repeated = TargetEncoder.fit(np.repeat(codes, times, axis=0), [4, 4], np.repeat(outcome, times))
    assert weighted.transform(codes) == pytest.approx(repeated.transform(codes), abs=1e-12)
    row, patient_ids = np.repeat(np.arange(80), 3), np.arange(80) // 2  # the same folds: all patients have three times as many rows
    cross_fitted = cross_fit_transform(codes, [4, 4], outcome, patient_ids, 0, np.full(80, 3.0))
    assert cross_fitted[row] == pytest.approx(cross_fit_transform(codes[row], [4, 4], outcome[row], patient_ids[row], 0), abs=1e-12)
    assert np.abs(cross_fitted - cross_fit_transform(codes, [4, 4], outcome, patient_ids, 0)).max() > 0.01
