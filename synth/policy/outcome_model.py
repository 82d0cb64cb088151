"""Draws the outcome once more, given the whole row: trees know better what a row's outcome is than a policy that wrote it first.

The policy writes the outcome, and everything else given it. What that says of the outcome given everything else is thirty columns'
errors multiplied; a model of the outcome alone makes one. Rows stay as they are, and the rare outcome's share too, learned or declared: the
trees' log-odds are shifted until the policy's rows have it, by rows of which half have the rare outcome, weighed: few events would tell the
shift badly.

Letters: n rows, d columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nearward.tabular.ensemble.trees import Forest, boosted_trees
from nearward.tabular.typing import Bools, Floats, Ints

_FEWEST = 20  # learned rows with either outcome: fewer teach trees nothing
_FORESTS = 3  # of half of the columns at each split: together less sure of what only one of them sees
_TREES = {"max_iter": 150, "learning_rate": 0.06, "max_leaf_nodes": 12, "min_samples_leaf": 20, "max_features": 0.5}
_REACH = 12.0  # log-odds


@dataclass(frozen=True)
class OutcomeTrees:
    """The log-odds of a two-valued outcome given all other columns.

    Parameters
    ----------
    forests : tuple of Forest, their mean is meant
    place : int, the outcome's column
    rare, other : int, its tokens
    shift : float, added to log-odds
    """

    forests: tuple[Forest, ...]
    place: int
    rare: int
    other: int
    shift: float = 0.0

    @classmethod
    def fit(cls, tokens: Ints, made: Ints, place: int, rare: int, share: float, seed: int) -> OutcomeTrees | None:
        """Grow trees on learned rows, and shift them by rows of the policy.

        Parameters
        ----------
        tokens : (n, d), learned rows
        made : (m, d), rows of the policy, of which any share has the rare outcome
        place, rare : int
        share : float
            Of the rare outcome that shall be drawn: learned, or declared.
        seed : int

        Returns
        -------
        OutcomeTrees, or None where the outcome has more than two values, or one of them fewer than 20 rows
        """
        values, rows = np.unique(tokens[:, place], return_counts=True)
        if len(values) != 2 or rows.min() < _FEWEST:
            return None
        event = tokens[:, place] == rare
        x = np.delete(tokens, place, axis=1).astype(np.float32)
        forests = tuple(boosted_trees(x, event.astype(np.int64), seed + i, **_TREES) for i in range(_FORESTS))
        other = int(values[values != rare][0])
        plain = cls(forests, place, rare, other)
        of_made = made[:, place] == rare
        weight = np.where(of_made, share / of_made.mean(), (1 - share) / (1 - of_made.mean()))
        return replace(plain, shift=shift_to(plain.log_odds(made), share, weight))

    def log_odds(self, tokens: Ints) -> Floats:
        """Return the log-odds of the rare outcome (n,)."""
        x = np.delete(tokens, self.place, axis=1).astype(np.float32)
        return np.asarray(np.mean([forest.scores(x) for forest in self.forests], axis=0) + self.shift)

    def redrawn(self, tokens: Ints, may: Bools, chance: Floats) -> Ints:
        """Return the outcome's tokens of rows, drawn given the other columns (n,).

        Parameters
        ----------
        tokens : (n, d)
        may : (n, size), which tokens of the outcome rules leave to each row; where not both, the row keeps what it has
        chance : (n,), from 0 to 1
        """
        risk = 1 / (1 + np.exp(-self.log_odds(tokens)))
        free = may[:, self.rare] & may[:, self.other]
        return np.where(free, np.where(chance < risk, self.rare, self.other), tokens[:, self.place])


def shift_to(log_odds: Floats, share: float, weight: Floats) -> float:
    """Return what must be added to log-odds (n,) for their mean risk, rows weighed (n,), to be a share, found by halving.

    Examples
    --------
    >>> abs(round(shift_to(np.array([-1.0, 1.0]), 0.5, np.ones(2)), 6))
    0.0
    """
    low, high = -_REACH, _REACH
    for _ in range(60):
        middle = (low + high) / 2
        drawn = np.average(1 / (1 + np.exp(-(log_odds + middle))), weights=weight)
        low, high = (middle, high) if drawn < share else (low, middle)
    return (low + high) / 2
