"""Extremely randomised trees from scikit-learn's compiled parts, tree for tree those of its ExtraTreesClassifier.

The classifier copies, inspects and checks each of its trees as if it came alone: on a few hundred rows that takes many times as long as
growing it.

Letters: q rows asked about, t columns.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_DEEPEST = np.iinfo(np.int32).max


def grow(
    x: Singles,
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
    outcome : (n,), 0 or 1, both present
    seed : int
    trees : int
    min_samples_leaf : int
    max_features : float, optional
        Share of the columns that are tried at a split; by default as many as the root of their number.
    balanced : bool
        Whether both outcomes weigh the same, however rare one is.

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
    columns, both = x.shape[1], np.array([2], dtype=np.intp)
    tried = max(1, int(sqrt(columns) if max_features is None else max_features * columns))
    event = np.ascontiguousarray(outcome, dtype=np.float64)[:, None]
    weight = compute_sample_weight("balanced", outcome) if balanced else None
    draw = check_random_state(seed)
    grown = []
    for state in [check_random_state(draw.randint(_DEEPEST)) for _ in range(trees)]:
        splitter = RandomSplitter(Gini(1, both), tried, min_samples_leaf, 0.0, state, None)
        builder = DepthFirstTreeBuilder(splitter, max(2, 2 * min_samples_leaf), min_samples_leaf, 0.0, _DEEPEST, 0.0)
        tree = Tree(columns, both, 1)
        builder.build(tree, x, event, weight, missing)
        grown.append(tree)
    return grown


def share(trees: list[Any], x: Singles) -> Floats:
    """Return the mean share of events in the leaves of (q, t) rows (q,)."""
    total = np.zeros(len(x))
    for tree in trees:
        total += tree.predict(x)[:, 1]
    return total / len(trees)
