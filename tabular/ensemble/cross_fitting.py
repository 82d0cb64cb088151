"""Several models of one outcome, cross-fitted and each calibrated on rows that it had not seen: what a vote can be held on.

Letters: n stored rows, q query rows, m members.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

_FOLDS = 5


class Encoded(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier that reads frames, in the encoding that nearward's own members read.

    Parameters
    ----------
    model : classifier with ``fit`` and ``predict_proba`` over arrays
    schema : Schema, optional
        Inferred from the rows to fit on by default.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> frame = pl.DataFrame({"age": [50.0, None, 70.0, 80.0], "sex": ["f", "m", "f", "m"]})
    >>> Encoded(LogisticRegression()).fit(frame, [0, 0, 1, 1]).predict_proba(frame).shape
    (4, 2)
    """

    def __init__(self, model: Any, schema: Schema | None = None) -> None:
        self.model = model
        self.schema = schema

    def fit(self, X: Any, y: Any) -> Encoded:
        """Fit on a frame of n rows and outcomes (n,)."""
        frame = to_frame(X)
        self.schema_ = self.schema or Schema.infer(frame)
        rows = self.schema_.conform(frame)
        self.encoding_ = TableEncoder.fit(self.schema_, rows)
        self.model_ = clone(self.model).fit(self._dense(rows), np.asarray(y))
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class: (q, classes)."""
        x = self._dense(self.schema_.conform(to_frame(X)))
        return np.asarray(self.model_.predict_proba(x)) if len(x) else np.empty((0, len(self.classes_)))  # most models refuse no rows

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _dense(self, rows: pl.DataFrame) -> Floats:
        return self.encoding_.transform(rows)


@dataclass(frozen=True)
class Members:
    """Models fitted on all stored rows, each with the calibration of its out-of-fold scores.

    Parameters
    ----------
    models : name -> fitted classifier
    calibrations : one for each, on log-odds
    """

    models: dict[str, Any]
    calibrations: tuple[Calibrator, ...]

    @classmethod
    def fit(cls, models: Mapping[str, Any], frame: pl.DataFrame, outcome: Ints, group: Ints, seed: int) -> tuple[Members, Floats]:
        """Fit, and return beside it the calibrated risks of the stored rows, each from a model that had not seen the row's patient.

        Parameters
        ----------
        models : name -> classifier
            With ``fit`` and ``predict_proba`` over frames: ``RiskClassifier``, or any of scikit-learn's in ``Encoded``.
        frame : n rows
        outcome : (n,), 0 or 1
        group : (n,), patient numbers from 0
        seed : int
        """
        fold = split_patients(outcome, group, _FOLDS, seed)
        score = np.empty((len(outcome), len(models)))
        for f in range(int(fold.max()) + 1):
            seen, left = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
            for m, model in enumerate(models.values()):
                score[left, m] = _score(fit_copy(model, frame[seen], outcome[seen], group[seen]), frame[left])
        fitted = {name: fit_copy(model, frame, outcome, group) for name, model in models.items()}
        calibrations = tuple(Calibrator.fit(column, outcome) for column in score.T)
        return cls(fitted, calibrations), _calibrated(calibrations, score)

    def risks(self, frame: pl.DataFrame) -> Floats:
        """Return each member's calibrated risk of new rows: (q, m)."""
        score = np.column_stack([_score(model, frame) for model in self.models.values()])
        return _calibrated(self.calibrations, score)


def fit_copy(model: Any, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints) -> Any:
    """Fit a clone, as ``fit_with_groups`` does."""
    copy = clone(model)
    if hasattr(copy, "positive"):  # the outcome is 0 and 1 here, whatever the user calls it
        copy.set_params(positive=None)
    return fit_with_groups(copy, frame, outcome, patient_ids)


def fit_with_groups(model: Any, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints) -> Any:
    """Fit a model, with ``groups`` where its ``fit`` takes them."""
    groups = {"groups": patient_ids} if "groups" in inspect.signature(model.fit).parameters else {}
    return model.fit(frame, outcome, **groups)


def _score(model: Any, frame: pl.DataFrame) -> Floats:
    return logit(np.asarray(model.predict_proba(frame))[:, 1])


def _calibrated(calibrations: tuple[Calibrator, ...], score: Floats) -> Floats:
    return np.column_stack([expit(one.log_odds(column)) for one, column in zip(calibrations, score.T, strict=True)])
