"""Forests as plain arrays: the same numbers as scikit-learn's own predictions, and no tree that leads astray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from nearward.tabular.ensemble import trees
from nearward.tabular.ensemble.trees import Forest, boosted_trees, extra_trees
from nearward.tabular.errors import ArtifactError, NearwardError

BOOSTED: dict[str, Any] = {"max_iter": 25, "max_leaf_nodes": 8, "min_samples_leaf": 5, "learning_rate": 0.2}


def table(seed: int, n: int = 250, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Four columns: smooth, few levels, mostly missing, and one that is missing when the outcome is likely."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 1] = rng.integers(0, 3, size=n)
    outcome = (x[:, 0] + (x[:, 1] == 2) + rng.normal(size=n) > 1.2).astype(np.int64)
    x[rng.random((n, 4)) < missing] = np.nan
    x[:, 2] = np.where(rng.random(n) < 0.9, np.nan, x[:, 2])
    x[:, 3] = np.where((outcome == 1) & (rng.random(n) < 0.8), np.nan, x[:, 3])
    return x.astype(np.float32), outcome


def scikit_learn_input(x: np.ndarray) -> np.ndarray:
    """Rows on the thresholds' own values, all missing, and far outside."""
    outside = np.array([[np.nan] * 4, [1e30, -1e30, 0, 1], [np.inf, -np.inf, np.nan, 3e38]], dtype=np.float32)
    new = np.random.default_rng(77).normal(size=(100, 4)).astype(np.float32)
    return np.concatenate([x, outside, new])


@pytest.fixture(scope="module")
def boosted() -> Forest:
    return boosted_trees(*table(0), seed=3, **BOOSTED)


# ---- equal to scikit-learn -----------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("max_features", [1.0, 0.4])
def test_boosted_scores_are_scikit_learns_log_odds(missing: float, max_features: float) -> None:
    x, outcome = table(1, missing=missing)
    forest = boosted_trees(x, outcome, seed=5, max_features=max_features, **BOOSTED)
    theirs = HistGradientBoostingClassifier(early_stopping=False, random_state=5, max_features=max_features, **BOOSTED).fit(x, outcome)
    finite = scikit_learn_input(x)[~np.isinf(scikit_learn_input(x)).any(axis=1)]
    assert np.abs(forest.scores(finite) - theirs.decision_function(finite)).max() < 1e-6
    raw = theirs._raw_predict(scikit_learn_input(x))[:, 0]
    assert np.abs(forest.scores(scikit_learn_input(x)) - raw).max() < 1e-6
    assert np.ptp(raw) > 1


def test_a_column_without_a_value_is_never_split() -> None:
    x, outcome = table(2)
    forest = boosted_trees(np.insert(x, 2, np.nan, axis=1), outcome, seed=5, **BOOSTED)
    assert 2 not in forest.feature
    alone = boosted_trees(x, outcome, seed=5, **BOOSTED)
    filled = np.insert(x, 2, np.random.default_rng(0).normal(size=len(x)), axis=1)  # new rows may have it
    np.testing.assert_array_equal(forest.scores(filled.astype(np.float32)), alone.scores(x))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_extra_trees_scores_are_scikit_learns_shares(missing: float) -> None:
    x, outcome = table(2, missing=missing)
    forest = extra_trees(x, outcome, seed=5, trees=12, min_samples_leaf=3, max_features=0.4)
    theirs = ExtraTreesClassifier(12, random_state=5, min_samples_leaf=3, max_features=0.4).fit(x, outcome)
    finite = scikit_learn_input(x)[~np.isinf(scikit_learn_input(x)).any(axis=1)]
    assert np.abs(forest.scores(finite) - theirs.predict_proba(finite)[:, 1]).max() < 1e-6


