"""Trees grown without scikit-learn's wrapping: its own, node for node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from nearward.tabular.ensemble.extra_trees import grow, importances, shares


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"balanced": True}, {"class_weight": "balanced"}),
        ({"min_samples_leaf": 4, "max_features": 0.4}, {"min_samples_leaf": 4, "max_features": 0.4}),
        ({"max_features": 1.0}, {"max_features": 1.0}),
    ],
)
def test_nodes_and_shares_are_scikit_learns(classes: int, missing: float, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 7)).astype(np.float32)
    outcome = np.digitize(x[:, 0] + rng.normal(size=300), [0.5, 1.5][: classes - 1])
    x[rng.random(x.shape) < missing] = np.nan
    forest = ExtraTreesClassifier(10, random_state=3, **theirs).fit(x, outcome)
    trees = grow(x, outcome, 3, 10, **ours)
    for tree, other in zip(trees, forest.estimators_, strict=True):
        a, b = tree.__getstate__(), other.tree_.__getstate__()
        assert a["nodes"].tobytes() == b["nodes"].tobytes()
        np.testing.assert_array_equal(a["values"], b["values"])
    np.testing.assert_array_equal(shares(trees, x), forest.predict_proba(x))
    np.testing.assert_array_equal(importances(trees), forest.feature_importances_)
    assert np.ptp(shares(trees, x)[:, 1]) > 0.3
    assert importances(trees).argmax() == 0


def test_where_nothing_can_be_parted_nothing_is_important() -> None:
    alike = grow(np.ones((20, 3), dtype=np.float32), np.arange(20) % 2, 0, 2)
    assert importances(alike).tolist() == [0, 0, 0]
    assert shares(alike, np.ones((1, 3), dtype=np.float32)).tolist() == [[0.5, 0.5]]


def test_an_infinite_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="infinity"):
        grow(np.array([[np.inf], [1.0]], dtype=np.float32), np.array([0, 1]), 0, 1)
