"""Optimiser ``tilt``: rows are resampled with probabilities exp(R / β). Its target, π·exp(R / β), is that of PPO with a KL penalty.

The temperature β maximises the likelihood of real rows that no discriminator was fitted on.

Shapes: n rows, d columns, c candidates, k outcomes.

References
----------
Donsker and Varadhan: Asymptotic evaluation of certain Markov process expectations for large time (1975), the bound that is maximised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.synth.constraints.violations import ForbiddenTokens, UnbalancedSum
from nearward.synth.optimization.discriminators import Discriminators, Separation
from nearward.synth.optimization.granularities import (
    FeatureDiscriminator,
    RowDiscriminator,
    SentenceDiscriminator,
    TableShape,
    TokenDiscriminator,
)
from nearward.synth.policy.autoregressive import DecodingConstraint, Policy
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.typing import Arrays, Floats, Ints

MIN_EFFECTIVE = 0.05
_INVERSE_TEMPERATURES = np.concatenate([[0.0], np.geomspace(0.05, 8.0, 60)])  # 1 / β
_CANDIDATES = 4
_PARTS = (
    Discriminators,
    Separation,
    TableShape,
    ForbiddenTokens,
    UnbalancedSum,
    TokenDiscriminator,
    SentenceDiscriminator,
    FeatureDiscriminator,
    RowDiscriminator,
    Forest,
)


@dataclass(frozen=True)
class TiltedPolicy:
    """Sampler of the tilted policy: each row is chosen among candidates with probabilities proportional to exp(R / β).

    Four candidates per row approximate π·exp(R / β) where the effective share is large (it was above .9 on the cohorts measured), and
    fall short where it is small: no row can become more than four times as likely. The outcome is sampled first and shared by the
    candidates of a row, so that its distribution stays the policy's.

    Parameters
    ----------
    policy : Policy
    discriminators : Discriminators
    beta : float, temperature
    outcome_column : int
    """

    policy: Policy
    discriminators: Discriminators
    beta: float
    outcome_column: int

    @property
    def sizes(self) -> list[int]:
        """Tokens of each column (d,)."""
        return self.policy.sizes

    @property
    def order(self) -> list[int]:
        """Columns in the order they are sampled."""
        return self.policy.order

    @property
    def token_counts(self) -> list[Ints]:
        """Number of training rows with each token."""
        return self.policy.token_counts

    def sample(self, conditions: Ints, seed: int, make_constraint: Callable[[int], DecodingConstraint] | None = None) -> Ints:
        """Sample rows as ``Policy.sample`` does, each chosen among four candidates that meet its conditions (n, d)."""
        seeds = np.random.SeedSequence(seed).generate_state(3)
        first = self.policy.sample(conditions, int(seeds[0]), make_constraint)
        with_outcome = conditions.copy()
        with_outcome[:, self.outcome_column] = first[:, self.outcome_column]
        others = self.policy.sample(np.repeat(with_outcome, _CANDIDATES - 1, axis=0), int(seeds[1]), make_constraint)
        n, d = conditions.shape
        candidates = np.concatenate([first[:, None], others.reshape(n, _CANDIDATES - 1, -1)], axis=1)  # (n, c, d)
        reward = self.discriminators.rewards(candidates.reshape(-1, d)).sum(axis=1).reshape(n, _CANDIDATES)
        uniform = np.random.default_rng(int(seeds[2])).random((n,))
        return np.asarray(candidates[np.arange(n), choose_candidates(reward, self.beta, uniform)])

    def log_prob(self, tokens: Ints) -> Floats:
        """Return the log probability of each cell under the policy, without exp(R / β), whose normaliser is unknown (n, d)."""
        return self.policy.log_prob(tokens)

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return the state as JSON; arrays go to ``tensors``."""
        state = {"discriminators": pack(self.discriminators, tensors), "beta": self.beta, "outcome_column": self.outcome_column}
        return {"kind": "tilted", **state, "policy": self.policy.state(tensors)}

    @classmethod
    def from_state(cls, state: dict[str, Any], tensors: Arrays) -> TiltedPolicy:
        """Load what ``state`` returned."""
        discriminators = unpack(state["discriminators"], tensors, _PARTS)
        return cls(Policy.from_state(state["policy"], tensors), discriminators, state["beta"], state["outcome_column"])


def choose_candidates(reward: Floats, beta: float, uniform: Floats) -> Ints:
    """Choose one candidate per row with probability proportional to exp(R / β): (n, c) and (n,) uniform random numbers -> (n,)."""
    cumulative = np.exp((reward - reward.max(axis=1, keepdims=True)) / beta).cumsum(axis=1)
    return np.asarray((cumulative < uniform[:, None] * cumulative[:, -1:]).sum(axis=1).clip(max=reward.shape[1] - 1))


def fit_temperature(real: Floats, synthetic: Floats) -> tuple[float, float]:
    """Find the temperature that maximises the likelihood gain of held-out real rows.

    Parameters
    ----------
    real, synthetic : (n,), (m,)
        Held-out rewards of real rows and of rows of the policy.

    Returns
    -------
    beta : float, infinite where no tilt helps
    gain : float, nats per row: mean R / β of real rows − log mean exp(R / β) of synthetic ones

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> beta, gain = fit_temperature(rng.normal(1, 1, 4000), rng.normal(0, 1, 4000))  # the exact log ratio is x − 1/2
    >>> abs(beta - 1) < 0.15, abs(gain - 0.5) < 0.1
    (True, True)
    """
    largest = synthetic.max()
    gains = [
        inverse * (real.mean() - largest) - np.log(np.exp(inverse * (synthetic - largest)).mean()) for inverse in _INVERSE_TEMPERATURES
    ]
    best = int(np.argmax(gains))
    return (float(1 / _INVERSE_TEMPERATURES[best]), float(gains[best])) if best else (float("inf"), 0.0)


def tilt_weights(reward: Floats, beta: float) -> Floats:
    """Return exp((R − R_max) / β), rescaled to mean 1 (n,)."""
    weight = np.exp((reward - reward.max()) / beta)
    return np.asarray(weight / weight.mean())


def class_tilt_weights(reward: Floats, outcome: Ints, beta: float, target: Floats) -> Floats:
    """Return weights of mean 1 that tilt within each outcome and give each outcome its target share (n,).

    Parameters
    ----------
    reward : (n,)
    outcome : (n,), 0 … k - 1
    beta : float
    target : (k,), τ; outcomes without a row have no weight
    """
    weight = np.zeros(len(reward))
    for y in np.unique(outcome):
        rows = outcome == y
        weight[rows] = tilt_weights(reward[rows], beta) * target[y] / rows.mean()
    return np.asarray(weight / weight.mean())


def tilt_divergence(reward: Floats, beta: float) -> float:
    """Return the KL divergence of the tilted policy from the policy, nats per row.

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


def check_effective_share(weight: Floats) -> float:
    """Return the effective share.

    Raises
    ------
    InputError
        It is below 5 %: a few rows would represent all.
    """
    share = effective_share(weight)
    if share < MIN_EFFECTIVE:
        raise InputError(
            f"optimiser='tilt' refused: the effective sample size is {share:.1%} of the candidates, at least {MIN_EFFECTIVE:.0%} is "
            "required, or a few rows would be repeated. The policy differs too much from the real rows: fit it on more rows, or use "
            "optimiser='none'."
        )
    return share
