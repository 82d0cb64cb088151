"""The first optimiser: own rows, drawn again with chances exp(R / β). What it aims at, π·exp(R / β), is what PPO with a penalty aims at.

The temperature β is not chosen by hand: it is the one under which real rows that no critic saw become likeliest.

Letters: n rows, d columns, c candidates.

References
----------
Donsker and Varadhan: Asymptotic evaluation of certain Markov process expectations for large time (1975), the bound that is maximised.
"""

from __future__ import annotations

import numpy as np

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

LEAST_EFFECTIVE = 0.05
_STRENGTHS = np.concatenate([[0.0], np.geomspace(0.05, 8.0, 60)])  # 1 / β


def tilt_weights(reward: Floats, beta: float) -> Floats:
    """Return exp((R − R_max) / β), rescaled to mean 1 (n,)."""
    weight = np.exp((reward - reward.max()) / beta)
    return np.asarray(weight / weight.mean())


def tilt_divergence(reward: Floats, beta: float) -> float:
    """Return the divergence of the tilted rows from the policy's, nats a row: how far there is to go, and no optimiser need go farther.

    Examples
    --------
    >>> tilt_divergence(np.array([1.0, 1.0]), 1.0)
    0.0
    """
    weight = tilt_weights(reward, beta)
    return float((weight * np.log(np.maximum(weight, 1e-300))).mean())


def effective_share(weight: Floats) -> float:
    """Return the effective sample size over n: (Σ w)² / (n Σ w²).

    Examples
    --------
    >>> effective_share(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    return float(weight.sum() ** 2 / (len(weight) * (weight**2).sum()))


def temperature(real: Floats, made: Floats) -> tuple[float, float]:
    """Find the temperature under which unseen real rows gain most likelihood.

    Parameters
    ----------
    real, made : (n,), (m,)
        Held-out rewards of real rows and of rows of the policy.

    Returns
    -------
    beta : float, infinite where no tilt helps
    gain : float, nats a row: mean R / β of real rows − log mean exp(R / β) of made ones

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> beta, gain = temperature(draw.normal(1, 1, 4000), draw.normal(0, 1, 4000))  # the exact log ratio is x − 1/2
    >>> abs(beta - 1) < 0.15, abs(gain - 0.5) < 0.1
    (True, True)
    """
    top = made.max()
    gains = [strength * (real.mean() - top) - np.log(np.exp(strength * (made - top)).mean()) for strength in _STRENGTHS]
    best = int(np.argmax(gains))
    return (float(1 / _STRENGTHS[best]), float(gains[best])) if best else (float("inf"), 0.0)


def refuse_thin(weight: Floats, what: str = "tilt") -> float:
    """Return the effective share, or refuse where a few rows would stand for all.

    Raises
    ------
    InputError
        Less than 5 %.
    """
    share = effective_share(weight)
    if share < LEAST_EFFECTIVE:
        raise InputError(
            f"{what} refused: the effective sample size is {share:.1%} of the candidates, under {LEAST_EFFECTIVE:.0%}: a few rows would be "
            "repeated again and again. The policy lies too far from the real rows: fit it on more rows, or use optimiser='none'."
        )
    return share


def class_tilted(reward: Floats, outcome: Ints, beta: float, target: Floats) -> Floats:
    """Return weights of mean 1 that tilt within each outcome and give each outcome its declared share (n,).

    Parameters
    ----------
    reward : (n,)
    outcome : (n,), 0 … k - 1
    beta : float
    target : (k,), τ; outcomes without a row are left out
    """
    weight = np.zeros(len(reward))
    for y in np.unique(outcome):
        rows = outcome == y
        weight[rows] = tilt_weights(reward[rows], beta) * target[y] / rows.mean()
    out: Floats = weight / weight.mean()
    return out


def chosen(reward: Floats, beta: float, chance: Floats) -> Ints:
    """Choose one of each row's candidates with probability proportional to exp(R / β): (n, c) and (n,) from 0 to 1 -> (n,)."""
    weight = np.exp((reward - reward.max(axis=1, keepdims=True)) / beta).cumsum(axis=1)
    return np.asarray((weight < chance[:, None] * weight[:, -1:]).sum(axis=1).clip(max=reward.shape[1] - 1))
