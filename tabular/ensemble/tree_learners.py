"""Tree learners by name, each with a frozen dataclass of arrays as fitted state: XGBoost, a random forest, or gradient boosting.

Shapes: n rows, q query rows, t columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.ensemble.trees import Forest, boosted_trees, random_forest
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Floats32, Ints

LEARNERS = ("auto", "xgboost", "forest", "boosting")
_ROUNDS, _TREES = 200, 200


@dataclass(frozen=True)
class XGBoostModel:
    """XGBoost's trees in its own binary format; loading it executes no code.

    Parameters
    ----------
    ubjson : bytes as (…,) uint8
    """

    ubjson: NDArray[np.uint8]

    @cached_property
    def _booster(self) -> Any:
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(self.ubjson.tobytes()))
        return booster

    def scores(self, x: Floats32) -> Floats:
        """Return log-odds (q,)."""
        import xgboost

        return np.asarray(self._booster.predict(xgboost.DMatrix(x), output_margin=True), dtype=np.float64)


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


FittedTrees = XGBoostModel | ShareForest | Forest


def check_learner(name: str) -> None:
    """Refuse an unknown learner, and XGBoost where it is not installed."""
    if name not in LEARNERS:
        raise InputError(f"learner must be one of {list(LEARNERS)}, got learner={name!r}")
    if name == "xgboost" and find_spec("xgboost") is None:
        raise InputError("learner='xgboost' needs XGBoost: pip install xgboost (or xgboost-cpu); learner='boosting' needs no extra package")


def fit_learner(name: str, x: Floats32, outcome: Ints, seed: int) -> FittedTrees:
    """Fit a learner on rows (n, t) with outcome (n,); ``auto`` is XGBoost where it is installed, else boosting."""
    if name == "xgboost" or (name == "auto" and find_spec("xgboost") is not None):
        return _xgboost(x, outcome, seed)
    if name == "forest":
        return ShareForest(random_forest(x, outcome, seed, _TREES, min_samples_leaf=2, max_features="sqrt"))
    return boosted_trees(x, outcome, seed, learning_rate=0.05, max_iter=_ROUNDS, max_leaf_nodes=31)


def _xgboost(x: Floats32, outcome: Ints, seed: int) -> XGBoostModel:
    import xgboost

    from nearward.tabular.parallel import cpu_count

    parameters = {
        "objective": "binary:logistic",
        "eta": 0.05,
        "max_depth": 6,
        "subsample": 0.8,
        "seed": seed,
        "nthread": cpu_count(),
        "verbosity": 0,
    }
    booster = xgboost.train(parameters, xgboost.DMatrix(x, label=outcome), num_boost_round=_ROUNDS)
    return XGBoostModel(np.frombuffer(bytes(booster.save_raw("ubj")), dtype=np.uint8))
