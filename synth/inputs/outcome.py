"""The outcome of a synthesizer: its event, its shares and its counts.

Shapes: n rows.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.validation import named_values, validate_target
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.typing import Floats, Ints

_FEWEST_ROWS, _FEWEST_EVENTS, _FEWEST_PATIENTS = 200, 20, 5


def read_event(column: pl.Series, positive: Any = None, patient_ids: Ints | None = None) -> tuple[Any, Ints]:
    """Return the value that is the event and which rows have it (n,), 1 or 0.

    The event is the value named, else the greater of two values, as in all of nearward; of more than two values it is the rarest.

    Raises
    ------
    InputError
        Fewer than 200 rows, missing outcomes, one value only, no row with ``positive``; more than two values, one of which fewer than five
        patients have: every value of the outcome is written as it is, and a measurement would be a patient's own.

    Warns
    -----
    DataWarning
        Fewer than 20 rows with the event, or without.

    Examples
    --------
    >>> value, event = read_event(pl.Series("died", ["no"] * 280 + ["yes"] * 20))
    >>> value, int(event.sum())
    ('yes', 20)
    """
    if len(column) < _FEWEST_ROWS:
        raise InputError(f"{len(column)} rows are too few for a synthesizer; at least {_FEWEST_ROWS} are needed")
    if len(named_values(positive)) > 1:
        raise InputError(
            f"positive must be one value of the outcome for a synthesizer, got {len(named_values(positive))} values: join them first"
        )
    name = f"outcome {column.name!r}"
    target = validate_target(column, positive=positive, max_classes=None, name=name)
    _refuse_measurements(column, positive, patient_ids, name)
    if target.event is None:
        target = validate_target(column, positive=target.classes[np.bincount(target.outcome).argmin()], max_classes=None, name=name)
    rarer = min(target.events, len(column) - target.events)
    if rarer < _FEWEST_EVENTS:
        warnings.warn(
            f"{rarer} rows with the rarer outcome, fewer than {_FEWEST_EVENTS}: their share is learned, but not reliably how they differ",
            DataWarning,
            stacklevel=3,
        )
    return target.event, target.outcome


def _refuse_measurements(column: pl.Series, positive: Any, patient_ids: Ints | None, name: str) -> None:
    """Refuse an outcome of more than two values where fewer than five patients have one that is not the event by name."""
    patients = pl.Series("patient", np.arange(len(column)) if patient_ids is None else patient_ids)
    counts = pl.DataFrame([column.alias("value"), patients]).group_by("value").agg(pl.col("patient").n_unique())
    rare = counts.filter(pl.col("patient") < _FEWEST_PATIENTS)["value"].to_list()
    if counts.height > 2 and (number := len([value for value in rare if value != positive])):
        raise InputError(
            f"{name} has {counts.height} different values, {number} of which fewer than {_FEWEST_PATIENTS} patients have: every value of "
            "an outcome is written as it is. Make it classes (for instance with .cut()), or put its rare values together"
        )


def rarer_rows(event: Ints) -> Ints:
    """Return which rows have the rarer of event and no event (n,), 1 or 0: the rows that no rule and no split may neglect.

    Examples
    --------
    >>> rarer_rows(np.array([1, 1, 1, 0])).tolist()
    [0, 0, 0, 1]
    """
    return event if 2 * event.sum() <= len(event) else 1 - event


def rarer_token(counts: Ints, event: int) -> int:
    """Return the event's token, or the other one where the event is the commoner of two; ``counts`` (size,) are of the training rows.

    Examples
    --------
    >>> rarer_token(np.array([0, 20, 80]), 2), rarer_token(np.array([0, 30, 20, 60]), 3)
    (1, 3)
    """
    others = [token for token in np.flatnonzero(counts) if token != event]
    return int(others[0]) if len(others) == 1 and counts[others[0]] < counts[event] else event


def target_shares(counts: Ints, event: int, target: float) -> Floats:
    """Return the share of each token of the outcome (size,): ``target`` for the event, the others in proportion to their counts.

    Examples
    --------
    >>> target_shares(np.array([0, 60, 30, 10]), 3, 0.4).tolist()
    [0.0, 0.4, 0.2, 0.4]
    """
    others = counts.astype(np.float64)
    others[event] = 0
    shares = (1 - target) * others / others.sum()
    shares[event] = target
    return np.asarray(shares)


def value_counts(column: pl.Series) -> dict[str, int]:
    """Return the number of rows with each value, by its text."""
    table = as_text(column, column.name).alias("value").value_counts(name="rows").sort("value")
    return dict(zip(table["value"].to_list(), table["rows"].to_list(), strict=True))
