"""Looks at a table before it is learned: what could not be judged or written is refused now, not after the long fit."""

from __future__ import annotations

import polars as pl

from nearward.tabular.data.validation import validate_groups
from nearward.tabular.errors import InputError, MissingColumns, SharedPatients


def check_trainable(frame: pl.DataFrame, groups: str | None) -> None:
    """Refuse at once what would be refused after the long fit, or could not be written.

    Raises
    ------
    InputError
        Times of day; rows whose patient has no name.
    """
    if times := [name for name, dtype in frame.schema.items() if dtype == pl.Time]:
        raise InputError(f"columns {times}: a time of day has no obvious meaning; make it a number, hours since midnight say")
    if groups:
        validate_groups(frame.get_column(groups), frame.height, f"groups column {groups!r}")


def align_holdout(holdout: pl.DataFrame, train: pl.DataFrame, groups: str | None) -> pl.DataFrame:
    """Return the holdout with the columns and dtypes of train.

    Raises
    ------
    MissingColumns, SharedPatients
    """
    if missing := [name for name in train.columns if name not in holdout.columns]:
        raise MissingColumns(missing, holdout.columns)
    judges = holdout.select(pl.col(name).cast(dtype) for name, dtype in train.schema.items())
    if groups and (shared := len(set(judges.get_column(groups)) & set(train.get_column(groups)))):
        raise SharedPatients(shared, groups)
    return judges
