"""The outcome as a synthesizer sees it: which of its values is the rare one, which rows have it, and whether they are enough.

Letters: n rows.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.typing import Floats, Ints

_FEWEST_ROWS, _FEWEST_EVENTS = 200, 20


def rare_event(column: pl.Series, positive: Any = None) -> tuple[Any, Ints]:
    """Return the rare value, by default the rarest, and which rows have it (n,), 1 or 0.

    Raises
    ------
    InputError
        Fewer than 200 rows, missing outcomes, one value only, no row with ``positive``. Under 20 events: a warning.

    Examples
    --------
    >>> value, event = rare_event(pl.Series("died", ["no"] * 280 + ["yes"] * 20))
    >>> value, int(event.sum())
    ('yes', 20)
    """
    if len(column) < _FEWEST_ROWS:
        raise InputError(f"{len(column)} rows: a synthesizer needs {_FEWEST_ROWS}; fewer would be remembered, not learned")
    if column.null_count():
        raise InputError(f"outcome {column.name!r} is missing in {column.null_count()} rows: drop these")
    table = column.alias("value").value_counts(name="rows").sort(["rows", "value"])
    if table.height < 2:
        raise InputError(f"outcome {column.name!r} has one value only")
    rare = table["value"][0] if positive is None else positive
    event: Ints = (column == rare).to_numpy().astype(np.int64)
    if not event.any():
        raise InputError(f"no row of outcome {column.name!r} has the value that positive names")
    if event.sum() < _FEWEST_EVENTS:
        warnings.warn(
            f"{int(event.sum())} rows with the rare outcome, under {_FEWEST_EVENTS}: their share is kept; "
            "how they differ is not learned reliably",
            DataWarning,
            stacklevel=3,
        )
    return rare, event


def encode_patients(patients: pl.Series) -> Ints:
    """Number the patients (n,), all of them named, from 0."""
    return patients.rank("dense").to_numpy().astype(np.int64) - 1


def target_shares(rows: Ints, rare: int, target: float) -> Floats:
    """Return the share of each of an outcome's tokens (size,) where the rare one shall have ``target``; the others keep their proportions.

    Parameters
    ----------
    rows : (size,), learned rows with each token
    rare : int
    target : float

    Examples
    --------
    >>> target_shares(np.array([0, 60, 30, 10]), 3, 0.4).tolist()
    [0.0, 0.4, 0.2, 0.4]
    """
    others = rows.astype(np.float64)
    others[rare] = 0
    shares = (1 - target) * others / others.sum()
    shares[rare] = target
    return np.asarray(shares)


def value_counts(column: pl.Series) -> dict[str, int]:
    """Return how many rows have each value, by its text."""
    table = as_text(column, column.name).alias("value").value_counts(name="rows").sort("value")
    return dict(zip(table["value"].to_list(), table["rows"].to_list(), strict=True))
