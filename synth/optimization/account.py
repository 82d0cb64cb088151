"""Account of an improvement: discriminators, temperature, diagnostics and gain of each round.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nearward.synth.optimization.awr import AwrResult
from nearward.synth.optimization.discriminators import Separation
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class Gain:
    """Mean gain in log likelihood of real rows, nats per row, with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_gain(gain: Floats, patient_ids: Ints | None) -> Gain:
    """Return the mean gain of rows with its 95 % interval, clustered by patient.

    Examples
    --------
    >>> paired_gain(np.array([1.0, 3.0]), None).value
    2.0
    """
    patients = np.arange(len(gain)) if patient_ids is None else np.unique(patient_ids, return_inverse=True)[1]
    mean, sums = float(gain.mean()), np.bincount(patients, weights=gain - gain.mean())
    margin = 1.96 * float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))) / len(gain)
    return Gain(mean, mean - margin, mean + margin)


@dataclass(frozen=True)
class ImprovementRound:
    """Account of one round; None where the round did not get so far.

    Parameters
    ----------
    separations : dict of granularity -> Separation
    beta, gain : float
        Temperature and predicted gain; see ``fit_temperature``.
    beta_used : float
        Temperature of ``awr``, raised until the effective share is large enough.
    effective : float
        Effective share of the weights.
    awr : AwrResult
    ppo : list of dict
        Diagnostics of the optimiser.
    gain_found : Gain
        Gain of the validation rows.
    stopped : str
        Why the improvement ended with this round.
    """

    separations: dict[str, Separation] | None = None
    beta: float | None = None
    gain: float | None = None
    beta_used: float | None = None
    effective: float | None = None
    awr: AwrResult | None = None
    ppo: list[dict[str, float]] | None = None
    gain_found: Gain | None = None
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not None as a dictionary, for JSON."""
        fields = asdict(self)
        if self.separations is not None:
            fields["open"] = [name for name, separation in self.separations.items() if separation.significant]
        names = {"separations": "discriminators", "beta_used": "beta used", "gain_found": "gain found"}
        return {names.get(name, name): value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class ImprovementAccount:
    """Account of an improvement.

    Parameters
    ----------
    optimiser : str
    rounds : tuple of ImprovementRound
    rare_share : dict
        Share of the rare outcome in the training rows (``learned``), ``before`` and ``after``; empty where nothing was sampled.
    """

    optimiser: str
    rounds: tuple[ImprovementRound, ...] = ()
    rare_share: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the account as a dictionary, for JSON."""
        account: dict[str, Any] = {"optimiser": self.optimiser, "rounds": [round_.to_dict() for round_ in self.rounds]}
        return account | ({"rare share": self.rare_share} if self.rare_share else {})
