"""Several models of one outcome, cross-fitted, each calibrated on its out-of-fold scores.

Shapes: n stored rows, q query rows, m models.
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
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints

_FOLDS = 5


class EncodedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier of arrays as one of frames, by the encoding of nearward's own base learners.

    Parameters
    ----------
    model : classifier with ``fit`` and ``predict_proba`` over arrays
    schema : Schema, optional
        Inferred from the rows to fit on by default.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> frame = pl.DataFrame({"age": [50.0, None, 70.0, 80.0], "sex": ["f", "m", "f", "m"]})
    >>> EncodedClassifier(LogisticRegression()).fit(frame, [0, 0, 1, 1]).predict_proba(frame).shape
    (4, 2)
    """

    schema_: Schema
    encoding_: TableEncoder
    model_: Any
    classes_: NDArray[Any]

    def __init__(self, model: Any, schema: Schema | None = None) -> None:
        self.model = model
        self.schema = schema

    def fit(self, X: Any, y: Any) -> EncodedClassifier:
        """Fit on a frame of n rows and outcomes (n,)."""
        frame = to_frame(X)
        schema = self.schema or Schema.infer(frame)
        rows = schema.conform(frame)
        encoding = TableEncoder.fit(schema, rows)
        model = clone(self.model).fit(encoding.transform(rows), np.asarray(y))
        self.__dict__.update(schema_=schema, encoding_=encoding, model_=model, classes_=model.classes_)
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class: (q, classes)."""
        x = self.encoding_.transform(self.schema_.conform(to_frame(X)))
        return np.asarray(self.model_.predict_proba(x)) if len(x) else np.empty((0, len(self.classes_)))  # most models refuse no rows

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


@dataclass(frozen=True)
class CalibratedModels:
    """Models fitted on all stored rows, each with the calibrator of its out-of-fold scores.

    Parameters
    ----------
    models : name -> fitted classifier
    calibrators : one for each, on log-odds
    """

    models: dict[str, Any]
    calibrators: tuple[Calibrator, ...]

    @classmethod
    def fit(
        cls, models: Mapping[str, Any], frame: pl.DataFrame, outcome: Ints, patient_ids: Ints, seed: int
    ) -> tuple[CalibratedModels, Floats]:
        """Fit, and return the calibrated risks of the stored rows (n, m) too, each from a model that has not seen the row's patient.

        Parameters
        ----------
        models : name -> classifier
            With ``fit`` and ``predict_proba`` over frames: ``RiskClassifier``, or any of scikit-learn's in ``EncodedClassifier``.
        frame : n rows
        outcome : (n,), 0 or 1
        patient_ids : (n,), patient numbers from 0
        seed : int
        """
        data = TrainingData(outcome, patient_ids, split_patients(outcome, patient_ids, _FOLDS, seed))
        score = np.empty((len(data), len(models)))
        for _, train in data.splits():
            part = data.take(train)
            for m, model in enumerate(models.values()):
                copy = fit_copy(model, frame.filter(train), part.outcome, part.patient_ids)
                score[~train, m] = _log_odds(copy, frame.filter(~train))
        fitted = {name: fit_copy(model, frame, outcome, patient_ids) for name, model in models.items()}
        calibrators = tuple(Calibrator.fit(column, outcome) for column in score.T)
        return cls(fitted, calibrators), _calibrate(calibrators, score)

    def risks(self, frame: pl.DataFrame) -> Floats:
        """Return each model's calibrated risk of new rows: (q, m)."""
        score = np.column_stack([_log_odds(model, frame) for model in self.models.values()])
        return _calibrate(self.calibrators, score)


def fit_copy(model: Any, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints) -> Any:
    """Fit a clone, as ``fit_with_groups`` does."""
    copy = clone(model)
    if hasattr(copy, "positive"):  # the outcome is 0 and 1 here, whatever its values at the API
        copy.set_params(positive=1)
    return fit_with_groups(copy, frame, outcome, patient_ids)


def fit_with_groups(model: Any, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints) -> Any:
    """Fit a model, with ``groups`` where its ``fit`` takes them."""
    groups = {"groups": patient_ids} if "groups" in inspect.signature(model.fit).parameters else {}
    return model.fit(frame, outcome, **groups)


def _log_odds(model: Any, frame: pl.DataFrame) -> Floats:
    return logit(np.asarray(model.predict_proba(frame))[:, 1])


def _calibrate(calibrators: tuple[Calibrator, ...], score: Floats) -> Floats:
    return np.column_stack([expit(one.log_odds(column)) for one, column in zip(calibrators, score.T, strict=True)])
