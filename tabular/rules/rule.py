"""A rule: what every kind of rule has, and how rules read columns.

Rules read dates and times as days since 1970-01-01, and durations as days, so that orders, sums and differences of dates are those of
numbers. Numbers of single precision are read as they are written: 70.1, not 70.0999985.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.typing import Bools, Floats

_MICROSECONDS_A_DAY = 86_400_000_000

Source = Literal["mined", "user"]


@dataclass(frozen=True)
class Evidence:
    """The counts that a rule rests on.

    Parameters
    ----------
    source : str
        ``mined`` or ``user``.
    rows : int or None
        Rows that the rule applies to, among those it was confirmed on (not those it was mined on).
    violations : int or None
        How many of these violate it.
    at_most : float or None
        Upper 95 % bound of the share of violations (Clopper–Pearson, one-sided).
    events : int or None
        Rows with the rarer outcome (the event, or its absence) that the rule applies to.
    enforced : bool
        False where it is shown and not enforced: too few rows with the rarer outcome to confirm it among these.
    """

    source: Source = "user"
    rows: int | None = None
    violations: int | None = None
    at_most: float | None = None
    events: int | None = None
    enforced: bool = True


@dataclass(frozen=True)
class Rule:
    """A constraint on the values of a row: kind, columns and evidence.

    A kind whose columns are fields of its own names these fields in ``column_fields``.
    """

    evidence: Evidence = field(default=Evidence(), compare=False, kw_only=True)
    kind: ClassVar[str] = ""
    column_fields: ClassVar[tuple[str, ...]] = ("column",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule constrains."""
        return tuple(getattr(self, name) for name in self.column_fields)

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Return the masks of the rows that the rule applies to (n,), and of the rows that violate it (n,)."""
        raise NotImplementedError

    def __str__(self) -> str:
        raise NotImplementedError


def read_numbers(column: pl.Series) -> Floats:
    """Read a column as numbers (n,), NaN for missing.

    Raises
    ------
    InputError
        Text that is not a number, infinite values, dtypes without an obvious meaning.

    Examples
    --------
    >>> from datetime import datetime
    >>> read_numbers(pl.Series([datetime(1970, 1, 2, 12), None])).tolist()
    [1.5, nan]
    """
    if isinstance(column.dtype, pl.Duration):
        column = column.dt.total_microseconds() / _MICROSECONDS_A_DAY
    elif isinstance(column.dtype, pl.Date | pl.Datetime):
        times = column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column.dt.cast_time_unit("us")
        column = times.to_physical() / _MICROSECONDS_A_DAY
    elif column.dtype == pl.Float32:
        column = as_written(column)
    return np.asarray(as_number(column, column.name).to_numpy(), dtype=np.float64)


def read_texts(column: pl.Series) -> pl.Series:
    """Read a column as text (n,), null for missing; dates and durations as the text of their number."""
    if isinstance(column.dtype, pl.Date | pl.Datetime | pl.Duration):
        column = pl.Series(column.name, read_numbers(column)).fill_nan(None)
    return as_text(as_written(column) if column.dtype == pl.Float32 else column, column.name)


def as_written(column: pl.Series) -> pl.Series:
    """Return numbers of single precision as the shortest decimals that they are the nearest to.

    Examples
    --------
    >>> as_written(pl.Series([70.1], dtype=pl.Float32)).to_list(), pl.Series([70.1], dtype=pl.Float32).cast(pl.Float64).round(7).to_list()
    ([70.1], [70.0999985])
    """
    return column.cast(pl.String).cast(pl.Float64)


def is_missing(column: pl.Series) -> Bools:
    """Return which values are missing (n,), NaN among them."""
    return (column.fill_nan(None) if column.dtype.is_float() else column).is_null().to_numpy()


def is_in(text: pl.Series, values: Sequence[str]) -> Bools:
    """Return which texts are one of these (n,); missing is none of them."""
    return text.is_in(list(values)).fill_null(value=False).to_numpy()
