"""Residual risk: success of an attack on members beyond its success on non-members.

References
----------
Giomi et al.: A unified framework for quantifying privacy risk in synthetic data (2023; anonymeter's protocol, re-implemented).
Donner and Zou: Closed-form confidence intervals for functions of the normal mean and standard deviation (2012), 3.2: a ratio's
interval from those of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import polars as pl

from nearward.evaluation.stats.confidence import LEVEL, Estimate, estimate_series, wilson


@dataclass(frozen=True)
class AttackResult:
    """Success rates of an attack that guesses.

    Parameters
    ----------
    name : str
    attack : Estimate
        Share of right guesses about members (rows of train).
    baseline : Estimate
        Share of right random guesses about members.
    control : Estimate
        Share of right guesses by the same attack about non-members (rows of the holdout), which cannot have leaked.
    risk : Estimate
        (attack − control) / (1 − control), the residual risk.
    """

    name: str
    attack: Estimate
    baseline: Estimate
    control: Estimate
    risk: Estimate

    @property
    def trusted(self) -> bool:
        """Whether the attack beat its baseline: otherwise it is a poor attack, and no proof of safety."""
        return self.attack.value > self.baseline.value

    @classmethod
    def from_counts(
        cls, name: str, attack: tuple[int, int], baseline: tuple[int, int], control: tuple[int, int], tests: int = 1
    ) -> AttackResult:
        """Estimate the rates and the residual risk from counts.

        Parameters
        ----------
        name : str
        attack, baseline, control : (right guesses, all guesses), the latter > 0
        tests : int
            Number of attacks that are compared. Intervals hold simultaneously (Bonferroni), so that the worst may be selected.
        """
        level = 1 - (1 - LEVEL) / tests
        on_members, at_random, on_non_members = (wilson(*counts, level) for counts in (attack, baseline, control))
        return cls(name, on_members, at_random, on_non_members, residual_risk(on_members, on_non_members))


def residual_risk(attack: Estimate, control: Estimate) -> Estimate:
    """Return (attack − control) / (1 − control) with an interval from those of its parts.

    It is not below zero: an attack that does worse than its control shows no leak. Where the control is always right, the ratio is
    undefined, and the interval is the whole of [0, 1].

    Examples
    --------
    >>> from nearward.evaluation.stats.confidence import wilson
    >>> print(residual_risk(wilson(50, 100), wilson(0, 100)))
    0.500 (0.401 to 0.596)
    """
    a, b = 1 - attack.value, 1 - control.value
    if b <= 0:
        return Estimate(0.0, 0.0, 1.0, attack.n)
    a_low, a_high, b_low, b_high = 1 - attack.high, 1 - attack.low, 1 - control.high, 1 - control.low
    low = _bound(a, b, a_low * (2 * a - a_low), b_high * (2 * b - b_high), -1)
    high = _bound(a, b, a_high * (2 * a - a_high), b_low * (2 * b - b_low), 1)
    value = max(1 - a / b, 0.0)
    return Estimate(value, min(max(1 - high, 0.0), value), max(min(1 - low, 1.0), value), attack.n)


def _bound(a: float, b: float, numerator: float, denominator: float, sign: int) -> float:
    """One bound of the interval of a / b."""
    if denominator <= 0:
        return 0.0 if sign < 0 else float("inf")
    return (a * b + sign * sqrt(max((a * b) ** 2 - numerator * denominator, 0.0))) / denominator


def attack_table(results: Sequence[AttackResult]) -> pl.DataFrame:
    """Return the results as a table of estimates; the verdict marks attacks that did no better than their baseline."""
    rates = [estimate_series(name, [getattr(result, name) for result in results]) for name in ("attack", "baseline", "control", "risk")]
    names = pl.Series("guess", [result.name for result in results], dtype=pl.String)
    verdicts = pl.Series("verdict", ["" if result.trusted else "cannot be trusted" for result in results], dtype=pl.String)
    return pl.DataFrame([names, *rates, verdicts])
