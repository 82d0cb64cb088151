"""Mixture of window experts: risks of models of several time windows (six hours, a day, a week), weighted for each row.

A model of the last six hours sees an acute change, one of the last week the course; which of them is better depends on the patient, and on
the measurements. Each window's mixture weight is a softmax of a linear score of the row's features. A window without a risk has
weight 0, and the mixture's risk is the weighted mean. The coefficients are shrunk towards equal weights.

Shapes: n stored rows, q query rows, w windows, f features of the mixture weights.

References
----------
Jacobs, Jordan, Nowlan, Hinton: Adaptive mixtures of local experts (1991). Windows as experts, the masking, and the shrinkage are ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import class_probabilities, refuse_sample_weight, seed_of, validate_fit_inputs
from nearward.tabular.errors import DataWarning, InputError, TooFewEvents, require_columns
from nearward.tabular.persistence.estimators import SavableEstimator
from nearward.tabular.preprocessing.table_encoder import ENCODER_TYPES, TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints, RandomState

SHRINKAGES = (1.0, 10.0, 100.0, 1000.0)  # L2 penalties of the coefficients, in rows
_FOLDS, _MIN_EVENTS = 5, 10
_FLOOR = 1e-4  # risks are clipped to this distance from 0 and 1


@dataclass(frozen=True)
class FittedWindowMixture:
    """The fitted mixture weights, with the encoder of their features.

    Parameters
    ----------
    schema : str, as JSON
    encoder : TableEncoder, None where there is no feature
    coefficients : (f, w), of the mixture weights, the intercepts first
    calibrator : Calibrator, fitted on out-of-fold log-odds
    prevalence : float
    event_index : int, index of the event among the classes
    """

    schema: str
    encoder: TableEncoder | None
    coefficients: Floats
    calibrator: Calibrator
    prevalence: float
    event_index: int = 1

    def weights(self, frame: pl.DataFrame, present: Bools) -> Floats:
        """Return the mixture weights (q, w) of rows with these windows present (q, w)."""
        return _mixture_weights(self.coefficients, present, _features(Schema.from_json(self.schema), self.encoder, frame))


class WindowGate(ClassifierMixin, SavableEstimator, BaseEstimator):  # type: ignore[misc]
    """Mixture of several windows' risks, with weights that depend on the row.

    The risks must be out of fold: from models that were not trained on the rows. Otherwise the weights favour the model that overfits most.

    Parameters
    ----------
    windows : sequence of str
        The columns with the windows' risks, at least two; null where a window has none. All other columns are features of the weights.
    random_state : int, numpy generator or None
        Seed of the folds; None for another result at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two. All other values are no event.

    Attributes
    ----------
    classes_ : (2,), the outcome values in increasing order; ``[False, True]`` where ``positive`` names some of more than two
    event_ : the outcome value that is the event, or a tuple of several
    shrinkage_ : float, the strength of the shrinkage to equal weights; chosen out of fold by the one-standard-error rule
    fitted_ : FittedWindowMixture

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> acute, n = rng.random(600) < 0.5, 600
    >>> died = rng.random(n) < 0.3
    >>> informative, uninformative = np.where(died, 0.6, 0.17), np.full(n, 0.3)
    >>> risks = {"6h": np.where(acute, informative, uninformative), "7d": np.where(acute, uninformative, informative)}
    >>> gate = WindowGate(["6h", "7d"]).fit(pl.DataFrame({**risks, "acute": acute}), died)
    >>> weights = gate.weights(pl.DataFrame({"6h": [0.6, 0.3], "7d": [0.3, 0.6], "acute": [True, False]}))
    >>> bool(weights["6h"][0] > 0.7), bool(weights["7d"][1] > 0.7)
    (True, True)
    """

    _fitted_attributes = ("fitted_", "classes_", "event_", "shrinkage_")
    _state_types = (FittedWindowMixture, *ENCODER_TYPES, Calibrator)

    classes_: NDArray[Any]
    event_: Any
    shrinkage_: float
    fitted_: FittedWindowMixture

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(self, windows: Sequence[str] = (), *, random_state: RandomState = 0, positive: Any = None) -> None:
        self.windows = windows
        self.random_state = random_state
        self.positive = positive

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> WindowGate:
        """Fit the mixture weights.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), the outcome
        groups : (n,), optional, patients

        Raises
        ------
        InputError
            Fewer than two windows, risks outside 0 to 1, an outcome without two values, missing groups.
        TooFewEvents
            Fewer than 10 events among the rows that have a risk.
        """
        refuse_sample_weight(self, fit_params)
        frame, target, patient_ids = validate_fit_inputs(X, y, groups, self.positive, allow_encoded=True)
        names = list(self.windows) if not isinstance(self.windows, str) else []
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"windows must name at least two columns of risks, each once, got windows={self.windows!r}")
        require_columns(names, frame.columns)
        risk, present = self._risks(frame)
        others = frame.drop(names)
        schema = Schema.infer(others) if others.width else Schema(())
        encoder = TableEncoder.fit(schema, schema.conform(others)) if schema.features else None
        rows = present.any(axis=1)
        outcome = target.outcome[rows]
        if outcome.sum() < _MIN_EVENTS:
            raise TooFewEvents(int(outcome.sum()), _MIN_EVENTS, "weigh windows")
        patient_ids = np.unique(patient_ids[rows], return_inverse=True)[1]
        risk, present, features = risk[rows], present[rows], _features(schema, encoder, frame)[rows]
        fold = split_patients(outcome, patient_ids, _FOLDS, seed_of(self.random_state))
        out_of_fold = np.array([_cross_fitted(risk, present, features, outcome, fold, shrinkage) for shrinkage in SHRINKAGES])
        best = _one_standard_error(out_of_fold, outcome, patient_ids)
        coefficients = _fit_coefficients(risk, present, features, outcome, SHRINKAGES[best])
        calibrator = Calibrator.fit(logit(out_of_fold[best], _FLOOR), outcome)
        fitted = FittedWindowMixture(schema.to_json(), encoder, coefficients, calibrator, float(outcome.mean()), target.event_index)
        self.__dict__.update(classes_=target.classes, event_=target.event, shrinkage_=SHRINKAGES[best], fitted_=fitted)
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class (q, 2), in the order of ``classes_``, calibrated out of fold.

        A row without any window's risk gets the prevalence, with a warning.
        """
        check_is_fitted(self, "fitted_")
        frame = to_frame(X)
        risk, present = self._risks(frame)
        mixed = (self.fitted_.weights(frame, present) * risk).sum(axis=1)
        empty = ~present.any(axis=1)
        if empty.any():
            message = f"{int(empty.sum())} of {empty.size} rows have no window with a risk: they get the prevalence"
            warnings.warn(message, DataWarning, stacklevel=2)
        calibrated = expit(self.fitted_.calibrator.log_odds(logit(mixed, _FLOOR)))
        probability = np.where(empty, self.fitted_.prevalence, calibrated)
        return class_probabilities(probability, self.fitted_.event_index)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def weights(self, X: Any) -> pl.DataFrame:
        """Return each window's weight (q, w); they sum to 1, and are 0 where a window (or every one) has no risk."""
        check_is_fitted(self, "fitted_")
        frame = to_frame(X)
        _, present = self._risks(frame)
        return pl.DataFrame(self.fitted_.weights(frame, present), schema=[str(name) for name in self.windows])

    def _risks(self, frame: pl.DataFrame) -> tuple[Floats, Bools]:
        """Return the windows' risks (q, w), 0 where missing, and where they are present (q, w)."""
        table = Schema(tuple(Column(name) for name in self.windows)).conform(frame)
        present = np.column_stack([column.is_not_null().to_numpy() for column in table.iter_columns()])
        risk = table.fill_null(0.0).to_numpy()
        outside = int(((risk < 0) | (risk > 1)).sum())
        if outside:
            raise InputError(f"{outside} risks in the columns {list(self.windows)} are outside 0 to 1")
        return risk, present


