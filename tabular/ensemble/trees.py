"""Tree ensembles that scikit-learn fits, as plain arrays: nothing is pickled, and loading executes no code.

Shapes: q query rows, t tree columns, m nodes of all trees together.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.ensemble.extra_trees import grow
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.parallel import cpu_count
from nearward.tabular.typing import Floats, Floats32, Ints

_LEAF = -1


@dataclass(frozen=True)
class Forest:
    """Trees whose leaf values are summed.

    Parameters
    ----------
    start : (trees + 1,), first node of each tree
    feature : (m,), column split at a node; -1 at a leaf
    threshold : (m,), left where value <= threshold
    left, right : (m,), child nodes, counted from the tree's first
    missing_left : (m,), whether a missing value goes left
    value : (m,), added by a leaf
    base : float, added to every score
    columns : int, t
    """

    start: Ints
    feature: NDArray[np.int32]
    threshold: Floats32
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    value: Floats32
    base: float
    columns: int

    def __post_init__(self) -> None:
        """Refuse trees that point outside themselves or back towards their root."""
        nodes = len(self.feature)
        lengths = {len(array) for array in (self.threshold, self.left, self.right, self.missing_left, self.value)}
        steps = np.diff(self.start)
        sound = lengths == {nodes} and len(steps) > 0 and bool((steps > 0).all()) and self.start[0] == 0 and self.start[-1] == nodes
        if sound:
            size, position = np.repeat(steps, steps), np.arange(nodes) - np.repeat(self.start[:-1], steps)
            leaf = self.feature == _LEAF
            valid = (self.feature < self.columns) & (self.feature >= _LEAF)
            for child in (self.left, self.right):
                valid &= leaf | ((child > position) & (child < size))
            sound = bool(valid.all())
        if not sound:
            raise ArtifactError("a tree ensemble in the model is malformed: fit and save the model again")

    def scores(self, x: Floats32) -> Floats:
        """Return the sum over trees for (q, t) rows, NaN for missing -> (q,)."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.columns:
            raise InputError(f"x must be (q, {self.columns}), got x.shape={x.shape}")
        total = np.full(len(x), self.base)
        for part in _each_tree(lambda tree: tree.predict(x)[:, 0], self._trees):
            total += part
        return total

    @cached_property
    def _trees(self) -> list[Any]:
        return [self._tree(first, last) for first, last in zip(self.start[:-1], self.start[1:], strict=True)]

    def _tree(self, first: int, last: int) -> Any:
        """Rebuild one tree in scikit-learn's compiled form, by the names of its fields."""
        from sklearn.tree._tree import Tree

        node = np.zeros(last - first, dtype=_node_type())
        leaf = self.feature[first:last] == _LEAF
        node["left_child"] = np.where(leaf, -1, self.left[first:last])
        node["right_child"] = np.where(leaf, -1, self.right[first:last])
        node["feature"] = np.where(leaf, -2, self.feature[first:last])
        node["threshold"] = self.threshold[first:last]
        node["missing_go_to_left"] = self.missing_left[first:last]
        tree = Tree(self.columns, np.array([1], dtype=np.intp), 1)
        values = self.value[first:last].astype(np.float64).reshape(-1, 1, 1)
        tree.__setstate__({"max_depth": 0, "node_count": len(node), "nodes": node, "values": values})
        return tree


@cache
def _node_type() -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(max_depth=1).fit([[0.0], [1.0]], [0.0, 1.0]).tree_.__getstate__()["nodes"].dtype


def boosted_trees(x: Floats32, outcome: Ints, seed: int, **settings: Any) -> Forest:
    """Grow gradient-boosted trees on the log-odds.

    Parameters
    ----------
    x : (n, t), NaN for missing; a column without values is never split
    outcome : (n,), 0 or 1
    seed : int
    **settings
        Passed to scikit-learn's HistGradientBoostingClassifier.

    Returns
    -------
    Forest, whose scores are log-odds
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    empty = np.isnan(x).all(axis=0)
    if empty.any():  # scikit-learn can't cut it into bins; a constant is never split on
        x = np.where(empty, np.float32(0), x)
    model = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **settings).fit(x, outcome)
    trees = [stage[0].nodes for stage in model._predictors]
    return _pack(
        [
            (
                np.where(n["is_leaf"], _LEAF, n["feature_idx"]),
                n["num_threshold"],
                n["left"],
                n["right"],
                n["missing_go_to_left"],
                n["value"],
            )
            for n in trees
        ],
        base=float(model._baseline_prediction[0, 0]),
        columns=x.shape[1],
    )


def extra_trees(x: Floats32, outcome: Ints, seed: int, trees: int, min_samples_leaf: int = 1, max_features: float | None = None) -> Forest:
    """Grow extremely randomised trees, see ``extra_trees.grow``; the scores are shares of events."""
    return _shares(grow(x, outcome, seed, trees, min_samples_leaf=min_samples_leaf, max_features=max_features), x.shape[1])


def random_forest(x: Floats32, outcome: Ints, seed: int, trees: int, **settings: Any) -> Forest:
    """Grow a random forest by scikit-learn's RandomForestClassifier, with ``settings``; the scores are shares of events.

    Parameters
    ----------
    x : (n, t), NaN for missing
    outcome : (n,), 0 or 1, both present
    seed : int
    trees : int
    """
    from sklearn.ensemble import RandomForestClassifier

    estimators = RandomForestClassifier(trees, random_state=seed, **settings).fit(x, outcome).estimators_
    return _shares([one.tree_ for one in estimators], x.shape[1])


def _shares(trees: list[Any], columns: int) -> Forest:
    parts = []
    for tree in trees:
        node = tree.__getstate__()["nodes"]
        event_share = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1) / len(trees)
        feature = np.where(tree.children_left == -1, _LEAF, tree.feature)
        parts.append((feature, tree.threshold, tree.children_left, tree.children_right, node["missing_go_to_left"], event_share))
    return _pack(parts, base=0.0, columns=columns)


def _pack(parts: list[tuple[Any, ...]], base: float, columns: int) -> Forest:
    feature, threshold, left, right, missing, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    leaf = feature == _LEAF
    return Forest(
        start=np.cumsum([0, *(len(part[0]) for part in parts)]).astype(np.int64),
        feature=feature.astype(np.int32),
        threshold=np.where(leaf, 0, _not_above(threshold)).astype(np.float32),
        left=np.where(leaf, 0, left).astype(np.int32),
        right=np.where(leaf, 0, right).astype(np.int32),
        missing_left=np.where(leaf, 0, missing).astype(np.uint8),
        value=np.where(leaf, value, 0).astype(np.float32),
        base=base,
        columns=columns,
    )


def _not_above(threshold: Floats) -> Floats32:
    """Return the largest float32 not above each threshold: compared with float32 values it splits exactly as the float64 does."""
    with np.errstate(over="ignore"):
        single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def _each_tree(predict: Any, trees: list[Any]) -> Any:
    if len(trees) < 8 or cpu_count() == 1:
        return map(predict, trees)
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(predict, trees))
