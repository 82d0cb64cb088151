"""A policy seen through its critics: each row is chosen among candidates, with chances exp(R / β).

Four candidates a row reach π·exp(R / β) nearly where the effective share is large (it was above .9 on the cohorts measured), and fall
short of it where it is small: no row can become more than four times as likely.

The outcome is drawn first and shared by a row's candidates: whatever the critics say, its share stays the policy's.

Letters: n rows, d columns, c candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.synth.constraints.violations import ForbiddenTokens, UnbalancedSum
from nearward.synth.optimization.discriminator_levels import FeatureLevel, RowLevel, SentenceLevel, Shape, TokenLevel
from nearward.synth.optimization.discriminators import Discriminators, Separation
from nearward.synth.optimization.tilt import chosen
from nearward.synth.policy.autoregressive import DecodingConstraint, Policy
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.typing import Arrays, Floats, Ints

_CANDIDATES = 4
_PARTS = (Discriminators, Separation, Shape, ForbiddenTokens, UnbalancedSum, TokenLevel, SentenceLevel, FeatureLevel, RowLevel, Forest)


@dataclass(frozen=True)
class Tilted:
    """The sampler of the optimiser ``tilt``.

    Parameters
    ----------
    policy : Policy
    critics : Discriminators
    beta : float, temperature
    outcome : int, column
    """

    policy: Policy
    critics: Discriminators
    beta: float
    outcome: int

    @property
    def sizes(self) -> list[int]:
        """Tokens of each column (d,)."""
        return self.policy.sizes

    @property
    def order(self) -> list[int]:
        """Columns in the order they are written."""
        return self.policy.order

    @property
    def token_counts(self) -> list[Ints]:
        """How many learned rows have each token."""
        return self.policy.token_counts

    def sample(self, given: Ints, seed: int, make_constraint: Callable[[int], DecodingConstraint] | None = None) -> Ints:
        """Draw rows as ``Policy.sample`` does, each chosen among four candidates that meet its conditions (n, d)."""
        seeds = np.random.SeedSequence(seed).generate_state(3)
        first = self.policy.sample(given, int(seeds[0]), make_constraint)
        asked = given.copy()
        asked[:, self.outcome] = first[:, self.outcome]
        more = self.policy.sample(np.repeat(asked, _CANDIDATES - 1, axis=0), int(seeds[1]), make_constraint)
        candidates = np.concatenate([first[:, None], more.reshape(len(given), _CANDIDATES - 1, -1)], axis=1)  # (n, c, d)
        reward = self.critics.rewards(candidates.reshape(-1, given.shape[1])).sum(axis=1).reshape(len(given), _CANDIDATES)
        chance = np.random.default_rng(int(seeds[2])).random(len(given))
        return np.asarray(candidates[np.arange(len(given)), chosen(reward, self.beta, chance)])

    def log_prob(self, tokens: Ints) -> Floats:
        """Return the log probability of each cell under the policy, to which exp(R / β) is not added: its normaliser is not known."""
        return self.policy.log_prob(tokens)

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return what is needed to rebuild it, as ``Policy.state``."""
        about = {"critics": pack(self.critics, tensors), "beta": self.beta, "outcome": self.outcome}
        return {"kind": "tilted", **about, "policy": self.policy.state(tensors)}

    @classmethod
    def from_state(cls, about: dict[str, Any], tensors: Arrays) -> Tilted:
        """Rebuild what ``state`` took apart."""
        critics = unpack(about["critics"], tensors, _PARTS)
        return cls(Policy.from_state(about["policy"], tensors), critics, about["beta"], about["outcome"])
