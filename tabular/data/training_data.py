"""Outcome, patient and fold of the stored rows: the labels that travel together through every cross-fitted step.

Shapes: n stored rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class TrainingData:
    """What a cross-fitted model knows of its training rows beside their features.

    Parameters
    ----------
    outcome : (n,), 0 or 1; or class indices from 0
    patient_ids : (n,), patient numbers from 0
    fold : (n,), cross-fitting folds from 0; a patient's rows are all in one
    weight : (n,), > 0, optional
        The sampling weight: how many rows of the whole table a row stands for. None: 1 each. What is estimated of the table uses it;
        limits that ask whether enough was seen, as the rows of a leaf, count the rows themselves.

    Examples
    --------
    >>> data = TrainingData(np.array([0, 1, 0]), np.array([0, 1, 1]), np.array([0, 1, 1]))
    >>> [(f, data.take(train).outcome.tolist()) for f, train in data.splits()]
    [(0, [1, 0]), (1, [0])]
    >>> sample = replace(data, weight=np.array([2.0, 1.0, 2.0]))  # a row of the first and the third stands for two
    >>> sample.n_rows, sample.prevalence
    (5.0, 0.2)
    """

    outcome: Ints
    patient_ids: Ints
    fold: Ints
    weight: Floats | None = None

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patient_ids.max()) + 1

    @property
    def row_weight(self) -> Floats:
        """Sampling weights (n,), ones where there are none."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def n_rows(self) -> float:
        """Number of rows of the whole table for which these stand."""
        return float(self.row_weight.sum())

    @property
    def prevalence(self) -> float:
        """Prevalence of the outcome in the whole table."""
        return float(np.average(self.outcome, weights=self.weight))

    def auprc(self, score: Floats) -> float:
        """Return the average precision (AUPRC) of scores (n,) of an outcome of 0 or 1, in the whole table."""
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.outcome, score, sample_weight=self.weight))

    def train_rows(self, fold: int) -> Bools:
        """Return the mask (n,) of the rows outside a fold."""
        return np.asarray(self.fold != fold)

    def splits(self) -> Iterator[tuple[int, Bools]]:
        """Yield each fold with its training mask (n,)."""
        return ((f, self.train_rows(f)) for f in range(self.n_folds))

    def take(self, rows: NDArray[Any]) -> TrainingData:
        """Return some of the rows; patients and folds keep their numbers."""
        weight = None if self.weight is None else self.weight[rows]
        return TrainingData(self.outcome[rows], self.patient_ids[rows], self.fold[rows], weight)

    def subsample(self, most_rows: int, seed: int) -> tuple[Ints, TrainingData]:
        """Draw a case-control sample of the rows, for figures of all of them: rare classes wholly, of the others as many rows.

        Parameters
        ----------
        most_rows : int
            No more rows are drawn; all where there are no more.
        seed : int

        Returns
        -------
        rows : (t,), row numbers, in rising order
        data : TrainingData, t rows, whose weights sum to those of all rows of the same class

        Examples
        --------
        >>> data = TrainingData(np.array([1, 0, 0, 0, 0, 0, 0]), np.arange(7), np.zeros(7, dtype=int))
        >>> rows, sample = data.subsample(4, seed=0)
        >>> sorted(zip(sample.outcome.tolist(), sample.weight.tolist()))
        [(0, 2.0), (0, 2.0), (0, 2.0), (1, 1.0)]
        """
        if len(self) <= most_rows:
            return np.arange(len(self)), self
        size = np.bincount(self.outcome)
        quota = np.rint(shares_of_classes(size, most_rows) * size).astype(np.int64)
        shuffled = np.random.default_rng(seed).permutation(len(self))
        rows = np.sort(np.concatenate([shuffled[self.outcome[shuffled] == j][:most] for j, most in enumerate(quota)]))
        sample = self.take(rows)
        table, drawn = (np.bincount(one.outcome, weights=one.row_weight, minlength=len(quota)) for one in (self, sample))
        return rows, replace(sample, weight=sample.row_weight * (table / np.maximum(drawn, 1e-300))[sample.outcome])

    def one_vs_rest(self, class_index: int) -> TrainingData:
        """Return the same rows with outcome 1 where it is this class, else 0."""
        return replace(self, outcome=(self.outcome == class_index).astype(np.int64))


def shares_of_classes(rows: Ints, most_rows: int) -> Floats:
    """Return the share of each class's rows (c,) in a sample of so many: rare classes wholly, the others down to the same number of rows.

    Examples
    --------
    >>> shares_of_classes(np.array([90, 10]), 30).round(3).tolist()
    [0.222, 1.0]
    """
    quota, left = np.zeros(len(rows)), float(most_rows)
    for position, j in enumerate(np.argsort(rows, kind="stable")):
        quota[j] = min(float(rows[j]), left / (len(rows) - position))
        left -= quota[j]
    return quota / np.maximum(rows, 1)
