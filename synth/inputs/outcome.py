"""The outcome of a synthesizer: its event, its shares and its counts.

Shapes: n rows.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.validation import validate_target
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.typing import Floats, Ints

_FEWEST_ROWS, _FEWEST_EVENTS = 200, 20


def read_event(column: pl.Series, positive: Any = None) -> tuple[Any, Ints]:
    """Return the value that is the event and which rows have it (n,), 1 or 0.

    The event is the value named, else the greater of two values, as in all of nearward; of more than two values it is the rarest.

    Raises
    ------
    InputError
        Fewer than 200 rows, missing outcomes, one value only, no row with ``positive``.

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
    name = f"outcome {column.name!r}"
    target = validate_target(column, positive=positive, max_classes=None, name=name)
    if positive is None and len(target.classes) > 2:
        target = validate_target(column, positive=target.classes[np.bincount(target.outcome).argmin()], max_classes=None, name=name)
    rarer = min(target.events, len(column) - target.events)
    if rarer < _FEWEST_EVENTS:
        warnings.warn(
            f"{rarer} rows with the rarer outcome, fewer than {_FEWEST_EVENTS}: their share is learned, but not reliably how they differ",
            DataWarning,
            stacklevel=3,
        )
    return target.event, target.outcome


def target_shares(counts: Ints, rare: int, target: float) -> Floats:
    """Return the share of each token of the outcome (size,): ``target`` for the rare one, the others in proportion to their counts.

    Examples
    --------
    >>> target_shares(np.array([0, 60, 30, 10]), 3, 0.4).tolist()
    [0.0, 0.4, 0.2, 0.4]
    """
    others = counts.astype(np.float64)
    others[rare] = 0
    shares = (1 - target) * others / others.sum()
    shares[rare] = target
    return np.asarray(shares)


def value_counts(column: pl.Series) -> dict[str, int]:
    """Return the number of rows with each value, by its text."""
    table = as_text(column, column.name).alias("value").value_counts(name="rows").sort("value")
    return dict(zip(table["value"].to_list(), table["rows"].to_list(), strict=True))
