"""Trees grown without scikit-learn's wrapping: its own, node for node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from nearward.tabular.grown import grow, share


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
def test_nodes_and_shares_are_scikit_learns(missing: float, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 7)).astype(np.float32)
    outcome = (x[:, 0] + draw.normal(size=300) > 1).astype(np.int64)
    x[draw.random(x.shape) < missing] = np.nan
    forest = ExtraTreesClassifier(10, random_state=3, **theirs).fit(x, outcome)
    trees = grow(x, outcome, 3, 10, **ours)
    for tree, other in zip(trees, forest.estimators_, strict=True):
        a, b = tree.__getstate__(), other.tree_.__getstate__()
        assert a["nodes"].tobytes() == b["nodes"].tobytes()
        np.testing.assert_array_equal(a["values"], b["values"])
    np.testing.assert_array_equal(share(trees, x), forest.predict_proba(x)[:, 1])
    assert np.ptp(share(trees, x)) > 0.3


def test_an_infinite_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="infinity"):
        grow(np.array([[np.inf], [1.0]], dtype=np.float32), np.array([0, 1]), 0, 1)
