"""What an improvement won: how much likelier it made real rows, patient by patient, so that luck is not kept.

Letters: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class Gain:
    """What real rows won in likelihood, nats a row, with its 95 % interval."""

    value: float
    low: float
    high: float


def paired(won: Floats, patient: Ints | None) -> Gain:
    """Return the mean of what rows won and its 95 % interval, patients being the units.

    Examples
    --------
    >>> paired(np.array([1.0, 3.0]), None).value
    2.0
    """
    who = np.arange(len(won)) if patient is None else np.unique(patient, return_inverse=True)[1]
    mean, sums = float(won.mean()), np.bincount(who, weights=won - won.mean())
    spread = 1.96 * float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))) / len(won)
    return Gain(mean, mean - spread, mean + spread)
