"""Splits that keep a patient on one side and every fold supplied with events."""

from __future__ import annotations

import numpy as np

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints


def assign_folds(outcome: Ints, group: Ints | None, folds: int, seed: int) -> Ints:
    """Deal the rows into folds: whole groups together, events spread evenly.

    Groups with an event and groups without are shuffled apart and dealt in turn, larger groups first, so that
    folds differ by at most one group of each kind.

    Parameters
    ----------
    outcome : (n,), 0 or 1
    group : (n,), group numbers from 0, or None where every row is its own group
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
    group = np.arange(len(outcome)) if group is None else group
    size = np.bincount(group)
    events = np.bincount(group, weights=outcome)
    shuffled = np.random.default_rng(seed).permutation(len(size))
    fold_of_group = np.empty(len(size), dtype=np.int64)
    start = 0
    for eventful in (True, False):
        chosen = shuffled[(events[shuffled] > 0) == eventful]
        chosen = chosen[np.argsort(-size[chosen], kind="stable")]
        fold_of_group[chosen] = (start + np.arange(len(chosen))) % folds
        start = (start + len(chosen)) % folds
    return fold_of_group[group]


def split_patients(outcome: Ints, group: Ints, folds: int, seed: int) -> Ints:
    """Deal the rows into up to ``folds`` folds, fewer where patients are few: what is left beside any fold has both outcomes.

    Raises
    ------
    InputError
        No such split: nearly all rows of one outcome belong to one patient.
    """
    for count in range(min(folds, len(np.unique(group)) // 2), 1, -1):
        fold = assign_folds(outcome, group, count, seed)
        events = np.bincount(fold, weights=outcome, minlength=count)
        rows = np.bincount(fold, minlength=count)
        rest = outcome.sum() - events
        if (rest > 0).all() and (len(outcome) - rows - rest > 0).all():
            return fold
    patients, affected = len(np.unique(group)), len(np.unique(group[outcome == 1]))
    raise InputError(
        f"the rows can't be split: {patients} patients, {affected} of them with the event. At least 4 patients are needed, "
        "and both outcomes among those that are left when half of them are set aside."
    )


def split_classes(code: Ints, group: Ints, folds: int, seed: int) -> Ints:
    """Deal the rows of c classes into up to ``folds`` folds, patients whole, each class spread evenly: what is left beside any has all.

    A patient with rows of several classes is dealt as one of the rarest of them.

    Parameters
    ----------
    code : (n,), class numbers from 0
    group : (n,), patient numbers from 0
    folds, seed : int

    Raises
    ------
    InputError
        No such split: nearly all rows of a class belong to one patient.

    Examples
    --------
    >>> fold = split_classes(np.array([0, 0, 1, 1, 2, 2]), np.arange(6), folds=5, seed=0)
    >>> [len(set(rows)) for rows in fold.reshape(3, 2).tolist()]  # the two rows of a class lie apart
    [2, 2, 2]
    """
    patients, size = int(group.max()) + 1, np.bincount(code)
    rank = np.argsort(np.argsort(size, kind="stable"), kind="stable")  # 0: the rarest class
    rarest = np.full(patients, len(size))
    np.minimum.at(rarest, group, rank[code])
    shuffled = np.random.default_rng(seed).permutation(patients)
    for count in range(min(folds, patients // 2), 1, -1):
        fold_of, start = np.empty(patients, dtype=np.int64), 0
        for kind in range(len(size)):
            chosen = shuffled[rarest[shuffled] == kind]
            fold_of[chosen] = (start + np.arange(len(chosen))) % count
            start = (start + len(chosen)) % count
        fold = fold_of[group]
        inside = np.zeros((count, len(size)), dtype=np.int64)
        np.add.at(inside, (fold, code), 1)
        if (inside < size).all() and (inside.sum(axis=1) > 0).all():
            return fold
    raise InputError(
        f"the rows can't be split: {patients} patients in {len(size)} classes, and nearly all rows of a class belong to one patient. "
        "Every class must be there when the patients of a fold are set aside: put rare classes together, or gather more patients."
    )
