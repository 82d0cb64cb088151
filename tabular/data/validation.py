"""Checks of what users hand to ``fit``: rows, outcomes and patients.

Letters: n rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.table_io import to_frame, to_series
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints


def read_rows(X: Any, y: Any, groups: Any) -> tuple[pl.DataFrame, NDArray[Any], Ints]:
    """Return a frame, an outcome without holes (n,), and patient numbers (n,) from what users hand to ``fit``.

    Raises
    ------
    InputError
        Lengths that differ; an outcome or a patient that is missing; text beside numbers.
    """
    frame = to_frame(X)
    outcome = read_column("the outcome", y, frame.height)
    return frame, np.asarray(outcome.to_numpy()), read_patients(groups, frame.height)


def read_patients(groups: Any, rows: int) -> Ints:
    """Return patient numbers (n,): each row's own where there are no groups; errors as ``read_rows``."""
    if groups is None:
        return np.arange(rows)
    return read_column("groups", groups, rows).rank("dense").to_numpy().astype(np.int64) - 1


def read_event(values: NDArray[Any], positive: Any = None) -> tuple[NDArray[Any], Ints]:
    """Return the two classes, the event last (by default the greater value), and the outcome as 0 and 1 (n,)."""
    classes = np.unique(values)
    if len(classes) != 2:
        raise InputError(f"the outcome has {len(classes)} different values, an event happens or it does not")
    if positive is not None:
        if not (classes == positive).any():
            raise InputError(f"no row has the outcome value named as positive ({positive!r}, {type(positive).__name__})")
        classes = np.array([classes[classes != positive][0], classes[classes == positive][0]])
    return classes, (values == classes[1]).astype(np.int64)


def check_counts(**settings: Any) -> None:
    """Refuse settings that are no whole numbers from 1."""
    for name, value in settings.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} must be a whole number from 1, got {name}={value!r}")


def read_column(what: str, values: Any, rows: int) -> pl.Series:
    """Return one column without holes (n,); errors as ``read_rows``."""
    series = to_series(what, values)
    if len(series) != rows:
        raise InputError(f"{what} has {len(series)} values and the frame {rows} rows")
    if series.null_count():
        raise InputError(f"{what} is missing (null or NaN) in {series.null_count()} of {rows} rows: drop them, or find out what happened")
    return series
