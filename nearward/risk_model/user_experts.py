"""The user's estimators among the base learners: cross-fitted, so that no stored row is scored by a copy that has seen its patient.

Our own (``OneClass``, ``Resampled``) have a frozen dataclass of arrays as fitted state, which the model holds and saves. Any other
estimator works as long as the model stays in memory: saving it would need pickle, which is never used here.

Shapes: n stored rows, q query rows, s estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.cross_fitting import fit_with_groups
from nearward.tabular.ensemble.resampling import FittedResampled, FoldModel, Resampled
from nearward.tabular.ensemble.tree_learners import ShareForest
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.one_class import FittedOneClass, OneClass
from nearward.tabular.persistence.estimators import settings_from_json, settings_to_json
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats, Progress

OWN_ESTIMATORS: dict[str, type] = {kind.__name__: kind for kind in (OneClass, Resampled)}


def check_experts(experts: Any) -> None:
    """Refuse what is neither a column's name nor an estimator."""
    for expert in experts:
        if isinstance(expert, type):
            raise InputError(f"experts must hold estimators, got the class {expert.__name__}: pass an instance, {expert.__name__}()")
        is_estimator = hasattr(expert, "fit") and (hasattr(expert, "decision_function") or hasattr(expert, "predict_proba"))
        if not isinstance(expert, str) and not is_estimator:
            raise InputError(
                "experts must hold names of columns, or estimators with fit and decision_function or predict_proba, "
                f"got {type(expert).__name__}"
            )


def split_experts(experts: Sequence[Any]) -> tuple[list[str], tuple[Any, ...]]:
    """Return the names of score columns, and the estimators."""
    return [e for e in experts if isinstance(e, str)], tuple(e for e in experts if not isinstance(e, str))


@dataclass(frozen=True)
class CrossFittedEstimator:
    """A user's estimator, fitted once a fold.

    Parameters
    ----------
    name : str
    folds : tuple, one fitted copy a fold
    """

    name: str
    folds: tuple[Any, ...]

    def scores(self, frame: pl.DataFrame) -> Floats:
        """Return the copies' mean score of a conformed frame's q rows (q,)."""
        return np.asarray(np.mean([_scores(copy, frame, self.name) for copy in self.folds], axis=0))


PERSISTED_TYPES: tuple[type, ...] = (
    CrossFittedEstimator, FrameEncoder, FittedOneClass, FittedResampled, FoldModel, ShareForest,
)  # fmt: skip


def cross_fit(
    estimators: Sequence[Any], schema: Schema, frame: pl.DataFrame, data: TrainingData, progress: Progress
) -> tuple[tuple[CrossFittedEstimator, ...], Floats]:
    """Fit each estimator once a fold, on the rows of the other folds.

    Of a sample they see the rows without their weights: the stack brings their scores to the whole table's mixture of outcomes.

    Parameters
    ----------
    estimators : s of them, unfitted; they are cloned
    schema : Schema
    frame : conformed, n rows
    data : TrainingData, n rows, outcome 0 or 1
    progress : called with a message after each piece of work

    Returns
    -------
    user_estimators : s of them
    out_of_fold : (n, s), scores from copies that have not seen the row's patient

    Raises
    ------
    InputError
        Scores that are not finite, or not one a row.
    """
    user_estimators, out_of_fold = [], np.empty((len(data), len(estimators)))
    for s, (name, estimator) in enumerate(zip(_names(estimators), estimators, strict=True)):
        copies = []
        for _, train in data.splits():
            copy = _fit_copy(estimator, schema, frame.filter(train), data.take(train))
            out_of_fold[~train, s] = _scores(copy, frame.filter(~train), name)
            copies.append(copy)
        user_estimators.append(CrossFittedEstimator(name, tuple(copies)))
        progress(f"expert {name}")
    return tuple(user_estimators), out_of_fold


def _names(estimators: Sequence[Any]) -> list[str]:
    kinds = [type(e).__name__ for e in estimators]
    return [kind if kinds.count(kind) == 1 else f"{kind} {kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def _fit_copy(estimator: Any, schema: Schema, frame: pl.DataFrame, data: TrainingData) -> Any:
    from sklearn.base import clone

    copy = clone(estimator)
    if type(copy) in OWN_ESTIMATORS.values():  # the outcome is 0 and 1 here, whatever its values at the API
        copy.set_params(positive=1, schema=copy.schema or schema)
    fit_with_groups(copy, frame, data.outcome, data.patient_ids)
    return getattr(copy, "fitted_", copy) if is_dataclass(getattr(copy, "fitted_", None)) else copy


def _scores(copy: Any, frame: pl.DataFrame, name: str) -> Floats:
    """Return a fitted copy's scores (q,), higher meaning more risk."""
    if is_dataclass(type(copy)):
        return np.asarray(copy.scores(frame))
    scores = np.asarray(copy.decision_function(frame) if hasattr(copy, "decision_function") else logit(copy.predict_proba(frame)[:, -1]))
    if scores.shape != (frame.height,) or not np.isfinite(scores).all():
        raise InputError(f"the expert {name} must give one finite score a row, got shape {scores.shape} for {frame.height} rows")
    return scores.astype(np.float64)


def estimators_to_json(estimators: Sequence[Any]) -> list[dict[str, Any]]:
    """Return our own estimators as JSON.

    Raises
    ------
    InputError
        An estimator that only pickle could save.
    """
    for name, estimator in zip(_names(estimators), estimators, strict=True):
        if type(estimator) not in OWN_ESTIMATORS.values():
            raise InputError(
                f"the expert {name} is an estimator of your own, and nearward writes no pickle: the model works in this process, but "
                f"can't be saved. Give its score as a column instead (experts=['column']), or use one of ours: {sorted(OWN_ESTIMATORS)}."
            )
    return [{"kind": type(e).__name__, "params": settings_to_json(e.get_params(deep=False))} for e in estimators]


def estimators_from_json(values: Sequence[dict[str, Any]]) -> list[Any]:
    """Make the unfitted estimators that ``estimators_to_json`` described."""
    return [OWN_ESTIMATORS[one["kind"]](**settings_from_json(one["params"])) for one in values]
