"""Checks of tables before a synthesizer is fitted: errors that would otherwise appear after the long fit."""

from __future__ import annotations

import warnings

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.validation import validate_groups
from nearward.tabular.errors import DataWarning, InputError, SharedPatients, require_columns

_EVENTS = ("subject_id", "time", "code")  # columns of MEDS


def check_trainable(frame: pl.DataFrame, groups: str | None) -> None:
    """Check that all columns can be tokenized and that every row has a patient id; warn where patients have several rows.

    Raises
    ------
    InputError
        Times of day; missing patient ids; a table of time-stamped events.
    """
    if {*_EVENTS} <= set(frame.columns):
        raise InputError(
            f"the table holds time-stamped events ({', '.join(_EVENTS)}), and synthetic courses are not made: each synthetic row is a "
            "patient of its own. Turn the events into one row a patient first, with nearward.EventFeatures"
        )
    if times := [name for name, dtype in frame.schema.items() if dtype == pl.Time]:
        raise InputError(f"columns {times} are times of day, which have no order: make them numbers, for instance hours since midnight")
    if groups:
        validate_groups(frame.get_column(groups), frame.height, f"groups column {groups!r}")
        rows = frame.get_column(groups).value_counts(name="rows").get_column("rows")
        if several := int((rows > 1).sum()):
            warnings.warn(
                f"{several} of {len(rows)} patients have several rows: each synthetic row is a patient of its own, and courses over time "
                "are not kept",
                DataWarning,
                stacklevel=3,
            )


def align_holdout(holdout: pl.DataFrame, train: pl.DataFrame, groups: str | None) -> pl.DataFrame:
    """Return the holdout with the columns and dtypes of train.

    Raises
    ------
    MissingColumns, SharedPatients
    InputError
        Values without a counterpart in train's dtype.
    """
    require_columns(train.columns, holdout.columns)
    aligned = holdout.select(pl.col(name).cast(dtype, strict=False) for name, dtype in train.schema.items())
    for before, after in zip(holdout.select(train.columns), aligned, strict=True):  # polars' own error would show the values
        if lost := after.null_count() - before.null_count():
            dtypes = f"{dtype_name(before.dtype)} to train's {dtype_name(after.dtype)}"
            raise InputError(f"holdout: {lost} values of column {before.name!r} do not convert from {dtypes}")
    if groups and (shared := len(set(aligned.get_column(groups)) & set(train.get_column(groups)))):
        raise SharedPatients(shared, groups)
    return aligned