def _features(schema: Schema, encoder: TableEncoder | None, frame: pl.DataFrame) -> Floats:
    """Return a constant and the encoded features (n, f)."""
    constant = np.ones((frame.height, 1))
    return constant if encoder is None else np.column_stack([constant, encoder.transform(schema.conform(frame))])


def _mixture_weights(coefficients: Floats, present: Bools, features: Floats) -> Floats:
    """Return the softmax over the windows with a risk (n, w), of linear scores with coefficients (f, w)."""
    rows, weight = present.any(axis=1), np.zeros(present.shape)
    weight[rows] = softmax(np.where(present, features @ coefficients, -np.inf)[rows], axis=1)
    return weight


def _fit_coefficients(risk: Floats, present: Bools, features: Floats, outcome: Ints, shrinkage: float) -> Floats:
    """Minimise log-loss + shrinkage / n * |coefficients|² (f, w); coefficients of 0 are equal weights."""
    n, shape = len(risk), (features.shape[1], risk.shape[1])
    bounded = risk.clip(_FLOOR, 1 - _FLOOR)

    def objective(flat: Floats) -> tuple[float, Floats]:
        coefficients = flat.reshape(shape)
        weight = _mixture_weights(coefficients, present, features)
        mixed = (weight * bounded).sum(axis=1)
        loss = -np.mean(np.where(outcome == 1, np.log(mixed), np.log1p(-mixed))) + shrinkage / n * (coefficients**2).sum()
        derivative = (mixed - outcome) / (mixed * (1 - mixed)) / n  # of the loss with respect to the mixed risk
        gradient = features.T @ (derivative[:, None] * weight * (bounded - mixed[:, None])) + 2 * shrinkage / n * coefficients
        return float(loss), gradient.ravel()

    optimum = minimize(objective, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(optimum.x.reshape(shape))


def _cross_fitted(risk: Floats, present: Bools, features: Floats, outcome: Ints, fold: Ints, shrinkage: float) -> Floats:
    """Return each row's mixed risk (n,), by coefficients that were fitted without its fold."""
    mixed = np.empty(len(risk))
    for f in np.unique(fold):
        train, test = fold != f, fold == f
        coefficients = _fit_coefficients(risk[train], present[train], features[train], outcome[train], shrinkage)
        mixed[test] = (_mixture_weights(coefficients, present[test], features[test]) * risk[test]).sum(axis=1)
    return mixed


def _one_standard_error(out_of_fold: Floats, outcome: Ints, patient_ids: Ints) -> int:
    """Return the index of the strongest shrinkage with a loss within one standard error (over patients) of the least, of (s, n) risks."""
    bounded = out_of_fold.clip(_FLOOR, 1 - _FLOOR)
    loss = -np.where(outcome == 1, np.log(bounded), np.log1p(-bounded))  # (s, n)
    excess = loss - loss[loss.mean(axis=1).argmin()]
    by_patient = np.stack([np.bincount(patient_ids, weights=row) for row in excess])
    return int(np.flatnonzero(by_patient.sum(axis=1) <= by_patient.std(axis=1) * by_patient.shape[1] ** 0.5)[-1])
