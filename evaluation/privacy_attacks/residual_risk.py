"""What an attack says beyond what it would have said without the patient in the data.

References
----------
Giomi et al.: A unified framework for quantifying privacy risk in synthetic data (2023; anonymeter's protocol, re-implemented).
Donner and Zou: Closed-form confidence intervals for functions of the normal mean and standard deviation (2012), 3.2: a ratio's
interval from those of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import polars as pl

from nearward.evaluation.stats.confidence import LEVEL, Estimate, estimate_series, wilson


@dataclass(frozen=True)
class AttackResult:
    """How often an attacker was right.

    Parameters
    ----------
    name : str
    attack : Estimate
        Share of right guesses about rows of train.
    baseline : Estimate
        The same for guesses made without looking at whose row it is.
    control : Estimate
        Share of right guesses, made in the same way, about rows of the holdout, which cannot have leaked.
    risk : Estimate
        (attack − control) / (1 − control): of what the control left to find, the share found.
    """

    name: str
    attack: Estimate
    baseline: Estimate
    control: Estimate
    risk: Estimate

    @property
    def trusted(self) -> bool:
        """Whether the attack beat its baseline: one that doesn't is a poor attack, and no proof of safety."""
        return self.attack.value > self.baseline.value


def guesses(name: str, right: tuple[int, int], base: tuple[int, int], control: tuple[int, int], tests: int = 1) -> AttackResult:
    """Make estimates of counts.

    Parameters
    ----------
    right, base, control : (right guesses, all guesses), the latter > 0
    tests : int
        How many attacks stand side by side; intervals hold together (Bonferroni), so that the worst may be picked.
    """
    level = 1 - (1 - LEVEL) / tests
    attack, baseline, without = (wilson(*counts, level) for counts in (right, base, control))
    return AttackResult(name, attack, baseline, without, residual(attack, without))


def residual(attack: Estimate, control: Estimate) -> Estimate:
    """Return (attack − control) / (1 − control) with an interval from those of its parts.

    Not below zero: an attack that does worse than its control has found nothing. Where the control is always right, nothing is left to
    find, and the interval says that nothing is known.

    Examples
    --------
    >>> from nearward.evaluation.stats.confidence import wilson
    >>> print(residual(wilson(50, 100), wilson(0, 100)))
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
    """One end of the interval of a / b."""
    if denominator <= 0:
        return 0.0 if sign < 0 else float("inf")
    return (a * b + sign * sqrt(max((a * b) ** 2 - numerator * denominator, 0.0))) / denominator


def listed(found: list[AttackResult]) -> pl.DataFrame:
    """Put attacks into a table of estimates; those no better than their baseline are said not to be trusted."""
    columns = {key: estimate_series(key, [getattr(one, key) for one in found]) for key in ("attack", "baseline", "control", "risk")}
    words = ["" if one.trusted else "cannot be trusted" for one in found]
    return pl.DataFrame(
        {"guess": pl.Series([one.name for one in found], dtype=pl.String), **columns, "verdict": pl.Series(words, dtype=pl.String)}
    )
