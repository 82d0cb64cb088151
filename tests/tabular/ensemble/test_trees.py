"""Forests as plain arrays: walked by hand they give the same scores, and no tree that leads astray is accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.ensemble import trees
from nearward.tabular.ensemble.trees import LEAF, MOST_LEAVES, Forest, pack_trees
from nearward.tabular.errors import ArtifactError, NearwardError


def grown(seed: int, trees: int, leaves: int, columns: int = 4) -> Forest:
    """Trees of random shape, conditions and values; thresholds from a grid, so that conditions repeat and rows lie on them."""
    rng, parts = np.random.default_rng(seed), []
    for _ in range(trees):
        feature, left, right = [LEAF], [LEAF], [LEAF]
        for _ in range(int(rng.integers(1, leaves + 1)) - 1 if leaves < MOST_LEAVES else leaves - 1):
            node = int(rng.choice(np.flatnonzero(np.array(feature) == LEAF)))
            feature[node], left[node], right[node] = int(rng.integers(columns)), len(feature), len(feature) + 1
            for column in (feature, left, right):
                column += [LEAF, LEAF]
        n = len(feature)
        threshold, missing = rng.integers(-3, 4, size=n) / 2, rng.integers(0, 2, size=n)
        parts.append(tuple(map(np.array, (feature, threshold, left, right, missing, rng.normal(size=n)))))
    return pack_trees(parts, columns, 0.25)


def rows(seed: int, n: int, columns: int = 4) -> np.ndarray:
    """Rows on the thresholds' own values, between them, missing, infinite, and a negative zero."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, size=(n, columns)) / 2 + rng.choice([0, 0.1], size=(n, columns))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.05] = np.inf
    x[rng.random(x.shape) < 0.05] = -np.inf
    x[rng.random(x.shape) < 0.05] = -0.0
    return x.astype(np.float32)


def walk(forest: Forest, row: np.ndarray) -> float:
    """Score one row as one would by hand."""
    total = forest.base
    for start in forest.start[:-1]:
        node = 0
        while (feature := forest.feature[start + node]) != LEAF:
            value = row[feature]
            goes_left = forest.missing_left[start + node] if np.isnan(value) else value <= forest.threshold[start + node]
            node = forest.left[start + node] if goes_left else forest.right[start + node]
        total += float(forest.value[start + node])
    return total


# ---- equal to a walk --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10_000), leaves=st.sampled_from([1, 2, 5, 31, 32, 33, MOST_LEAVES]), count=st.integers(1, 9))
def test_scores_are_those_of_a_walk(seed: int, leaves: int, count: int) -> None:
    forest, x = grown(seed, count, leaves), rows(seed + 1, 40)
    assert forest.scores(x) == pytest.approx([walk(forest, row) for row in x], abs=1e-9)


def test_deep_trees_of_64_leaves_on_either_side() -> None:
    for toward_left in (0, 1):
        n, inner = 2 * MOST_LEAVES - 1, MOST_LEAVES - 1
        node = np.arange(n)
        feature = np.where(node < 2 * inner, np.where(node % 2 == 0, 0, LEAF), LEAF)  # each inner node has a leaf and the next node
        leaf_child, next_child = np.where(feature == 0, node + 1, 0), np.where(feature == 0, node + 2, 0)
        threshold = -node / 2 if toward_left else node / 2
        left, right = (next_child, leaf_child) if toward_left else (leaf_child, next_child)
        forest = pack_trees([(feature, threshold, left, right, np.ones(n, np.int64), node.astype(float))], 1)
        x = np.linspace(-70, 70, 300, dtype=np.float32)[:, None]
        assert forest.scores(x).tolist() == [walk(forest, row) for row in x]
        assert len(np.unique(forest.scores(x))) == MOST_LEAVES


def test_a_condition_that_repeats_in_a_tree_is_evaluated_once() -> None:
    repeated = (
        np.array([0, 1, 1, LEAF, LEAF, LEAF, LEAF]),
        np.array([0.5, 1, 1, 0, 0, 0, 0]),
        np.array([1, 3, 5, 0, 0, 0, 0]),
        np.array([2, 4, 6, 0, 0, 0, 0]),
        np.zeros(7, np.int64),
        np.arange(7.0),
    )
    forest = pack_trees([repeated], 2)
    assert len(forest._conditions.feature) == 2
    assert forest.scores(np.array([[0, 0], [0, 2], [1, 0], [1, np.nan]], dtype=np.float32)).tolist() == [3, 4, 5, 6]


def test_thresholds_between_neighbouring_singles_split_as_doubles_do() -> None:
    below = np.float32(1.0)
    above = np.nextafter(below, np.float32(2))
    middle = (np.float64(below) + np.float64(above)) / 2
    most = np.finfo(np.float32).max
    rounded = trees._round_down(np.array([middle, 1.0, 1e308, -1e308, 1e-320]))
    assert rounded.dtype == np.float32
    assert rounded[:4].tolist() == [below, 1, most, -most]
    assert rounded[4] <= 1e-320


# ---- by hand and alone ---------------------------------------------------------------------------


def stump(**changed: Any) -> Forest:
    """Two trees: column 1 at 0.5 with missing values to the right, and a single leaf of 10."""
    fields: dict[str, Any] = {
        "start": np.array([0, 3, 4]),
        "feature": np.array([1, -1, -1, -1], dtype=np.int32),
        "threshold": np.array([0.5, 0, 0, 0], dtype=np.float32),
        "left": np.array([1, 0, 0, 0], dtype=np.int32),
        "right": np.array([2, 0, 0, 0], dtype=np.int32),
        "missing_left": np.array([0, 0, 0, 0], dtype=np.uint8),
        "value": np.array([0, 1, 2, 10], dtype=np.float32),
    }
    return Forest(**{**fields, "base": 100.0, "columns": 2, **changed})


