"""A measured number with its interval: the only form in which this package reports one."""

from __future__ import annotations

from dataclasses import dataclass

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
