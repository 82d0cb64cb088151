"""A measured number with its interval: the only form in which this package reports one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, where it may lie, and on how many it rests.

    Parameters
    ----------
    value : float
    low, high : float, 95 % interval
    n : int
        Rows, patients, attacks: whatever was counted.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def wilson(successes: int, n: int) -> Estimate:
    """Share with Wilson's score interval.

    Parameters
    ----------
    successes, n : int, n > 0

    References
    ----------
    Wilson: Probable inference, the law of succession, and statistical inference (1927).

    Examples
    --------
    >>> print(wilson(1, 10))
    0.100 (0.018 to 0.404)
    """
    low, high = stats.binomtest(successes, n).proportion_ci(LEVEL, "wilson")
    return Estimate(successes / n, float(low), float(high), n)


def exact(successes: int, n: int) -> Estimate:
    """Share with the exact (Clopper–Pearson) interval.

    Parameters
    ----------
    successes, n : int, n > 0
    """
    low, high = stats.binomtest(successes, n).proportion_ci(LEVEL, "exact")
    return Estimate(successes / n, float(low), float(high), n)


def estimates(name: str, values: Sequence[Estimate | None]) -> pl.Series:
    """Return a column of estimates, some of them None: Polars would take the dataclass apart, and fails where one is missing."""
    return pl.Series(name, list(values), dtype=pl.Object)


def framed(rows: Sequence[Mapping[str, object]], columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Put rows of measurements into a frame.

    Parameters
    ----------
    rows : mappings with a value for each column; there may be none
    columns : column -> Polars type, in order
        ``pl.Object`` where estimates stand, see ``estimates``.

    Examples
    --------
    >>> frame = framed([{"table": "train", "share": wilson(1, 10)}], {"table": pl.String, "share": pl.Object})
    >>> print(*frame.row(0))
    train 0.100 (0.018 to 0.404)
    """
    return pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=dtype) for name, dtype in columns.items()})
