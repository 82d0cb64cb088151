"""A model of the outcome given the whole row, by which a generated row's outcome is sampled once more.

The policy generates the outcome first and everything else given it. The distribution of the outcome given everything else, which this
implies, multiplies the errors of thirty columns; a classifier of the outcome makes one. The other columns of a row stay unchanged, and so
does the share of the rare outcome, observed or declared: an intercept is added to the log-odds until the policy's rows have that share.
Half of the rows used for this have the rare outcome, and are weighted: with few events the intercept would be imprecise.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from nearward.tabular.ensemble.boosting import boosted_trees
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Ints

_MIN_ROWS = 20  # training rows with either outcome
_FORESTS = 3  # each split sees half of the columns: averaged, they rely less on any single column
_TREES = {"num_iterations": 150, "learning_rate": 0.06, "num_leaves": 12, "min_data_in_leaf": 20, "feature_fraction_bynode": 0.5}
_MAX_INTERCEPT = 12.0  # log-odds


@dataclass(frozen=True)
class OutcomeModel:
    """Boosted trees for the log-odds of a binary outcome given all other columns.

    Parameters
    ----------
    forests : tuple of Forest, averaged
    column : int, of the outcome
    rare, other : int, its tokens
    intercept : float, added to the log-odds
    """

    forests: tuple[Forest, ...]
    column: int
    rare: int
    other: int
    intercept: float = 0.0

    @classmethod
    def fit(cls, tokens: Ints, synthetic: Ints, column: int, rare: int, share: float, seed: int) -> OutcomeModel | None:
        """Fit trees to training rows, and the intercept to rows of the policy.

        Parameters
        ----------
        tokens : (n, d), training rows
        synthetic : (m, d), rows of the policy, any share of which has the rare outcome
        column, rare : int
        share : float
            Of the rare outcome in generated rows: observed, or declared.
        seed : int

        Returns
        -------
        OutcomeModel, or None where the outcome has more than two values, or one of them fewer than 20 rows
        """
        values, count = np.unique(tokens[:, column], return_counts=True)
        if len(values) != 2 or count.min() < _MIN_ROWS:
            return None
        event = (tokens[:, column] == rare).astype(np.int64)
        x = np.delete(tokens, column, axis=1).astype(np.float32)
        forests = tuple(parallel_map(lambda i: boosted_trees(x, event, seed + i, _TREES)[0], range(_FORESTS), "lightgbm"))
        model = cls(forests, column, rare, int(values[values != rare][0]))
        is_rare = synthetic[:, column] == rare
        weight = np.where(is_rare, share / is_rare.mean(), (1 - share) / (1 - is_rare.mean()))
        return replace(model, intercept=intercept_for_share(model.log_odds(synthetic), share, weight))

    def log_odds(self, tokens: Ints) -> Floats:
        """Return the log-odds of the rare outcome (n,)."""
        x = np.delete(tokens, self.column, axis=1).astype(np.float32)
        return np.asarray(np.mean([forest.scores(x) for forest in self.forests], axis=0) + self.intercept)

    def resample(self, tokens: Ints, allowed: Bools, uniform: Floats) -> Ints:
        """Sample the outcome's token given the other columns (n,).

        Parameters
        ----------
        tokens : (n, d)
        allowed : (n, size), tokens of the outcome that the rules allow; where not both, the row keeps its token
        uniform : (n,), from 0 to 1
        """
        risk = expit(self.log_odds(tokens))
        free = allowed[:, self.rare] & allowed[:, self.other]
        return np.where(free, np.where(uniform < risk, self.rare, self.other), tokens[:, self.column])


def intercept_for_share(log_odds: Floats, share: float, weight: Floats) -> float:
    """Return the number to add to log-odds (n,) so that the weighted mean risk is ``share``, by bisection.

    Examples
    --------
    >>> abs(round(intercept_for_share(np.array([-1.0, 1.0]), 0.5, np.ones(2)), 6))
    0.0
    """
    low, high = -_MAX_INTERCEPT, _MAX_INTERCEPT
    for _ in range(60):
        middle = (low + high) / 2
        mean_risk = np.average(expit(log_odds + middle), weights=weight)
        low, high = (middle, high) if mean_risk < share else (low, middle)
    return (low + high) / 2
