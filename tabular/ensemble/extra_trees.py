"""Extremely randomised trees from scikit-learn's compiled parts, tree for tree those of its ExtraTreesClassifier.

The classifier clones and validates each of its trees separately: on a few hundred rows that takes many times as long as fitting it.

Shapes: q query rows, t columns, c classes.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from nearward.tabular.typing import Floats, Floats32, Ints

_DEEPEST = np.iinfo(np.int32).max


def grow(
    x: Floats32,
    outcome: Ints,
    seed: int,
    trees: int,
    *,
    min_samples_leaf: int = 1,
    max_features: float | None = None,
    balanced: bool = False,
) -> list[Any]:
    """Grow trees.

    Parameters
    ----------
    x : (n, t), NaN for missing
    outcome : (n,), classes numbered from 0, all of them present
    seed : int
    trees : int
    min_samples_leaf : int
    max_features : float, optional
        Share of the columns that are tried at a split; by default as many as the root of their number.
    balanced : bool
        Whether all classes have the same total weight.

    Returns
    -------
    scikit-learn's compiled trees

    References
    ----------
    Geurts et al.: Extremely randomized trees (2006).
    """
    from sklearn.tree import ExtraTreeClassifier
    from sklearn.tree._criterion import Gini
    from sklearn.tree._splitter import RandomSplitter
    from sklearn.tree._tree import DepthFirstTreeBuilder, Tree
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight

    missing = ExtraTreeClassifier()._compute_missing_values_in_feature_mask(x)
    columns, classes = x.shape[1], np.array([outcome.max() + 1], dtype=np.intp)
    tried = max(1, int(sqrt(columns) if max_features is None else max_features * columns))
    y = np.ascontiguousarray(outcome, dtype=np.float64)[:, None]
    weight = compute_sample_weight("balanced", outcome) if balanced else None
    rng = check_random_state(seed)
    fitted = []
    for state in [check_random_state(rng.randint(_DEEPEST)) for _ in range(trees)]:
        splitter = RandomSplitter(Gini(1, classes), tried, min_samples_leaf, 0.0, state, None)
        builder = DepthFirstTreeBuilder(splitter, max(2, 2 * min_samples_leaf), min_samples_leaf, 0.0, _DEEPEST, 0.0)
        tree = Tree(columns, classes, 1)
        builder.build(tree, x, y, weight, missing)
        fitted.append(tree)
    return fitted


def shares(trees: list[Any], x: Floats32) -> Floats:
    """Return the mean shares of the classes in the leaves of (q, t) rows (q, c)."""
    total = np.zeros((len(x), trees[0].max_n_classes))
    for tree in trees:
        total += tree.predict(x)
    return np.asarray(total / len(trees))


def importances(trees: list[Any]) -> Floats:
    """Return the mean impurity importance of each column (t,), summing to 1; 0 where no tree has a split."""
    by_tree = [tree.compute_feature_importances() for tree in trees if tree.node_count > 1]
    if not by_tree:
        return np.zeros(trees[0].n_features)
    mean = np.mean(by_tree, axis=0, dtype=np.float64)
    return np.asarray(mean / mean.sum())
