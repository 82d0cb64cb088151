"""The teaching sample: the rows that a model of a large table learns from, and how many rows of the table each of them stands for.

Rare outcomes teach by their events. Beyond the limit of ``Effort.teaching_rows`` all patients with the event are in the sample, and a
random sample of the others (a case-control sample); weights give every class and stratum its rows in the whole table. All other rows are
indexed only: they are found as similar patients, and nothing is learned from them.

Shapes: n rows of the table, t rows of the sample, c classes, p patients.

References
----------
Horvitz, Thompson: A generalization of sampling without replacement from a finite universe (1952); post-stratified here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import polars as pl

from nearward.retrieval.neighbors.vector_store import Vectors, compute
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import shares_of_classes
from nearward.tabular.typing import Bools, Floats, Ints

BLOCK_ROWS = 65_536
_FEWEST_IN_STRATUM = 200  # rows; smaller strata are one


@dataclass(frozen=True)
class Block:
    """Some rows that are indexed and teach nothing.

    Parameters
    ----------
    read : callable that returns the conformed rows, b of them
    outcome, patient_ids, fold : (b,)
    remember : callable, as in ``IndexBlock``
    """

    read: Callable[[], pl.DataFrame]
    outcome: Ints
    patient_ids: Ints
    fold: Ints
    remember: Callable[[Callable[[], Vectors]], Vectors] = compute


class OtherRows(Protocol):
    """Rows that are indexed and teach nothing, in blocks: a frame in memory, or files."""

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks; at each call the same.

        No patient has a row in the teaching sample; the numbers follow on those of its patients.
        """


@dataclass(frozen=True)
class TeachingSample:
    """Rows of a table that teach.

    Parameters
    ----------
    rows : (t,), row numbers, in rising order
    weight : (t,), how many rows of the table each stands for; within each class and stratum they sum to its rows
    """

    rows: Ints
    weight: Floats

    def others(self, n: int) -> Ints:
        """Return the numbers of the other rows of a table of n, in rising order."""
        other = np.ones(n, dtype=bool)
        other[self.rows] = False
        return np.flatnonzero(other)

    def order(self, n: int) -> Ints:
        """Return the row numbers of a table of n in the order in which they are stored: those that teach, then the others."""
        return np.append(self.rows, self.others(n))


