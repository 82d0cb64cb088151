"""Privacy accountant: a budget, and the privacy loss of each release.

Of each release the accountant is told an upper bound of its loss: variances are rounded up, and the exponential mechanism's epsilon down
(``mechanisms.py``). Losses are composed in zero-concentrated differential privacy (rho-zCDP), where they add up, and converted to
(epsilon, delta) at the end. The privacy unit is the patient: neighbouring tables differ by one patient with all rows, of which at most
``rows_per_patient`` are used (the contribution bound).

References
----------
Bun and Steinke: Concentrated differential privacy (2016). Canonne, Kamath, Steinke: The discrete Gaussian for differential privacy
(2020), proposition 12 for the conversion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from nearward.tabular.errors import BudgetSpent, InputError

MIN_ROWS = 50  # per encoded dimension; with fewer, noise dominates the counts
_ORDERS = 1 + np.geomspace(1e-4, 1e6, 4001)  # Rényi orders that the conversion tries


@dataclass(frozen=True)
class Entry:
    """Privacy loss of one release.

    Parameters
    ----------
    what : str
    rho : float
    delta : float
        Probability that the release is not covered by rho; 0 except for categories that are selected by a threshold.
    noise : str
        Mechanism and its scale.
    """

    what: str
    rho: float
    delta: float = 0.0
    noise: str = ""


@dataclass(frozen=True)
class PrivacyAccountant:
    """A privacy budget and the releases charged to it.

    Parameters
    ----------
    epsilon, delta : float
        Budget for one patient.
    rows_per_patient : int
        Contribution bound.
    entries : tuple of Entry

    Examples
    --------
    >>> accountant = PrivacyAccountant(epsilon=1.0, delta=1e-6).charge("count of rows", rho=0.01)
    >>> round(accountant.spent()[0], 2), accountant.remaining < accountant.budget
    (0.64, True)
    """

    epsilon: float
    delta: float
    rows_per_patient: int = 1
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise InputError(f"epsilon={self.epsilon} must be a finite number above 0 (1 is strict, 10 weak; None: no privacy budget)")
        if not 0 < self.delta < 1:
            raise InputError(f"delta={self.delta} must lie between 0 and 1, and be smaller than one in the number of patients")
        if self.rows_per_patient < 1:
            raise InputError(f"rows_per_patient={self.rows_per_patient} must be at least 1")

    @property
    def budget(self) -> float:
        """Total rho; half of delta is for the conversion, the other half for thresholds."""
        return rho_within(self.epsilon, self.delta / 2)

    @property
    def remaining(self) -> float:
        """Rho that is not spent yet."""
        return self.budget - sum(entry.rho for entry in self.entries)

    def charge(self, what: str, rho: float, delta: float = 0.0, noise: str = "") -> PrivacyAccountant:
        """Return the accountant with one more entry.

        Raises
        ------
        BudgetSpent
            The release exceeds the remaining budget.
        """
        if rho < 0 or delta < 0:
            raise InputError(f"{what}: rho and delta must be at least 0, got rho={rho}, delta={delta}")
        exceeds_delta = sum(entry.delta for entry in self.entries) + delta > self.delta / 2 * (1 + 1e-9)
        if rho > self.remaining + 1e-9 * self.budget or exceeds_delta:
            raise BudgetSpent(
                f"{what}: rho {rho:.3g} and delta {delta:.3g} exceed the remaining budget of epsilon {self.epsilon:g}: not released"
            )
        return replace(self, entries=(*self.entries, Entry(what, rho, delta, noise)))

    def spent(self) -> tuple[float, float]:
        """Return the (epsilon, delta) of all entries together."""
        rho, delta = sum(entry.rho for entry in self.entries), sum(entry.delta for entry in self.entries)
        return epsilon_of(rho, self.delta / 2), self.delta / 2 + delta

    def to_json(self) -> dict[str, Any]:
        """Return the budget, the total and all entries, for a file's metadata."""
        epsilon, delta = self.spent()
        return {
            "unit": f"patient, at most {self.rows_per_patient} rows each; neighbours differ by one patient more or fewer",
            "budget": {"epsilon": self.epsilon, "delta": self.delta},
            "spent": {"epsilon": epsilon, "delta": delta, "rho": sum(entry.rho for entry in self.entries)},
            "rows_per_patient": self.rows_per_patient,
            "entries": [asdict(entry) for entry in self.entries],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> PrivacyAccountant:
        """Load what ``to_json`` returned."""
        entries = tuple(Entry(**entry) for entry in body["entries"])
        return cls(body["budget"]["epsilon"], body["budget"]["delta"], body["rows_per_patient"], entries)

    def __str__(self) -> str:
        epsilon, delta = self.spent()
        total = sum(entry.rho for entry in self.entries)
        lines = [f"{entry.rho / total if total else 0:6.1%}  {entry.what}: {entry.noise}" for entry in self.entries]
        summary = f"epsilon {epsilon:.3g} of {self.epsilon:g}, delta {delta:.3g}; per patient, at most {self.rows_per_patient} rows each"
        return "\n".join([summary, *lines])


def delta_of(rho: float, epsilon: float) -> float:
    """Return the smallest delta with which rho-zCDP is (epsilon, delta)-differentially private, over the Rényi orders tried."""
    a = _ORDERS
    log = (a - 1) * (a * rho - epsilon) - np.log(a - 1) + a * np.log1p(-1 / a)
    return float(np.exp(min(0.0, float(log.min()))))


def epsilon_of(rho: float, delta: float) -> float:
    """Return the smallest epsilon with which rho-zCDP is (epsilon, delta)-differentially private, over the Rényi orders tried.

    Examples
    --------
    >>> epsilon_of(0.5, 1e-6) <= 0.5 + 2 * (0.5 * math.log(1e6)) ** 0.5  # Bun and Steinke's simpler bound
    True
    """
    if rho == 0:
        return 0.0
    a = _ORDERS
    return max(0.0, float((a * rho + (a * np.log1p(-1 / a) - np.log(a - 1) - math.log(delta)) / (a - 1)).min()))


@cache  # every charge needs the budget
def rho_within(epsilon: float, delta: float) -> float:
    """Return the largest rho that stays within (epsilon, delta), by bisection."""
    low, high = 0.0, 1.0
    while epsilon_of(high, delta) < epsilon:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low
