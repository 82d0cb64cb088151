"""Estimators that the user brings into the panel: fitted once a fold, so that no stored row is scored by a copy that saw its patient.

Our own (``OneClass``, ``Resampled``) leave a frozen dataclass of arrays behind, which is what the model keeps and writes. Any other
estimator works as long as the model stays in memory: it could be written by pickle alone, and nothing here is.

Letters: n stored rows, q query rows, s brought estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.cross_fitting import fit_with_groups
from nearward.tabular.ensemble.resampling import Copy, FittedResampled, Resampled
from nearward.tabular.ensemble.tree_learners import Shares, XGBoosted
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.one_class import FittedOneClass, OneClass
from nearward.tabular.persistence.estimators import settings_from_json, settings_to_json
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats

OWN: dict[str, type] = {kind.__name__: kind for kind in (OneClass, Resampled)}


@dataclass(frozen=True)
class CrossFittedEstimator:
    """A brought estimator, fitted.

    Parameters
    ----------
    name : str
    folds : tuple, one fitted copy a fold
    """

    name: str
    folds: tuple[Any, ...]

    def scores(self, frame: pl.DataFrame) -> Floats:
        """Return the copies' mean score of a conformed frame's q rows (q,)."""
        return np.asarray(np.mean([_ask(copy, frame, self.name) for copy in self.folds], axis=0))


PARTS: tuple[type, ...] = (CrossFittedEstimator, FrameEncoder, FittedOneClass, FittedResampled, Copy, Shares, XGBoosted)


def check_experts(experts: Any) -> None:
    """Refuse what is neither a column's name nor an estimator."""
    for expert in experts:
        asked = hasattr(expert, "fit") and (hasattr(expert, "decision_function") or hasattr(expert, "predict_proba"))
        if not isinstance(expert, str) and (isinstance(expert, type) or not asked):
            what = (
                f"the class {expert.__name__}: give an instance, {expert.__name__}()" if isinstance(expert, type) else type(expert).__name__
            )
            raise InputError(
                f"experts may hold names of columns, and estimators with fit and decision_function or predict_proba, got {what}"
            )


def split_experts(experts: Sequence[Any]) -> tuple[list[str], tuple[Any, ...]]:
    """Return the names of score columns, and the estimators."""
    return [e for e in experts if isinstance(e, str)], tuple(e for e in experts if not isinstance(e, str))


def cross_fit(
    estimators: Sequence[Any], schema: Schema, frame: pl.DataFrame, data: TrainingData, progress: Callable[[str], None]
) -> tuple[tuple[CrossFittedEstimator, ...], Floats]:
    """Fit each estimator once a fold, on the rows of the other folds.

    Parameters
    ----------
    estimators : of s kinds, unfitted; they are cloned
    schema : Schema
    frame : conformed, n rows
    data : TrainingData, n rows, outcome 0 or 1
    progress : called with a few words after each piece of work

    Returns
    -------
    user_estimators : s of them
    out_of_fold : (n, s), scores of rows that the copy had not seen

    Raises
    ------
    InputError
        Scores that are no numbers, or not one a row.
    """
    user_estimators, out_of_fold = [], np.empty((len(data), len(estimators)))
    for s, (name, estimator) in enumerate(zip(_names(estimators), estimators, strict=True)):
        copies = []
        for _, train in data.splits():
            copy = _fit_copy(estimator, schema, frame.filter(train), data.take(train))
            out_of_fold[~train, s] = _ask(copy, frame.filter(~train), name)
            copies.append(copy)
        user_estimators.append(CrossFittedEstimator(name, tuple(copies)))
        progress(f"expert {name}")
    return tuple(user_estimators), out_of_fold


def describe(estimators: Sequence[Any]) -> list[dict[str, Any]]:
    """Return our own estimators as JSON.

    Raises
    ------
    InputError
        An estimator that could be written by pickle alone.
    """
    for name, estimator in zip(_names(estimators), estimators, strict=True):
        if type(estimator) not in OWN.values():
            raise InputError(
                f"the expert {name} is an estimator of your own, and nearward writes no pickle: the model works in this process, but "
                f"can't be saved. Give its score as a column instead (experts=['column']), or use one of ours: {sorted(OWN)}."
            )
    return [{"kind": type(e).__name__, "params": settings_to_json(e.get_params(deep=False))} for e in estimators]


def restored(told: Sequence[dict[str, Any]]) -> list[Any]:
    """Make the estimators that ``describe`` told of, unfitted."""
    return [OWN[one["kind"]](**settings_from_json(one["params"])) for one in told]


def _names(estimators: Sequence[Any]) -> list[str]:
    kinds = [type(e).__name__ for e in estimators]
    return [kind if kinds.count(kind) == 1 else f"{kind} {kinds[: at + 1].count(kind)}" for at, kind in enumerate(kinds)]


def _fit_copy(estimator: Any, schema: Schema, frame: pl.DataFrame, data: TrainingData) -> Any:
    from sklearn.base import clone

    copy = clone(estimator)
    if type(copy) in OWN.values():  # the outcome is 0 and 1 here, whatever the user calls it
        copy.set_params(positive=None, schema=copy.schema or schema)
    fit_with_groups(copy, frame, data.outcome, data.patient_ids)
    return getattr(copy, "fitted_", copy) if is_dataclass(getattr(copy, "fitted_", None)) else copy


def _ask(copy: Any, frame: pl.DataFrame, name: str) -> Floats:
    """Return a fitted copy's scores (q,), higher meaning more risk."""
    if is_dataclass(type(copy)):
        return np.asarray(copy.scores(frame))
    told = np.asarray(copy.decision_function(frame) if hasattr(copy, "decision_function") else logit(copy.predict_proba(frame)[:, -1]))
    if told.shape != (frame.height,) or not np.isfinite(told).all():
        raise InputError(f"the expert {name} must give one finite score a row: shape {told.shape} for {frame.height} rows")
    return told.astype(np.float64)