@dataclass(frozen=True)
class FrameRows:
    """Other rows in memory.

    Parameters
    ----------
    frame : conformed, m rows
    outcome, patient_ids, fold : (m,)
    """

    frame: pl.DataFrame
    outcome: Ints
    patient_ids: Ints
    fold: Ints

    @classmethod
    def of(cls, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints, folds: int, seed: int) -> FrameRows:
        """Deal the patients of m rows to folds."""
        return cls(frame, outcome, patient_ids, deal_patients(outcome, patient_ids, folds, seed))

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in blocks."""
        for begin in range(0, len(self.outcome), BLOCK_ROWS):
            part = slice(begin, begin + BLOCK_ROWS)
            yield Block(partial(self.frame.__getitem__, part), self.outcome[part], self.patient_ids[part], self.fold[part])


def deal_patients(outcome: Ints, patient_ids: Ints, folds: int, seed: int) -> Ints:
    """Deal the patients of m rows to folds, events evenly; returns the fold of each row (m,)."""
    dense = np.unique(patient_ids, return_inverse=True)[1]
    return assign_folds((outcome > 0).astype(np.int64), dense, folds, seed)


def choose_teaching_sample(
    outcome: Ints, patient_ids: Ints, most_rows: int, seed: int, stratum: Ints | None = None
) -> TeachingSample | None:
    """Choose the rows that teach; None where the table has no more than ``most_rows`` rows: all of them do.

    A patient is in the sample with all rows or with none, and belongs to the rarest class among them. The limit is divided evenly among
    the classes: a class with fewer rows than its part is in the sample wholly, and leaves the rest to the others.

    Parameters
    ----------
    outcome : (n,), class numbers from 0
    patient_ids : (n,), patient numbers from 0
    most_rows : int
        About as many rows are chosen.
    seed : int
    stratum : (n,), numbers from 0, optional
        Sites for instance; strata under 200 rows count as one. A patient belongs to the stratum of the first row.

    Examples
    --------
    >>> outcome = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    >>> sample = choose_teaching_sample(outcome, np.arange(8), most_rows=4, seed=0)
    >>> sorted(zip(outcome[sample.rows].tolist(), sample.weight.round(2).tolist()))
    [(0, 2.33), (0, 2.33), (0, 2.33), (1, 1.0)]
    """
    n = len(outcome)
    if n <= most_rows:
        return None
    stratum = np.zeros(n, dtype=np.int64) if stratum is None else _pool_small(stratum)
    size = np.bincount(outcome)
    commonness = np.argsort(np.argsort(size, kind="stable"), kind="stable")  # 0: the rarest class
    patients = int(patient_ids.max()) + 1
    group = np.full(patients, len(size))  # the commonness of each patient's rarest class
    np.minimum.at(group, patient_ids, commonness[outcome])
    home = np.zeros(patients, dtype=np.int64)
    home[patient_ids[::-1]] = stratum[::-1]  # the first row's
    share = shares_of_classes(np.bincount(group[patient_ids], minlength=len(size)), most_rows)
    chosen = _choose_patients(group, home, share, np.random.default_rng(seed))
    cell = outcome * (int(stratum.max()) + 1) + stratum  # class and stratum of each row
    _add_absent_cells(chosen, cell, patient_ids)
    rows = np.flatnonzero(chosen[patient_ids])
    return TeachingSample(rows, _weights(cell, group[patient_ids], rows))


def number_patients(patient_ids: Ints) -> Ints:
    """Number patients (n,) anew from 0, in the order in which they come.

    Examples
    --------
    >>> number_patients(np.array([7, 3, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(patient_ids, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], dtype=np.int64)


def rescaled(weight: Floats, outcome: Ints) -> Floats:
    """Return sampling weights (n,), 0 of rows that teach nothing, whose sums are the stored rows of each class again.

    Stored rows (n,) are the whole table; some of them were removed.
    """
    table = np.bincount(outcome)
    factor = table / np.maximum(np.bincount(outcome, weights=weight, minlength=len(table)), 1e-300)
    return np.asarray(weight * factor[outcome])


def _pool_small(stratum: Ints) -> Ints:
    """Number strata anew, all small ones together as 0."""
    small = np.bincount(stratum) < _FEWEST_IN_STRATUM
    return np.unique(np.where(small[stratum], -1, stratum), return_inverse=True)[1].astype(np.int64)


def _choose_patients(group: Ints, home: Ints, share: Floats, rng: np.random.Generator) -> Bools:
    """Choose a share of the patients (p,) of each class and stratum, at random and at least one; numbers without a row never."""
    known = np.flatnonzero(group < len(share))
    cell = group[known] * (int(home.max()) + 1) + home[known]
    shuffled = rng.permutation(len(known))
    order = shuffled[np.argsort(cell[shuffled], kind="stable")]
    size = np.bincount(cell)
    first = np.cumsum(size) - size
    rank = np.arange(len(order)) - first[cell[order]]  # within the cell
    wanted = np.maximum(np.round(size[cell[order]] * share[group[known[order]]]), 1)
    chosen = np.zeros(len(group), dtype=bool)
    chosen[known[order[rank < wanted]]] = True
    return chosen


def _add_absent_cells(chosen: Bools, cell: Ints, patient_ids: Ints) -> None:
    """Add a patient for each class and stratum that no chosen patient has a row of: no weight could stand for it."""
    present = np.bincount(cell[chosen[patient_ids]], minlength=int(cell.max()) + 1) > 0
    absent, first = np.unique(cell[~present[cell]], return_index=True)
    if len(absent):
        chosen[patient_ids[np.flatnonzero(~present[cell])[first]]] = True


def _weights(cell: Ints, group: Ints, rows: Ints) -> Floats:
    """Return the weights of chosen rows: table over sample by class and stratum of the row (n,) and class of its patient (n,).

    Where no row of a patients' class was chosen, its rows are spread over the others of the same class and stratum.
    """
    fine = cell * (int(group.max()) + 1) + group
    table, sample = np.bincount(fine), np.bincount(fine[rows], minlength=int(fine.max()) + 1)
    representable = np.bincount(cell[sample[fine] > 0], minlength=int(cell.max()) + 1)
    spread = np.bincount(cell) / np.maximum(representable, 1)  # 1 where every patients' class is among the chosen
    return np.asarray(table[fine[rows]] / sample[fine[rows]] * spread[cell[rows]])