def test_two_trees_by_hand() -> None:
    x = np.array([[9, 0.5], [9, 0.6], [9, np.nan], [np.nan, -1]], dtype=np.float32)
    assert stump().scores(x).tolist() == [111, 112, 112, 111]
    missing_goes_left = stump(missing_left=np.array([1, 0, 0, 0], dtype=np.uint8))
    assert missing_goes_left.scores(x).tolist() == [111, 112, 111, 111]


def test_the_first_trees_score_as_their_stage_does() -> None:
    forest, x = grown(5, 40, 31), rows(6, 60)
    staged = forest.staged_scores(x, [1, 10, 40, 60])
    for stage, count in enumerate([1, 10, 40, 40]):
        assert forest.first(count).trees == count
        assert staged[stage] == pytest.approx(forest.first(count).scores(x), abs=1e-9)
    assert np.array_equal(forest.first(60).scores(x), forest.scores(x))
    assert np.abs(staged[0] - staged[1]).max() > 0.1


def test_no_rows_give_no_scores() -> None:
    assert stump().scores(np.zeros((0, 2), dtype=np.float32)).shape == (0,)


def test_a_row_alone_scores_as_in_a_batch() -> None:
    forest, x = grown(0, 300, 31), rows(1, 350)
    batch = forest.scores(x)
    assert np.array_equal(np.concatenate([forest.scores(x[i : i + 1]) for i in range(len(x))]), batch)
    order = np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(forest.scores(x[order]), batch[order])
    assert np.array_equal(forest.scores(np.asfortranarray(x)), batch)


def test_many_workers_score_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    forest, x = grown(2, 300, 31), rows(3, 1000)
    monkeypatch.setattr(trees, "cpu_count", lambda: 1)
    one = forest.scores(x)
    monkeypatch.setattr(trees, "cpu_count", lambda: 4)
    assert np.array_equal(forest.scores(x), one)


# ---- malformed -----------------------------------------------------------------------------------


def _with(array: np.ndarray, place: int, value: float) -> np.ndarray:
    out = array.copy()
    out[place] = value
    return out


_SOUND = stump()
BROKEN: dict[str, dict[str, Any]] = {
    "child past the tree's end": {"right": _with(_SOUND.right, 0, 3)},
    "child far away": {"left": _with(_SOUND.left, 0, 10**6)},
    "child that is the node itself": {"left": _with(_SOUND.left, 0, 0)},
    "child before the tree": {"left": _with(_SOUND.left, 0, -1)},
    "column that is not there": {"feature": _with(_SOUND.feature, 0, 2)},
    "column below the leaf mark": {"feature": _with(_SOUND.feature, 0, -2)},
    "fewer columns than asked": {"columns": 1},
    "first tree does not start at 0": {"start": np.array([1, 3, 4])},
    "nodes past the last tree": {"start": np.array([0, 3])},
    "trees past the last node": {"start": np.array([0, 3, 4, 5])},
    "an empty tree": {"start": np.array([0, 3, 3, 4])},
    "trees that run backwards": {"start": np.array([0, 5, 4])},
    "no trees at all": {"start": np.array([], dtype=np.int64)},
    "features cut short": {"feature": _SOUND.feature[:-1]},
    "children cut short": {"left": _SOUND.left[:-1]},
    "thresholds cut short": {"threshold": _SOUND.threshold[:-1]},
    "values cut short": {"value": _SOUND.value[:-1]},
    "missing directions cut short": {"missing_left": _SOUND.missing_left[:-1]},
    "a missing direction that is neither": {"missing_left": _with(_SOUND.missing_left, 0, 2)},
    "both children the same": {"left": _with(_SOUND.left, 0, 2)},
    "a threshold that is NaN": {"threshold": _with(_SOUND.threshold, 0, np.nan)},
    "an infinite value": {"value": _with(_SOUND.value, 1, np.inf)},
    "a base that is NaN": {"base": float("nan")},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_malformed_trees_are_refused(fault: str) -> None:
    with pytest.raises(ArtifactError, match="malformed") as caught:
        replace(_SOUND, **BROKEN[fault])
    assert isinstance(caught.value, NearwardError)


def test_a_child_before_its_parent_is_refused() -> None:
    forest = grown(0, 1, MOST_LEAVES)
    deep = int(np.flatnonzero(forest.feature >= 0)[-1])
    with pytest.raises(ArtifactError, match="malformed"):
        replace(forest, left=_with(forest.left, deep, deep - 1))


def test_two_parents_of_a_node_and_a_node_without_one_are_refused() -> None:
    forest = grown(0, 1, MOST_LEAVES)
    first, second = np.flatnonzero(forest.feature >= 0)[:2]
    with pytest.raises(ArtifactError, match="malformed"):
        replace(forest, left=_with(forest.left, first, forest.left[second]))


def test_a_tree_of_more_than_64_leaves_is_refused() -> None:
    with pytest.raises(ArtifactError, match="malformed"):
        grown(0, 1, MOST_LEAVES + 1)


def test_rows_with_too_few_columns_are_refused_and_never_read_past_their_end() -> None:
    with pytest.raises((NearwardError, ValueError)):
        stump().scores(np.zeros((3, 1), dtype=np.float32))
