"""Gradient-boosted trees by LightGBM, and by CatBoost where it is installed, as plain arrays (``trees.Forest``).

Neither library is needed to score: no file of theirs is written into a model or read from one.

Shapes: n rows, t tree columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nearward.tabular.ensemble.trees import LEAF, Forest, pack_trees
from nearward.tabular.errors import MissingPackage
from nearward.tabular.typing import Floats, Floats32, Ints

_MODEL_VERSION = "v4"  # of LightGBM's text
_SEEDS = 2**31 - 1
_PACKAGES = {
    "lightgbm": ("LightGBM", "gradient-boosted trees need it to be fitted", "lightgbm"),
    "catboost": ("CatBoost", 'trees="lightgbm+catboost" needs it to be fitted', "nearward[catboost]"),
}
_MISSING_AS_NAN = 2  # bits 2 and 3 of LightGBM's decision type
# One thread a fit, and sums in a fixed order: the same trees on every machine, whatever its load. Folds are fitted side by side instead.
_LIGHTGBM = {
    "objective": "binary", "num_threads": 1, "deterministic": True, "force_col_wise": True, "feature_pre_filter": False, "verbosity": -1,
}  # fmt: skip
_CATBOOST: dict[str, Any] = {"iterations": 400, "depth": 6, "thread_count": 1, "allow_writing_files": False, "logging_level": "Silent"}


def require_package(name: str) -> Any:
    """Import ``lightgbm`` or ``catboost``.

    Raises
    ------
    MissingPackage
    """
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: a library of its own, as OpenMP's, can't be loaded
        raise MissingPackage(*_PACKAGES[name]) from error


def boosted_trees(
    x: Floats32, outcome: Ints, seed: int, *settings: Mapping[str, Any], sample_weight: Floats | None = None, max_bin: int = 255
) -> tuple[Forest, ...]:
    """Grow gradient-boosted trees on the log-odds by LightGBM, once for each of the settings.

    Parameters
    ----------
    x : (n, t), NaN for missing; a column without values is never split
    outcome : (n,), 0 or 1
    seed : int
    settings : mappings
        LightGBM's parameters; ``num_leaves`` is at most 64.
    sample_weight : (n,), optional
    max_bin : int
        Bins of a column, shared by all settings.

    Returns
    -------
    tuple of Forest, whose scores are log-odds
        Where no stored row misses a column, a missing value goes the way of the most stored rows.

    Raises
    ------
    MissingPackage
        LightGBM can't be imported.
    """
    lightgbm = require_package("lightgbm")
    common = {**_LIGHTGBM, "max_bin": max_bin, "seed": seed % _SEEDS}
    data = lightgbm.Dataset(x, outcome, weight=sample_weight, params=common)
    forests = []
    for setting in settings:
        parameters = {**common, **setting}
        booster = lightgbm.train(parameters, data, num_boost_round=parameters.pop("num_iterations"))
        forests.append(_from_lightgbm(booster.model_to_string(importance_type="split"), x.shape[1]))
    return tuple(forests)


def _from_lightgbm(text: str, columns: int) -> Forest:
    """Read the trees in LightGBM's text format; only ever text of a model fitted in this process."""
    head, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    assert f"\nversion={_MODEL_VERSION}\n" in head
    return pack_trees([_lightgbm_tree(tree) for tree in trees], columns)


def _lightgbm_tree(text: str) -> tuple[Any, ...]:
    """Return a tree's nodes, inner nodes first, then leaves."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def column(name: str, dtype: type) -> Any:
        return np.array(fields.get(name, "").split(), dtype=dtype)

    value = column("leaf_value", np.float64)
    inner = len(value) - 1
    if inner == 0:
        return np.array([LEAF]), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), value
    left, right = (
        np.where(child < 0, inner - 1 - child, child) for child in (column("left_child", np.int64), column("right_child", np.int64))
    )
    rows = np.append(column("internal_count", np.int64), column("leaf_count", np.int64))
    decision = column("decision_type", np.int64)
    missing_left = np.where(decision >> 2 == _MISSING_AS_NAN, (decision >> 1) & 1, rows[left] >= rows[right])
    leaves, none = np.zeros(inner + 1), np.full(inner + 1, LEAF)
    return (
        np.append(column("split_feature", np.int64), none),
        np.append(column("threshold", np.float64), leaves),
        np.append(left, none),
        np.append(right, none),
        np.append(missing_left, leaves),
        np.append(np.zeros(inner), value),
    )


def symmetric_trees(x: Floats32, outcome: Ints, seed: int, sample_weight: Floats | None = None) -> Forest:
    """Grow ordered, symmetric boosted trees on the log-odds by CatBoost.

    Parameters
    ----------
    x : (n, t), NaN for missing
    outcome : (n,), 0 or 1
    seed : int
    sample_weight : (n,), optional

    Raises
    ------
    MissingPackage
        CatBoost can't be imported.

    References
    ----------
    Prokhorenkova et al.: CatBoost: unbiased boosting with categorical features (2018).
    """
    catboost = require_package("catboost")
    model = catboost.CatBoostClassifier(random_seed=seed % _SEEDS, **_CATBOOST).fit(x, outcome, sample_weight=sample_weight)
    with TemporaryDirectory() as folder:  # readable by its owner alone
        path = Path(folder) / "trees.json"
        model.save_model(str(path), format="json")
        content = json.loads(path.read_text())
    nan_right = {f["feature_index"]: f["nan_value_treatment"] == "AsTrue" for f in content["features_info"]["float_features"]}
    scale, (bias,) = content["scale_and_bias"]
    trees = [_catboost_tree(tree, nan_right, scale) for tree in content["oblivious_trees"]]
    return pack_trees(trees, x.shape[1], bias)


def _catboost_tree(tree: Mapping[str, Any], nan_right: Mapping[int, bool], scale: float) -> tuple[Any, ...]:
    """Return a symmetric tree as a complete binary one, level by level: all nodes of a level have the same condition."""
    splits = [(split["float_feature_index"], split["border"]) for split in reversed(tree["splits"] or [])]  # the last is the highest bit
    leaves, inner = 2 ** len(splits), 2 ** len(splits) - 1
    level = np.repeat(np.arange(len(splits)), 2 ** np.arange(len(splits)))
    feature, border = (np.array([split[part] for split in splits]) for part in (0, 1))
    missing_left = np.array([not nan_right[index] for index, _ in splits], dtype=np.int64)
    node, none = np.arange(inner), np.full(leaves, LEAF)
    return (
        np.append(feature[level], none),
        np.append(border[level], np.zeros(leaves)),
        np.append(2 * node + 1, none),
        np.append(2 * node + 2, none),
        np.append(missing_left[level], none),
        np.append(np.zeros(inner), scale * np.array(tree["leaf_values"], dtype=np.float64)),
    )
