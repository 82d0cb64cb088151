"""Folds: whole patients, events spread evenly, the same folds for the same seed."""

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
    return outcome, np.unique([patient for _, patient in rows], return_inverse=True)[1].astype(np.int64)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(cohort=cohorts(), folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_no_patient_is_in_two_folds_and_folds_differ_by_one_patient_of_each_kind(
    cohort: tuple[np.ndarray, np.ndarray], folds: int, seed: int
) -> None:
    outcome, patient_ids = cohort
    fold = assign_folds(outcome, patient_ids, folds, seed)
    assert fold.shape == outcome.shape
    assert set(fold) <= set(range(folds))
    with_event, without_event = np.zeros(folds, dtype=int), np.zeros(folds, dtype=int)
    for patient in np.unique(patient_ids):
        own = fold[patient_ids == patient]
        assert (own == own[0]).all()
        (with_event if outcome[patient_ids == patient].any() else without_event)[own[0]] += 1
    assert np.ptp(with_event) <= 1
    assert np.ptp(without_event) <= 1
    assert np.ptp(with_event + without_event) <= 1  # the second kind continues where the first ended


@settings(deadline=None, max_examples=30, derandomize=True)
@given(cohort=cohorts(), seed=st.integers(0, 99))
def test_the_same_seed_gives_the_same_folds(cohort: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    outcome, patient_ids = cohort
    assert (assign_folds(outcome, patient_ids, 3, seed) == assign_folds(outcome.copy(), patient_ids.copy(), 3, seed)).all()


def test_another_seed_gives_other_folds_and_rows_are_not_assigned_in_file_order() -> None:
    outcome = np.repeat([1, 0], [20, 180])
    one, other = assign_folds(outcome, None, 5, 0), assign_folds(outcome, None, 5, 1)
    assert (one != other).any()
    assert (one[:20] != np.arange(20) % 5).any()


def test_without_groups_every_row_is_a_patient() -> None:
    outcome = np.repeat([1, 0], [10, 33])
    fold = assign_folds(outcome, None, 5, 0)
    assert (fold == assign_folds(outcome, np.arange(43), 5, 0)).all()
    assert np.bincount(fold[:10]).tolist() == [2] * 5
    assert sorted(np.bincount(fold)) == [8, 8, 9, 9, 9]


def test_patients_with_many_rows_are_assigned_first_so_that_rows_balance() -> None:
    patient_ids = np.repeat(np.arange(12), [30, 30, 30, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    for seed in range(5):
        fold = assign_folds(np.zeros(len(patient_ids), dtype=np.int64), patient_ids, 3, seed)
        assert np.bincount(fold).tolist() == [33, 33, 33]


@pytest.mark.parametrize("folds", [2, 5])
def test_fewer_patients_than_folds_leave_folds_empty(folds: int) -> None:
    assert (assign_folds(np.array([1, 1, 0]), np.array([0, 0, 0]), folds, 0) == 0).all()


def test_both_outcomes_occur_outside_every_fold():
    patient_ids = np.repeat(np.arange(20), 3)
    outcome = np.ones(60, dtype=np.int64)
    outcome[[0, 3]] = 0  # two patients have the only rows without the event
    for seed in range(20):
        fold = split_patients(outcome, patient_ids, 5, seed)
        for f in range(int(fold.max()) + 1):
            assert len(np.unique(outcome[fold != f])) == 2


def test_an_impossible_split_is_refused():
    outcome = np.array([1] * 12 + [0] * 12)
    with pytest.raises(InputError, match="can't be split: 13 patients, 1 of them"):
        split_patients(outcome, np.array([0] * 12 + list(range(1, 13))), 5, 0)
