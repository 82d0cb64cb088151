"""Tree learners by name, each with a frozen dataclass of arrays as fitted state: gradient boosting, or a random forest.

Shapes: n rows, q query rows, t columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.ensemble.boosting import boosted_trees
from nearward.tabular.ensemble.trees import LEAF, MOST_LEAVES, Forest, pack_trees
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Floats32, Ints

LEARNERS = ("boosting", "forest")
_BOOSTING = {"num_iterations": 200, "learning_rate": 0.05, "num_leaves": 31}
_TREES = 200


@dataclass(frozen=True)
class ShareForest:
    """A forest whose leaf values are shares of events.

    Parameters
    ----------
    forest : Forest
    """

    forest: Forest

    def scores(self, x: Floats32) -> Floats:
        """Return log-odds (q,)."""
        return logit(self.forest.scores(x), 1e-3)


FittedTrees = ShareForest | Forest


def check_learner(name: str) -> None:
    """Refuse an unknown learner."""
    if name not in LEARNERS:
        raise InputError(f"learner must be one of {list(LEARNERS)}, got learner={name!r}")


def fit_learner(name: str, x: Floats32, outcome: Ints, seed: int, sample_weight: Floats | None = None) -> FittedTrees:
    """Fit a learner on rows (n, t) with outcome (n,) and, optionally, weights (n,)."""
    if name == "forest":
        return ShareForest(random_forest(x, outcome, seed, _TREES, sample_weight))
    return boosted_trees(x, outcome, seed, _BOOSTING, sample_weight=sample_weight)[0]


def random_forest(x: Floats32, outcome: Ints, seed: int, trees: int, sample_weight: Floats | None = None) -> Forest:
    """Grow a random forest by scikit-learn's RandomForestClassifier; the scores are shares of events.

    Parameters
    ----------
    x : (n, t), NaN for missing
    outcome : (n,), 0 or 1, both present
    seed : int
    trees : int
        Each has up to 64 leaves, of at least 2 rows.
    sample_weight : (n,), optional
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(trees, min_samples_leaf=2, max_leaf_nodes=MOST_LEAVES, random_state=seed)
    parts = []
    for tree in (one.tree_ for one in forest.fit(x, outcome, sample_weight=sample_weight).estimators_):
        event_share = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1) / trees
        feature = np.where(tree.children_left == -1, LEAF, tree.feature)
        parts.append((feature, tree.threshold, tree.children_left, tree.children_right, tree.missing_go_to_left, event_share))
    return pack_trees(parts, x.shape[1])
