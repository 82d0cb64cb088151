"""Checks of tables before a synthesizer is fitted: errors that would otherwise appear after the long fit."""

from __future__ import annotations

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.validation import validate_groups
from nearward.tabular.errors import InputError, SharedPatients, require_columns


def check_trainable(frame: pl.DataFrame, groups: str | None) -> None:
    """Check that all columns can be tokenized and that every row has a patient id.

    Raises
    ------
    InputError
        Times of day; missing patient ids.
    """
    if times := [name for name, dtype in frame.schema.items() if dtype == pl.Time]:
        raise InputError(f"columns {times} are times of day, which have no order: make them numbers, for instance hours since midnight")
    if groups:
        validate_groups(frame.get_column(groups), frame.height, f"groups column {groups!r}")


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
