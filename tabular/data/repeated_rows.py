"""Warnings about rows that repeat: copies of rows in several patients, and ids that repeat where nobody named the patients.

Either puts the same patient on both sides of a split, and every figure on held-out rows is then too good.

Shapes: n rows.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import DataWarning
from nearward.tabular.typing import Bools, Ints

_COPIED, _FEWEST_COPIES = 0.05, 10  # share of a class's rows, and number of different ones, from which on copies are warned of
_ALL_DIFFER = 0.995  # share of different ones among a column's values, from which on two equal ones are no chance
_CHANCE = 3  # rows that nearly equal one row, for each that is a copy: more of them, and equal rows are chance
_SAMPLE = 2_000  # rows, for the dependence of columns
_OUTCOME = "(outcome)"
_PATIENT = re.compile(r"(^|_|\b)(patient|subject|person|participant|member|case|mrn|pid)(_?(id|ids|nr|no|nbr|num|number|key|code|hash))?$")
_ID = re.compile(r"(^|_|\b)(id|uuid|guid)$")
_FEWEST_IDS, _ROWS_PER_ID = 20, 10  # different values of a column of ids; and rows of each, on average, of one that is not named a patient


def warn_of_copies(frame: pl.DataFrame, outcome: Ints, patient_ids: Ints, stacklevel: int = 3) -> None:
    """Warn of rows of different patients with the same features and outcome: folds on both sides of a split then have the same rows.

    Rows that are equal by chance, in a coarse table, come with more rows that are nearly equal: they differ in one column, and in a second
    one where that depends on the first. A copy of a row that is like no other does not. So rows are counted that equal a row of another
    patient and nearly equal none, and warned of where they are 5 % of a class, of ten different rows or more, and at least a third as many
    as those that equal none and nearly equal one. Where all columns are coarse and the table is dense, copies are not told from chance, and
    not warned of.

    Parameters
    ----------
    frame : n rows; columns of lists and objects are not compared
    outcome : (n,), class numbers from 0
    patient_ids : (n,)
    stacklevel : int
    """
    frame = frame.select(name for name, dtype in frame.schema.items() if not dtype.is_nested() and dtype != pl.Object)
    if frame.is_empty():
        return
    hashes = _RowHashes(frame.with_columns(pl.Series(_OUTCOME, outcome)), patient_ids)

    def by_class(rows: Bools) -> Ints:
        return np.bincount(outcome[rows], minlength=int(outcome.max()) + 1)

    size = np.bincount(outcome)
    if (by_class(hashes.equal > 0) < _COPIED * size).all():
        return
    near = hashes.nearly_equal()
    copied, chance = (hashes.equal > 0) & (near == 0), (hashes.equal == 0) & (near == 1)
    different = by_class(copied & hashes.first) >= _FEWEST_COPIES
    if not (different & (by_class(copied) >= _COPIED * size) & (_CHANCE * by_class(copied) > by_class(chance))).any():
        return
    message = (
        f"{int(copied.sum())} of {frame.height} rows are identical to a row of another patient, in all features and the outcome, and too "
        "unlike all others for chance. If they are copies (a repeated table, an oversampler), figures on held-out rows are too good: drop "
        "them, or give copies one id in groups"
    )
    warnings.warn(message, DataWarning, stacklevel=stacklevel)


def warn_of_repeated_ids(frame: pl.DataFrame, stacklevel: int = 3) -> None:
    """Warn of columns that look like patient ids and repeat; for tables whose patients were not named.

    By their names: ``patient_nbr``, ``subject_id``, ``mrn``; and ``…_id`` where there are at most ten rows of each on average.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_repeated_ids(pl.DataFrame({"patient_nbr": list(range(50)) * 2, "admission_type_id": [1, 2] * 50}))
    >>> [str(warning.message)[:55] for warning in caught]
    ["column 'patient_nbr' looks like ids and repeats: 50 dif"]
    """
    for column in frame.iter_columns():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.name).lower().replace(" ", "_")
        if not (_PATIENT.search(name) or _ID.search(name)) or not _is_discrete(column):
            continue
        ids, present = column.drop_nulls().n_unique(), column.count()
        if ids == present or ids < _FEWEST_IDS or (not _PATIENT.search(name) and _ROWS_PER_ID * ids < present):
            continue
        warnings.warn(
            f"column {column.name!r} looks like ids and repeats: {ids} different values in {present} rows, and no groups were given. Rows "
            "of one patient would be on both sides of splits, and figures on held-out rows too good: pass the patients as groups (--group)",
            DataWarning,
            stacklevel=stacklevel,
        )


def _is_discrete(column: pl.Series) -> bool:
    return column.dtype.is_integer() or is_text(column.dtype)


class _RowHashes:
    """The rows of a table as sums of hashes of their values, so that a column is left out by subtraction.

    Attributes
    ----------
    equal : (n,), number of other patients with a row that is the same in all columns
    first : (n,), whether no earlier row is the same
    """

    def __init__(self, frame: pl.DataFrame, patient_ids: Ints) -> None:
        self.frame, self.patients = frame, pl.Series("patient", patient_ids)
        self._one_row_each = self.patients.n_unique() == frame.height
        self.row = np.zeros(frame.height, dtype=np.uint64)
        for j in range(frame.width):
            self.row += self._column(j)  # modulo 2⁶⁴
        self.equal = self._other_patients(self.row)
        self.first: Bools = pl.Series(self.row).is_first_distinct().to_numpy()

    def nearly_equal(self) -> Ints:
        """Return the largest number of other patients with a row that differs in one column, or in that and its partner (n,).

        A partner is the column that depends on it most: another dummy of a category, the same number in another unit. Columns whose values
        all differ, as those of a measurement that is not rounded, are not left out: nothing is equal in them by chance.
        """
        near, distinct = np.zeros(len(self.row), dtype=np.int64), self.frame.filter(self.first)
        coarse = [column.drop_nulls().n_unique() < _ALL_DIFFER * column.count() for column in distinct.iter_columns()]
        for j, partner in enumerate(_partners(distinct)):
            if coarse[j]:
                others = self.row - self._column(j)
                if partner != j and coarse[partner]:
                    others -= self._column(partner)
                near = np.maximum(near, self._other_patients(others) - self.equal)
        return near

    def _column(self, j: int) -> NDArray[np.uint64]:
        return self.frame.select(self.frame.columns[j]).hash_rows(seed=j).to_numpy()

    def _other_patients(self, key: NDArray[np.uint64]) -> Ints:
        """Return the number of other patients with a row of the same key (n,)."""
        patients = pl.len() if self._one_row_each else pl.col("patient").n_unique()
        count = pl.DataFrame([pl.Series("key", key), self.patients]).select(patients.over("key")).to_series()
        return np.asarray(count.to_numpy(), dtype=np.int64) - 1


def _partners(frame: pl.DataFrame) -> Ints:
    """Return for each column (d,) the other one that correlates with it most in a sample of the rows, itself where none does.

    Categories are taken by their rank.
    """
    sample = frame.sample(min(_SAMPLE, frame.height), seed=0)
    ranks = np.array([column.rank("dense").fill_null(0).to_numpy() for column in sample.iter_columns()], dtype=np.float64)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    correlation = np.abs(unit @ unit.T)
    np.fill_diagonal(correlation, 4 / sample.height**0.5)  # four standard errors: less is none
    return np.asarray(correlation.argmax(axis=0))
