"""Grouped, stratified cross-validation folds: no patient is in two folds, and events are spread evenly.

Shapes: n rows, c classes.
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints


def assign_folds(outcome: Ints, patient_ids: Ints | None, folds: int, seed: int) -> Ints:
    """Assign the rows to folds: a patient's rows together, events spread evenly.

    Patients with an event and patients without are shuffled separately and assigned in turn, those with more rows first, so that folds
    differ by at most one patient of each kind.

    Parameters
    ----------
    outcome : (n,), 0 or 1
    patient_ids : (n,), numbers from 0, or None where every row is a patient of its own
    folds : int, at least 2
    seed : int

    Returns
    -------
    fold : (n,), 0 … folds - 1

    Examples
    --------
    >>> fold = assign_folds(np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 3]), folds=2, seed=0)
    >>> bool(fold[0] == fold[1]), bool(fold[2] == fold[3]), bool(fold[2] != fold[5])
    (True, True, True)
    """
    patient_ids = np.arange(len(outcome)) if patient_ids is None else patient_ids
    rows = np.bincount(patient_ids)
    events = np.bincount(patient_ids, weights=outcome)
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    order = shuffled[np.lexsort((-rows[shuffled], events[shuffled] == 0))]  # patients with an event first, then those with more rows
    return _in_turn(order, folds)[patient_ids]


def split_patients(outcome: Ints, patient_ids: Ints, folds: int, seed: int) -> Ints:
    """Assign the rows to up to ``folds`` folds, fewer where patients are few: both outcomes occur outside every fold.

    Raises
    ------
    InputError
        No such split: nearly all rows of one outcome belong to one patient.
    """
    for count in range(min(folds, len(np.unique(patient_ids)) // 2), 1, -1):
        fold = assign_folds(outcome, patient_ids, count, seed)
        events = np.bincount(fold, weights=outcome, minlength=count)
        rows = np.bincount(fold, minlength=count)
        outside = outcome.sum() - events
        if (outside > 0).all() and (len(outcome) - rows - outside > 0).all():
            return fold
    patients, affected = len(np.unique(patient_ids)), len(np.unique(patient_ids[outcome == 1]))
    raise InputError(
        f"the rows can't be split: {patients} patients, {affected} of them with the event. At least 4 patients are needed, "
        "2 of them with the event and 2 with rows without it: gather more patients, or check that groups is the patient"
    )


def split_classes(class_index: Ints, patient_ids: Ints, folds: int, seed: int) -> Ints:
    """Assign the rows of c classes to up to ``folds`` folds, each class spread evenly: every class occurs outside every fold.

    A patient with rows of several classes counts to the rarest of them.

    Parameters
    ----------
    class_index : (n,), from 0
    patient_ids : (n,), numbers from 0
    folds, seed : int

    Raises
    ------
    InputError
        No such split: nearly all rows of a class belong to one patient.

    Examples
    --------
    >>> fold = split_classes(np.array([0, 0, 1, 1, 2, 2]), np.arange(6), folds=5, seed=0)
    >>> [len(set(rows)) for rows in fold.reshape(3, 2).tolist()]  # the two rows of a class are in different folds
    [2, 2, 2]
    """
    patients, rows = int(patient_ids.max()) + 1, np.bincount(class_index)
    rank = np.argsort(np.argsort(rows, kind="stable"), kind="stable")  # 0: the rarest class
    rarest = np.full(patients, len(rows))
    np.minimum.at(rarest, patient_ids, rank[class_index])
    shuffled = np.random.default_rng(seed).permutation(patients)
    order = shuffled[np.argsort(rarest[shuffled], kind="stable")]
    for count in range(min(folds, patients // 2), 1, -1):
        fold = _in_turn(order, count)[patient_ids]
        inside = np.zeros((count, len(rows)), dtype=np.int64)
        np.add.at(inside, (fold, class_index), 1)
        if (inside < rows).all() and (inside.sum(axis=1) > 0).all():
            return fold
    raise InputError(
        f"the rows can't be split: {patients} patients in {len(rows)} classes, and nearly all rows of a class belong to one patient. "
        "Every class must occur outside every fold: merge rare classes, or gather more patients."
    )


def _in_turn(order: Ints, folds: int) -> Ints:
    """Assign patients to folds in turn, in this order; return each patient's fold, by patient number."""
    fold = np.empty_like(order)
    fold[order] = np.arange(len(order)) % folds
    return fold
