"""A measured number with its confidence interval: the only form in which this package reports one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import polars as pl
from scipy import stats

from nearward.tabular.statistics import wilson_interval

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval and the number of observations.

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


@dataclass(frozen=True)
class PointEstimate:
    """A value whose interval is undefined.

    Parameters
    ----------
    value : float
    why : str
        Why there is no interval.
    n : int
        See ``Estimate``.
    """

    value: float
    why: str
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} (no interval: {self.why})"


class Undefined(NamedTuple):
    """Why a statistic has no value, in words."""

    why: str


Result = Estimate | PointEstimate | Undefined


def defined(result: Result | None) -> Estimate | None:
    """Return an estimate, and None in the place of a missing one or of one without a value or an interval."""
    return result if isinstance(result, Estimate) else None


def with_value(result: Result | None) -> Estimate | PointEstimate | None:
    """Return a result that has a value, with an interval or not, and None in the place of others."""
    return None if isinstance(result, Undefined) else result


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """Share with Wilson's score interval.

    Parameters
    ----------
    successes, n : int, n > 0
    level : float
        Confidence level.

    Examples
    --------
    >>> print(wilson(1, 10))
    0.100 (0.018 to 0.404)
    """
    low, high = wilson_interval(successes / n, n, level)
    return Estimate(successes / n, float(low), float(high), n)


def clopper_pearson(successes: float, trials: float, n: int | None = None) -> Estimate:
    """Share with the exact (Clopper–Pearson) interval.

    Parameters
    ----------
    successes, trials : float, trials > 0
        Of effective trials there may be a fraction.
    n : int, optional
        Observations that are reported; by default the trials.

    Examples
    --------
    >>> print(clopper_pearson(10, 10))
    1.000 (0.692 to 1.000)
    """
    tail, failures = (1 - LEVEL) / 2, trials - successes
    low = stats.beta.ppf(tail, successes, failures + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, failures) if failures > 0 else 1.0
    return Estimate(successes / trials, float(low), float(high), round(trials) if n is None else n)


def newcombe(first: Estimate, other: Estimate) -> tuple[float, float]:
    """Return the interval of the difference of two independent shares, first less other, from their own intervals: low and high.

    References
    ----------
    Newcombe: Interval estimation for the difference between independent proportions: comparison of eleven methods (1998), method 10.

    Examples
    --------
    >>> low, high = newcombe(wilson(56, 70), wilson(48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    difference = first.value - other.value
    below = math.hypot(first.value - first.low, other.high - other.value)
    above = math.hypot(first.high - first.value, other.value - other.low)
    return difference - below, difference + above


def estimate_series(name: str, values: Sequence[Estimate | PointEstimate | None]) -> pl.Series:
    """Return a column of estimates, some of them None: Polars would take the dataclass apart, and fails where one is missing."""
    return pl.Series(name, list(values), dtype=pl.Object)


def estimate_frame(rows: Sequence[Mapping[str, object]], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Build a frame with columns of estimates.

    Parameters
    ----------
    rows : mappings with a value for each column; there may be none
    schema : column -> Polars type, in order
        ``pl.Object`` for estimates, see ``estimate_series``.

    Examples
    --------
    >>> frame = estimate_frame([{"table": "train", "share": wilson(1, 10)}], {"table": pl.String, "share": pl.Object})
    >>> print(*frame.row(0))
    train 0.100 (0.018 to 0.404)
    """
    return pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=dtype) for name, dtype in schema.items()})


def rows_to_dicts(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame of ``estimate_frame`` as dictionaries, estimates as dictionaries too, for JSON."""
    return [{name: asdict(x) if isinstance(x, Estimate) else x for name, x in row.items()} for row in frame.iter_rows(named=True)]
