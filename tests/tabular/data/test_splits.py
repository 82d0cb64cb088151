"""Folds: whole patients, events spread evenly, the same deal for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.data.splits import assign_folds, split_patients
from nearward.tabular.errors import InputError


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and patient numbers from 0 without gaps."""
    rows = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=60))
    outcome = np.array([event for event, _ in rows], dtype=np.int64)
    return outcome, np.unique([owner for _, owner in rows], return_inverse=True)[1].astype(np.int64)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(cohort=cohorts(), folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_patients_stay_whole_and_folds_differ_by_one_group_of_each_kind(
    cohort: tuple[np.ndarray, np.ndarray], folds: int, seed: int
) -> None:
    outcome, group = cohort
    fold = assign_folds(outcome, group, folds, seed)
    assert fold.shape == outcome.shape
    assert set(fold) <= set(range(folds))
    eventful, free = np.zeros(folds, dtype=int), np.zeros(folds, dtype=int)
    for patient in np.unique(group):
        mine = fold[group == patient]
        assert (mine == mine[0]).all()
        (eventful if outcome[group == patient].any() else free)[mine[0]] += 1
    assert np.ptp(eventful) <= 1
    assert np.ptp(free) <= 1
    assert np.ptp(eventful + free) <= 1  # the second kind is dealt on from where the first ended


@settings(deadline=None, max_examples=30, derandomize=True)
@given(cohort=cohorts(), seed=st.integers(0, 99))
def test_the_same_seed_deals_the_same_folds(cohort: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    outcome, group = cohort
    assert (assign_folds(outcome, group, 3, seed) == assign_folds(outcome.copy(), group.copy(), 3, seed)).all()


def test_another_seed_deals_otherwise_and_rows_are_not_dealt_in_file_order() -> None:
    outcome = np.repeat([1, 0], [20, 180])
    one, other = assign_folds(outcome, None, 5, 0), assign_folds(outcome, None, 5, 1)
    assert (one != other).any()
    assert (one[:20] != np.arange(20) % 5).any()


def test_without_groups_every_row_is_its_own() -> None:
    outcome = np.repeat([1, 0], [10, 33])
    fold = assign_folds(outcome, None, 5, 0)
    assert (fold == assign_folds(outcome, np.arange(43), 5, 0)).all()
    assert np.bincount(fold[:10]).tolist() == [2] * 5
    assert sorted(np.bincount(fold)) == [8, 8, 9, 9, 9]


def test_large_patients_are_dealt_first_so_that_rows_balance() -> None:
    group = np.repeat(np.arange(12), [30, 30, 30, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    for seed in range(5):
        fold = assign_folds(np.zeros(len(group), dtype=np.int64), group, 3, seed)
        assert np.bincount(fold).tolist() == [33, 33, 33]


@pytest.mark.parametrize("folds", [2, 5])
def test_fewer_patients_than_folds_leave_folds_empty_and_break_nothing(folds: int) -> None:
    assert (assign_folds(np.array([1, 1, 0]), np.array([0, 0, 0]), folds, 0) == 0).all()


def test_patients_are_split_so_that_every_rest_has_both_outcomes():
    group = np.repeat(np.arange(20), 3)
    outcome = np.ones(60, dtype=np.int64)
    outcome[[0, 3]] = 0  # two patients have the only rows without the event
    for seed in range(20):
        fold = split_patients(outcome, group, 5, seed)
        for f in range(int(fold.max()) + 1):
            assert len(np.unique(outcome[fold != f])) == 2


def test_a_split_that_cannot_be_is_refused():
    outcome = np.array([1] * 12 + [0] * 12)
    with pytest.raises(InputError, match="can't be split: 13 patients, 1 of them"):
        split_patients(outcome, np.array([0] * 12 + list(range(1, 13))), 5, 0)
