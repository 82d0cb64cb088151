"""Probabilities and log-odds: the logit with a floor, its inverse, and the log-loss of log-odds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nearward.tabular.typing import Floats


def logit(probability: ArrayLike, floor: float = 1e-4) -> Floats:
    """Return log(p / (1 - p)), with p clipped to [``floor``, 1 - ``floor``]: probabilities of 0 and 1 have no log-odds."""
    return np.asarray(special.logit(np.clip(np.asarray(probability, dtype=np.float64), floor, 1 - floor)))


def expit(log_odds: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return np.asarray(special.expit(np.asarray(log_odds, dtype=np.float64)))


def log_loss(log_odds: Floats, outcome: NDArray[Any], weight: Floats | None = None) -> float:
    """Return the mean negative log-likelihood of outcomes, or of probabilities of them, in nats; rows count ``weight`` times."""
    return float(np.average(np.logaddexp(0, log_odds) - outcome * log_odds, weights=weight))