def test_thresholds_between_neighbouring_singles_split_as_doubles_do() -> None:
    below = np.float32(1.0)
    above = np.nextafter(below, np.float32(2))
    middle = (np.float64(below) + np.float64(above)) / 2
    rounded = trees._not_above(np.array([middle, 1.0, 1e308, -1e308, np.inf, 1e-320]))
    assert rounded.dtype == np.float32
    assert rounded[0] == below
    assert rounded[1] == 1
    assert rounded[2] == np.finfo(np.float32).max
    assert rounded[3] == -np.inf
    assert rounded[4] == np.inf
    assert rounded[5] <= 1e-320
    x = np.repeat(np.array([below, above]), 30)[:, None]
    outcome = np.repeat([0, 1], 30)
    scores = boosted_trees(x, outcome, seed=0, **BOOSTED).scores(np.array([[below], [above]]))
    assert scores[0] < 0 < scores[1]


@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-30, 1.0, 1e30]), levels=st.sampled_from([2, 5, None]))
def test_forests_agree_on_generated_tables(seed: int, scale: float, levels: int | None) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 2)) if levels is None else rng.integers(0, levels, size=(60, 2))
    x = np.where(rng.random((60, 2)) < 0.2, np.nan, x * scale).astype(np.float32)
    outcome = np.append([0, 1], rng.integers(0, 2, size=58))
    how: dict[str, Any] = {"max_iter": 4, "min_samples_leaf": 3}
    forest = boosted_trees(x, outcome, seed=0, **how)
    theirs = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **how).fit(x, outcome)
    assert forest.scores(x) == pytest.approx(theirs.decision_function(x), abs=1e-6)
    few = extra_trees(x, outcome, seed=0, trees=3)
    assert few.scores(x) == pytest.approx(ExtraTreesClassifier(3, random_state=0).fit(x, outcome).predict_proba(x)[:, 1], abs=1e-6)


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


def test_no_rows_give_no_scores() -> None:
    assert stump().scores(np.zeros((0, 2), dtype=np.float32)).shape == (0,)


def test_a_row_alone_scores_as_in_a_batch(boosted: Forest) -> None:
    x = scikit_learn_input(table(0)[0])
    batch = boosted.scores(x)
    assert np.array_equal(np.concatenate([boosted.scores(x[i : i + 1]) for i in range(len(x))]), batch)
    order = np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(boosted.scores(x[order]), batch[order])
    assert np.array_equal(boosted.scores(np.asfortranarray(x)), batch)


def test_many_workers_score_as_one(boosted: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    x = scikit_learn_input(table(0)[0])
    monkeypatch.setattr(trees, "cpu_count", lambda: 1)
    one = boosted.scores(x)
    monkeypatch.setattr(trees, "cpu_count", lambda: 4)
    assert np.array_equal(boosted.scores(x), one)


def test_the_same_seed_grows_the_same_forest() -> None:
    x, outcome = table(4)
    for grow in (
        lambda s: boosted_trees(x, outcome, s, max_features=0.5, **BOOSTED),
        lambda s: extra_trees(x, outcome, s, 5),
    ):
        one, same, other = grow(0).scores(x), grow(0).scores(x), grow(1).scores(x)
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


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
}


@pytest.mark.parametrize("fault", BROKEN)
def test_malformed_trees_are_refused(fault: str) -> None:
    with pytest.raises(ArtifactError, match="malformed") as caught:
        replace(_SOUND, **BROKEN[fault])
    assert isinstance(caught.value, NearwardError)


def test_a_child_before_its_parent_is_refused(boosted: Forest) -> None:
    inner = np.flatnonzero(boosted.feature[: boosted.start[1]] >= 0)
    deep = int(inner[inner > 0][0])
    with pytest.raises(ArtifactError, match="malformed"):
        replace(boosted, left=_with(boosted.left, deep, deep - 1))


def test_trees_without_a_split_are_sound() -> None:
    forest = boosted_trees(np.zeros((30, 1), dtype=np.float32), np.arange(30) % 2, seed=0, **BOOSTED)
    assert (forest.feature == -1).all()


def test_rows_with_too_few_columns_are_refused_and_never_read_past_their_end() -> None:
    with pytest.raises((NearwardError, ValueError)):
        stump().scores(np.zeros((3, 1), dtype=np.float32))
