"""Warnings about rows that repeat: copies of rows in several patients, and ids that repeat where nobody named the patients.

Either puts the same patient on both sides of a split, and every figure on held-out rows is then too good.

Shapes: n rows.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import polars as pl

from nearward.tabular.errors import DataWarning
from nearward.tabular.typing import Bools, Ints

_COPIED, _FEWEST_COPIES = 0.05, 10  # share and number of a class's rows, from which on copies are warned of
_PATIENT = re.compile(r"(^|_|\b)(patient|subject|person|participant|member|case|mrn|pid)(_?(id|ids|nr|no|nbr|num|number|key|code|hash))?$")
_ID = re.compile(r"(^|_|\b)(id|uuid|guid)$")
_FEWEST_IDS, _ROWS_PER_ID = 20, 10  # different values of a column of ids; and rows of each, on average, of one that is not named a patient


def warn_of_copies(frame: pl.DataFrame, outcome: Ints, patient_ids: Ints, seed: int, stacklevel: int = 3) -> None:
    """Warn of rows of different patients with the same features and outcome: folds on both sides of a split then have the same rows.

    Coarse tables have identical rows by chance. So they are compared with those of the same table with each column shuffled on its own.

    Parameters
    ----------
    frame : n rows; columns of lists and objects are not compared
    outcome : (n,), class numbers from 0
    patient_ids : (n,)
    seed : int
    stacklevel : int
    """
    frame = frame.select(name for name, dtype in frame.schema.items() if not dtype.is_nested() and dtype != pl.Object)
    if frame.width == 0:
        return
    copied = _copied_rows(frame, outcome, patient_ids)
    size, copies = np.bincount(outcome), np.bincount(outcome, weights=copied)
    if not ((copies >= _FEWEST_COPIES) & (copies >= _COPIED * size)).any():
        return
    rng = np.random.default_rng(seed)
    shuffled = pl.DataFrame([column.gather(rng.permutation(frame.height)) for column in frame.iter_columns()])
    if copied.sum() < 2 * _copied_rows(shuffled, outcome, patient_ids).sum():
        return
    message = (
        f"{int(copied.sum())} of {frame.height} rows are identical to a row of another patient, in all features and the outcome. If they "
        "are copies (a repeated table, an oversampler), figures on held-out rows are too good: drop them, or give copies one id in groups"
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
    return column.dtype.is_integer() or isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum)


def _copied_rows(frame: pl.DataFrame, outcome: Ints, patient_ids: Ints) -> Bools:
    """Return the rows (n,) whose features and outcome a row of another patient has too."""
    keys = frame.with_columns(pl.Series("(outcome)", outcome)).hash_rows()
    pairs = pl.DataFrame({"key": keys, "patient": patient_ids})
    return np.asarray(pairs.select(pl.col("patient").n_unique().over("key") > 1).to_series().to_numpy())
