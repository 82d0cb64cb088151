"""Small-count suppression, primary and secondary: a count under 10 can identify a patient.

A subgroup with fewer than 10 rows, events or rows without the event, or with fewer than 10 patients behind them, is suppressed. Where the
counts shown would reveal it by subtraction from the total, the next smallest subgroup is suppressed as well, and both look the same.

All columns of a report are covered jointly: a stratum of two wards has 43 events, one of these wards 40. Every withheld small count is
bounded by linear programming from all counts that are shown, and categories that lie within one of another column are subtracted from it.
Where a small count follows, the smallest count that it follows from is suppressed too, until none does.

Shapes: ``n`` rows, ``k`` categories of a column, ``a`` atoms (combinations of categories that occur).

References
----------
Hundepool et al.: Statistical Disclosure Control (2012), 4.2 to 4.4 (secondary suppression in linked tables).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from nearward.evaluation.risk.inputs import MIN_COUNT, RiskSample
from nearward.tabular.typing import Bools, Floats, Ints

Suppression = tuple[Bools, Bools]  # of which categories (k,) the rows, and of which all results, are suppressed
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


@dataclass(frozen=True)
class _Audit:
    """Search for a shown count that discloses a small one.

    Parameters
    ----------
    sample : RiskSample
    atom : (n,), the atom of each row
    atoms : int
    """

    sample: RiskSample
    atom: Ints
    atoms: int

    def disclosing(self, categories: Sequence[_Category], suppression: Sequence[Suppression]) -> tuple[_Category, str] | None:
        """Return a shown category, and which of its counts, that a small count follows from; the smallest of those."""
        shown = {
            "rows": [one for one in categories if one.rows and not suppression[one.column][0][one.index]],
            "events": [one for one in categories if one.rows and not suppression[one.column][1][one.index]],
        }
        for kind, parts in shown.items():
            for whole, within in _nested(parts):
                rest = whole.atoms & ~np.any([part.atoms for part in within], axis=0)
                if rest.any() and self._is_small(rest, kind):
                    return min([whole, *within], key=lambda part: _size(part, kind)), kind
        return self._bounded(categories, suppression, shown)

    def _is_small(self, atoms: Bools, kind: str) -> bool:
        """Whether rows (or events, or rows without) of some atoms are few, or of few patients."""
        rows = atoms[self.atom]
        masks = [rows] if kind == "rows" else [rows & (self.sample.outcome == value) for value in (0, 1)]
        return any(len(np.unique(self.sample.patient_ids[mask])) < MIN_COUNT for mask in masks)

    def _bounded(
        self, categories: Sequence[_Category], suppression: Sequence[Suppression], shown: dict[str, list[_Category]]
    ) -> tuple[_Category, str] | None:
        """Bound every small count by all shown ones: unknown are the events and the other rows of each atom."""
        sources: list[tuple[_Category, str] | None] = [None, None]  # the totals cannot be suppressed
        sources += [(part, kind) for kind, parts in shown.items() for part in parts]
        everything = np.ones(self.atoms)
        lines = [_line(everything, "events"), _line(everything, "others")]
        lines += [_line(part.atoms, kind) for kind, parts in shown.items() for part in parts]
        totals = [self.sample.events, self.sample.rows - self.sample.events]
        known = np.array([*totals, *(part.rows for part in shown["rows"]), *(part.events for part in shown["events"])], dtype=float)
        matrix = sparse.csr_matrix(np.stack(lines))
        for category in categories:
            rows_hidden, hidden = (mask[category.index] for mask in suppression[category.column])
            for kind in category.small:
                if not category.rows or not (rows_hidden if kind == "rows" else hidden):
                    continue
                objective = _line(category.atoms, kind)
                ends = [optimize.linprog(sign * objective, A_eq=matrix, b_eq=known, method="highs") for sign in (1, -1)]
                if -ends[1].fun - ends[0].fun >= MIN_COUNT - 1e-6:
                    continue
                used = np.abs([end.eqlin.marginals for end in ends]).max(axis=0) > 1e-9
                candidates = [one for one, is_used in zip(sources, used, strict=True) if one is not None and is_used]
                candidates = candidates or [one for one in sources if one is not None]
                if candidates:
                    return min(candidates, key=lambda one: _size(*one))
        return None


def _nested(parts: Sequence[_Category]) -> Iterator[tuple[_Category, list[_Category]]]:
    """Each category with the categories of another column that lie within it."""
    for whole in parts:
        for column in {part.column for part in parts} - {whole.column}:
            within = [part for part in parts if part.column == column and not (part.atoms & ~whole.atoms).any()]
            if within:
                yield whole, within


def _line(atoms: NDArray[np.generic], kind: str) -> Floats:
    """Coefficients of a count over the events and the other rows of each atom (2a,)."""
    weight = atoms.astype(float)
    return np.concatenate([weight * (kind != "others"), weight * (kind != "events")])


def _size(category: _Category, kind: str) -> tuple[int, int, int]:
    size = category.rows if kind == "rows" else min(category.events, category.rows - category.events)
    return size, category.column, category.index
