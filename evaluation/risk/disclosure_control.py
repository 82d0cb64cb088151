"""Small-count suppression, primary and secondary: a count under 10 can identify a patient.

A subgroup with fewer than 10 rows, events or rows without the event, or with fewer than 10 patients behind them, is suppressed. Where the
counts shown would reveal it by subtraction from the total, the next smallest subgroup is suppressed as well, and both look the same.

All columns of a report are covered jointly: a stratum of two wards has 43 events, one of these wards 40. No sum or difference of shown
counts may be the count of fewer than 10 patients, in a category or in any other set of atoms (a column's categories combined with those
of the others), and every withheld small count is bounded by linear programming from all counts that are shown. Where a small count
follows, the smallest count that it follows from is suppressed too, until none does.

Shapes: ``n`` rows, ``k`` categories of a column, ``a`` atoms (combinations of categories that occur).

References
----------
Hundepool et al.: Statistical Disclosure Control (2012), 4.2 to 4.4 (secondary suppression in linked tables).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, sparse

from nearward.evaluation.risk.inputs import MIN_COUNT, RiskSample
from nearward.tabular.typing import Bools, Floats, Ints

Suppression = tuple[Bools, Bools]  # of which categories (k,) the rows, and of which all results, are suppressed
_MOST_PIVOTS = 10  # up to which all 2 ** pivots sets of cells are tried
SUPPRESSED = "<10*"
SUPPRESSION_NOTE = (
    f"{SUPPRESSED}: fewer than {MIN_COUNT} patients, events or rows without the event here, or in a neighbour which this number would give "
    "away; nothing is computed there."
)


def show_count(count: int | None) -> str:
    """Return a count as it is shown, ``<10*`` where it is suppressed."""
    return SUPPRESSED if count is None else str(count)


def suppress_small_counts(rows: Ints, events: Ints, patients: Sequence[Ints] = ()) -> tuple[Bools, Bools]:
    """Return of which subgroups the number of rows, and of which all results, are suppressed.

    Parameters
    ----------
    rows, events : (subgroups,)
    patients : (subgroups,) each
        Numbers of patients behind the rows, the events …: ten visits may be one patient's.

    Returns
    -------
    rows_suppressed, suppressed : (subgroups,)
        The first implies the second. Never one subgroup alone, and never fewer than 10 rows, events or rows without in total.

    Examples
    --------
    >>> import numpy as np
    >>> suppress_small_counts(np.array([500, 300, 60]), np.array([50, 30, 3]))[1].tolist()
    [False, True, True]
    """
    non_events = rows - events
    suppressed = np.any([count < MIN_COUNT for count in (rows, events, non_events, *patients)], axis=0)
    suppressed = secondary_suppression(suppressed, np.minimum(events, non_events), [rows, events, non_events])
    few_rows = np.any([count < MIN_COUNT for count in (rows, *patients[:1])], axis=0)
    rows_suppressed = secondary_suppression(few_rows, rows, [rows])
    return rows_suppressed, suppressed | rows_suppressed


def secondary_suppression(suppressed: Bools, size: Ints, counts: Sequence[Ints]) -> Bools:
    """Suppress the next smallest until several are suppressed, and their total is not small either."""
    suppressed = suppressed.copy()
    while suppressed.any() and not suppressed.all() and (suppressed.sum() < 2 or any(c[suppressed].sum() < MIN_COUNT for c in counts)):
        suppressed[min(np.flatnonzero(~suppressed), key=lambda index: (int(size[index]), index))] = True
    return suppressed


@dataclass(frozen=True)
class _Category:
    """A category of a shown column: its atoms (a,), counts, and whether rows and results are suppressed."""

    column: int
    index: int
    atoms: Bools
    rows: int
    events: int
    small: tuple[str, ...]  # which of its counts are small: "rows", "events", "others"


def suppress_jointly(sample: RiskSample, columns: Sequence[tuple[Ints, int]]) -> list[Suppression]:
    """Suppress small counts in every column, and what reveals them in any other.

    Parameters
    ----------
    sample : RiskSample of n rows
    columns : the category of each row (n,) and the number of categories, each

    Returns
    -------
    rows_suppressed, suppressed : (k,) each, see ``suppress_small_counts``
    """
    if not columns:
        return []
    atoms, atom = np.unique(np.stack([category for category, _ in columns], axis=1), axis=0, return_inverse=True)
    audit = _Audit(sample, atom.ravel(), len(atoms))
    suppression, categories = [], []
    for number, (category, size) in enumerate(columns):
        (rows, events), patients = counts_by_category(sample, category, size)
        suppression.append(suppress_small_counts(rows, events, patients))
        for index in range(size):
            small = np.array([rows[index], events[index], rows[index] - events[index]]) < MIN_COUNT
            small |= np.array([count[index] for count in patients]) < MIN_COUNT
            names = tuple(name for name, is_small in zip(_COUNTS, small, strict=True) if is_small)
            categories.append(_Category(number, index, atoms[:, number] == index, int(rows[index]), int(events[index]), names))
    if len(columns) > 1:
        while (disclosing := audit.disclosing(categories, suppression)) is not None:
            part, kind = disclosing
            rows_suppressed, suppressed = suppression[part.column]
            suppressed[part.index] = True
            if kind == "rows":
                rows_suppressed[part.index] = True
    return suppression


def counts_by_category(sample: RiskSample, category: Ints, size: int) -> tuple[list[Ints], list[Ints]]:
    """Rows and events of each category, and the patients behind rows, events and rows without the event, (size,) each."""
    counts, patients = [], []
    for mask in (sample.outcome >= 0, sample.outcome == 1, sample.outcome == 0):
        counts.append(np.bincount(category[mask], minlength=size))
        pairs = np.unique(np.stack([category[mask], sample.patient_ids[mask]]), axis=1)
        patients.append(np.bincount(pairs[0], minlength=size))
    return counts[:2], patients


_COUNTS = ("rows", "events", "others")
_Shown = tuple[_Category, str]  # a category, and which of its counts is shown: "rows" or "events"


@dataclass(frozen=True)
class _Audit:
    """Search for a shown count that discloses a small one.

    Parameters
    ----------
    sample : RiskSample
    atom : (n,), the atom of each row
    atoms : int
    safe : set of (column, category, count)
        Small counts that are known not to follow.
    """

    sample: RiskSample
    atom: Ints
    atoms: int
    safe: set[tuple[int, int, str]] = field(default_factory=set)

    @cached_property
    def patients(self) -> Ints:
        """Patients behind the events, then behind the other rows, of each atom (2a,)."""
        cells = np.where(self.sample.outcome == 1, self.atom, self.atom + self.atoms)
        pairs = np.unique(np.stack([cells, self.sample.patient_ids]), axis=1)
        return np.bincount(pairs[0], minlength=2 * self.atoms)

    @cached_property
    def counts(self) -> Floats:
        """Events, then other rows, of each atom (2a,)."""
        cells = np.where(self.sample.outcome == 1, self.atom, self.atom + self.atoms)
        return np.bincount(cells, minlength=2 * self.atoms).astype(float)

    def _varies(self, objective: Floats, matrix: Floats) -> bool:
        """Whether a count certainly has bounds 10 apart: a step of affine scaling from the true counts, which spares the linear programme.

        Counts ``x (1 + t d)`` agree with all that is shown, and none is negative, while ``t`` is small enough.
        """
        target = self.counts * objective
        scaled = (matrix * self.counts).T
        d = target - scaled @ np.linalg.lstsq(scaled, target, rcond=None)[0]
        if np.abs(d).max() < 1e-9:
            return False
        reach = 1 / max(-d.min(), 1e-12) + 1 / max(d.max(), 1e-12)
        return bool(min(reach, 1e12) * (d @ d) >= MIN_COUNT)

    def disclosing(self, categories: Sequence[_Category], suppression: Sequence[Suppression]) -> tuple[_Category, str] | None:
        """Return a shown category, and which of its counts, that a small count follows from; the smallest of those."""
        shown = [(one, "rows") for one in categories if one.rows and not suppression[one.column][0][one.index]]
        shown += [(one, "events") for one in categories if one.rows and not suppression[one.column][1][one.index]]
        everything = np.ones(self.atoms)
        lines = [_line(everything, "events"), _line(everything, "others"), *(_line(part.atoms, kind) for part, kind in shown)]
        matrix = np.stack(lines)
        return self._combined(shown, matrix) or self._bounded(categories, suppression, shown, matrix)

    def _combined(self, shown: Sequence[_Shown], matrix: Floats) -> _Shown | None:
        """Search sums and differences of shown counts (j, 2a) that count fewer than 10 patients, in whatever cells of the table.

        A cell is the events, or the other rows, of an atom. Cells of 10 patients and more must cancel out. What the shown counts say
        of the others is brought to echelon form: a set of cells is then fixed by its pivots. All sets are tried where there are few
        pivots, otherwise those with one or two.
        """
        few = self.patients < MIN_COUNT
        kernel = linalg.null_space(matrix[:, ~few].T) if (~few).any() else np.eye(len(matrix))  # (j, d)
        echelon, pivots = _echelon(kernel.T @ matrix[:, few])  # (pivots, few)
        sizes = range(1, len(pivots) + 1) if len(pivots) <= _MOST_PIVOTS else (1, 2)
        for size in sizes:
            for chosen in itertools.combinations(range(len(pivots)), size):
                cells = echelon[list(chosen)].sum(axis=0)  # (few,)
                is_set = (np.abs(cells * (cells - 1)) < 1e-6).all()
                if is_set and self.patients[few] @ cells.round() < MIN_COUNT:
                    return self._smallest_used(shown, matrix, few, cells.round())
        return None

    def _smallest_used(self, shown: Sequence[_Shown], matrix: Floats, few: Bools, cells: Floats) -> _Shown | None:
        target = np.zeros(matrix.shape[1])
        target[few] = cells
        coefficients = np.linalg.lstsq(matrix.T, target, rcond=None)[0][2:]  # the totals cannot be suppressed
        candidates = [one for one, c in zip(shown, coefficients, strict=True) if abs(c) > 1e-6] or list(shown)
        return min(candidates, key=lambda one: _size(*one)) if candidates else None

    def _bounded(
        self, categories: Sequence[_Category], suppression: Sequence[Suppression], shown: Sequence[_Shown], matrix: Floats
    ) -> _Shown | None:
        """Bound every small count by all shown ones: unknown are the events and the other rows of each atom."""
        known = np.array([self.sample.events, self.sample.rows - self.sample.events, *(_count(*one) for one in shown)], dtype=float)
        equations = sparse.csr_matrix(matrix)
        for category in categories:
            rows_hidden, hidden = (mask[category.index] for mask in suppression[category.column])
            for kind in category.small:
                name = (category.column, category.index, kind)
                if not category.rows or not (rows_hidden if kind == "rows" else hidden) or name in self.safe:
                    continue
                objective = _line(category.atoms, kind)
                if self._varies(objective, matrix):
                    self.safe.add(name)
                    continue
                ends = [optimize.linprog(sign * objective, A_eq=equations, b_eq=known, method="highs") for sign in (1, -1)]
                if -ends[1].fun - ends[0].fun >= MIN_COUNT - 1e-6:
                    self.safe.add(name)  # the bounds only widen when more is suppressed
                    continue
                used = np.abs([end.eqlin.marginals for end in ends]).max(axis=0)[2:] > 1e-9  # the totals cannot be suppressed
                candidates = [one for one, is_used in zip(shown, used, strict=True) if is_used] or list(shown)
                if candidates:
                    return min(candidates, key=lambda one: _size(*one))
        return None


def _echelon(matrix: Floats) -> tuple[Floats, Ints]:
    """Reduced row echelon form of a matrix (d, k): its rows that are not zero, and the column of each row's pivot."""
    matrix = matrix.copy()
    pivots: list[int] = []
    for column in range(matrix.shape[1]):
        row = len(pivots)
        if row == len(matrix):
            break
        largest = row + int(np.abs(matrix[row:, column]).argmax())
        if abs(matrix[largest, column]) < 1e-8:
            continue
        matrix[[row, largest]] = matrix[[largest, row]]
        matrix[row] /= matrix[row, column]
        others = np.arange(len(matrix)) != row
        matrix[others] -= np.outer(matrix[others, column], matrix[row])
        pivots.append(column)
    return matrix[: len(pivots)], np.array(pivots, dtype=np.int64)


def _line(atoms: NDArray[np.generic], kind: str) -> Floats:
    """Coefficients of a count over the events and the other rows of each atom (2a,)."""
    weight = atoms.astype(float)
    return np.concatenate([weight * (kind != "others"), weight * (kind != "events")])


def _count(category: _Category, kind: str) -> int:
    return category.rows if kind == "rows" else category.events


def _size(category: _Category, kind: str) -> tuple[int, int, int]:
    size = category.rows if kind == "rows" else min(category.events, category.rows - category.events)
    return size, category.column, category.index
