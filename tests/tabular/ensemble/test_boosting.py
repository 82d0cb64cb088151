"""Trees of LightGBM and CatBoost as plain arrays: the same scores as theirs; the same trees whatever the threads; clear errors."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.ensemble import boosting
from nearward.tabular.ensemble.boosting import boosted_trees, require_package, symmetric_trees
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.errors import InputError, MissingPackage
from nearward.tabular.parallel import parallel_map
from nearward.tabular.persistence.artifact import pack, unpack

SETTING: dict[str, Any] = {"num_iterations": 25, "num_leaves": 8, "min_data_in_leaf": 5, "learning_rate": 0.2}


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


def queries(x: np.ndarray) -> np.ndarray:
    """The stored rows, rows with everything missing or far outside, and new ones."""
    outside = np.array([[np.nan] * 4, [1e30, -1e30, 0, 1], [np.inf, -np.inf, np.nan, 3e38]], dtype=np.float32)
    new = np.random.default_rng(77).normal(size=(100, 4)).astype(np.float32)
    return np.concatenate([x, outside, new])


def lightgbm_booster(x: np.ndarray, outcome: np.ndarray, seed: int, setting: dict[str, Any], **data: Any) -> Any:
    import lightgbm

    parameters = {**boosting._LIGHTGBM, "seed": seed, **setting}
    rounds = parameters.pop("num_iterations")
    return lightgbm.train(parameters, lightgbm.Dataset(x, outcome, params=parameters, **data), num_boost_round=rounds)


# ---- LightGBM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{}, {"extra_trees": True}, {"feature_fraction_bynode": 0.5, "lambda_l2": 3.0}, {"num_leaves": 64}])
def test_scores_are_lightgbms(extra: dict[str, Any]) -> None:
    x, outcome = table(1)
    x[:, 1] = np.nan_to_num(x[:, 1])
    setting = SETTING | extra
    (forest,) = boosted_trees(x, outcome, 5, setting)
    q = queries(x)
    q[:, 1] = np.nan_to_num(q[:, 1])
    theirs = lightgbm_booster(x, outcome, 5, setting).predict(q, raw_score=True)
    assert forest.scores(q) == pytest.approx(theirs, abs=1e-6)
    assert np.ptp(theirs) > 1


@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-30, 1.0, 1e30]), levels=st.sampled_from([2, 5, None]))
def test_forests_agree_on_generated_tables(seed: int, scale: float, levels: int | None) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 2)) if levels is None else rng.integers(0, levels, size=(60, 2))
    x = np.where(rng.random((60, 2)) < 0.2, np.nan, x * scale).astype(np.float32)
    outcome = np.append([0, 1], rng.integers(0, 2, size=58))
    setting = {"num_iterations": 4, "min_data_in_leaf": 3}
    (forest,) = boosted_trees(x, outcome, seed, setting)
    assert forest.scores(x) == pytest.approx(lightgbm_booster(x, outcome, seed, setting).predict(x, raw_score=True), abs=1e-6)


def test_several_settings_at_once_are_each_alone() -> None:
    x, outcome = table(3)
    both = boosted_trees(x, outcome, 0, SETTING, SETTING | {"extra_trees": True, "min_data_in_leaf": 30})
    for forest, extra in zip(both, ({}, {"extra_trees": True, "min_data_in_leaf": 30}), strict=True):
        assert np.array_equal(forest.scores(x), boosted_trees(x, outcome, 0, SETTING | extra)[0].scores(x))
    assert not np.array_equal(both[0].scores(x), both[1].scores(x))


def test_a_value_missing_where_no_stored_row_misses_it_goes_with_the_most_rows() -> None:
    x = np.repeat(np.array([0, 1], dtype=np.float32), [40, 80])[:, None]
    outcome = np.append(np.arange(40) % 4 == 0, np.arange(80) % 4 != 0).astype(np.int64)
    (forest,) = boosted_trees(x, outcome, 0, SETTING | {"num_leaves": 2})
    low, high, missing = forest.scores(np.array([[0], [1], [np.nan]], dtype=np.float32))
    assert low < high == missing
    (other,) = boosted_trees(-x, outcome, 0, SETTING | {"num_leaves": 2})
    assert other.scores(np.array([[np.nan]], dtype=np.float32)) == pytest.approx(high)


def test_a_column_without_a_value_is_never_split() -> None:
    x, outcome = table(2)
    (forest,) = boosted_trees(np.insert(x, 2, np.nan, axis=1), outcome, 5, SETTING)
    assert 2 not in forest.feature
    (alone,) = boosted_trees(x, outcome, 5, SETTING)
    filled = np.insert(x, 2, np.random.default_rng(0).normal(size=len(x)), axis=1)  # new rows may have it
    np.testing.assert_array_equal(forest.scores(filled.astype(np.float32)), alone.scores(x))


def test_where_nothing_can_be_split_every_score_is_the_outcomes_log_odds() -> None:
    (forest,) = boosted_trees(np.zeros((40, 1), dtype=np.float32), (np.arange(40) % 4 == 0).astype(np.int64), 0, SETTING)
    assert (forest.feature == -1).all()
    assert forest.scores(np.ones((2, 1), dtype=np.float32)) == pytest.approx(np.log([1 / 3, 1 / 3]), abs=1e-6)


def test_a_weight_counts_as_so_many_rows() -> None:
    x, outcome = table(6, missing=0)
    weight = np.where(outcome == 1, 3.0, 1.0)
    (weighted,) = boosted_trees(x, outcome, 0, SETTING | {"min_data_in_leaf": 1, "num_iterations": 5}, sample_weight=weight)
    rows = np.repeat(np.arange(len(x)), weight.astype(int))
    (repeated,) = boosted_trees(x[rows], outcome[rows], 0, SETTING | {"min_data_in_leaf": 1, "num_iterations": 5})
    assert weighted.scores(x).mean() == pytest.approx(repeated.scores(x).mean(), abs=0.05)
    (plain,) = boosted_trees(x, outcome, 0, SETTING | {"num_iterations": 5})
    assert weighted.scores(x).mean() > plain.scores(x).mean() + 0.3


def test_the_same_seed_grows_the_same_trees_and_another_one_others() -> None:
    x, outcome = table(4)
    setting = SETTING | {"extra_trees": True, "feature_fraction_bynode": 0.5}
    one, same, other, large = (boosted_trees(x, outcome, seed, setting)[0].scores(x) for seed in (0, 0, 1, 2**40))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(large) == len(x)


def test_trees_do_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, outcome = table(4, n=3000)
    one = boosted_trees(x, outcome, 0, SETTING)[0].scores(x)
    monkeypatch.setitem(boosting._LIGHTGBM, "num_threads", 3)
    assert np.array_equal(boosted_trees(x, outcome, 0, SETTING)[0].scores(x), one)
    monkeypatch.undo()
    for scores in parallel_map(lambda seed: boosted_trees(x, outcome, 0, SETTING)[0].scores(x), range(4)):
        assert np.array_equal(scores, one)


_QUIET = """
import os
import numpy as np
from nearward.tabular.ensemble.boosting import boosted_trees
outcome = np.arange(3000) % 2
boosted_trees(np.full((3000, 2), np.nan, dtype=np.float32), outcome, 0, {"num_iterations": 3})
boosted_trees(np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32), outcome, 0, {"num_iterations": 3})
print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
"""


def test_nothing_is_printed_and_no_threads_are_started() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    result = subprocess.run([sys.executable, "-c", _QUIET], capture_output=True, text=True, check=True, env=environment)
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_packed_and_unpacked_it_scores_bit_for_bit_alike() -> None:
    x, outcome = table(5)
    (forest,) = boosted_trees(x, outcome, 0, SETTING)
    tensors: dict[str, Any] = {}
    again = unpack(pack(forest, tensors), tensors, (Forest,))
    assert np.array_equal(again.scores(queries(x)), forest.scores(queries(x)))


@pytest.mark.parametrize("name", ["lightgbm", "catboost"])
def test_a_package_that_cannot_be_imported_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackage, match=f"pip install .*{name}") as caught:
        require_package(name)
    assert isinstance(caught.value, InputError)
    if name == "lightgbm":
        with pytest.raises(MissingPackage, match="LightGBM"):
            boosted_trees(*table(0), 0, SETTING)


# ---- CatBoost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_scores_are_catboosts(missing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    catboost = pytest.importorskip("catboost", reason="an extra: nearward[catboost]")
    monkeypatch.setitem(boosting._CATBOOST, "iterations", 40)
    x, outcome = table(1, missing=missing)
    q = queries(x)[np.isfinite(np.nan_to_num(queries(x), nan=0)).all(axis=1)]
    theirs = catboost.CatBoostClassifier(random_seed=5, **boosting._CATBOOST).fit(x, outcome)
    forest = symmetric_trees(x, outcome, 5)
    assert forest.scores(q) == pytest.approx(theirs.predict(q, prediction_type="RawFormulaVal"), abs=1e-6)
    assert max(len(forest._conditions.feature), 6) == 6  # a condition a level
    assert np.array_equal(symmetric_trees(x, outcome, 5).scores(q), forest.scores(q))
    assert not np.array_equal(symmetric_trees(x, outcome, 5, np.where(outcome == 1, 3.0, 1.0)).scores(q), forest.scores(q))
