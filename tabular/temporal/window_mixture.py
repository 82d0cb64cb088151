"""A gate over time windows: risks of one outcome from models of several windows (six hours, a day, a week), weighed row by row.

A model of the last six hours knows the crisis, one of the last week knows the course; which to trust depends on the patient, and on
what was measured. The gate is a small mixture of experts: each window's weight is a softmax of a linear score of the row's features, a
window without a risk weighs nothing, and the mixture's risk is the weighted mean. It starts from equal weights and must be argued away
from them.

Letters: n stored rows, q query rows, w windows, f gate features.

References
----------
Jacobs, Jordan, Nowlan, Hinton: Adaptive mixtures of local experts (1991). The windows as experts, the masking, and the pull are ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, TooFewEvents
from nearward.tabular.persistence.estimators import classes_as_json, classes_from_json, read_estimator, write_estimator
from nearward.tabular.preprocessing.table_encoder import CategoryColumn, NumberColumn, TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints

SHRINKAGES = (1.0, 10.0, 100.0, 1000.0)  # rows' worth of squared distance from equal weights
_FOLDS, _FEWEST_EVENTS = 5, 10
_LEARNED = ("pull_", "_gate", "_calibration", "_prevalence", "_encoding")
_FLOOR = 1e-4  # a risk is kept this far from 0 and 1


class WindowGate(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Weigh the risks of several windows' models, row by row.

    The risks must come from models that had not seen the rows' outcomes (out of fold); else the gate learns who memorised best.

    Parameters
    ----------
    windows : sequence of str
        The columns with the windows' risks, at least two; null where a window has none. All other columns are what the gate reads.
    seed : int
        Of the folds.

    Attributes
    ----------
    classes_ : (2,), the outcome values, the event last
    pull_ : float, how strongly weights are drawn to equality; chosen out of fold by the one-standard-error rule

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> acute, n = draw.random(600) < 0.5, 600
    >>> died = draw.random(n) < 0.3
    >>> told, lost = np.where(died, 0.6, 0.17), np.full(n, 0.3)
    >>> rows = pl.DataFrame({"6h": np.where(acute, told, lost), "7d": np.where(acute, lost, told), "acute": acute})
    >>> gate = WindowGate(["6h", "7d"]).fit(rows, died)
    >>> weights = gate.weights(pl.DataFrame({"6h": [0.6, 0.3], "7d": [0.3, 0.6], "acute": [True, False]}))
    >>> bool(weights["6h"][0] > 0.7), bool(weights["7d"][1] > 0.7)
    (True, True)
    """

    def __init__(self, windows: Sequence[str] = (), *, seed: int = 0) -> None:
        self.windows = windows
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> WindowGate:
        """Learn whom to trust when.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), two values, the greater is the event
        groups : (n,), optional, patients

        Raises
        ------
        InputError
            Fewer than two windows, risks outside 0 to 1, an outcome that has not two values, a patient that is missing.
        TooFewEvents
            Fewer than 10 events among the rows that have a risk.
        """
        frame, target, group = validate_fit_inputs(X, y, groups)
        names = list(self.windows) if not isinstance(self.windows, str) else []
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"windows must name at least two columns of risks, each once, got windows={self.windows!r}")
        if set(names) - set(frame.columns):
            raise MissingColumns(sorted(set(names) - set(frame.columns)), frame.columns)
        self.classes_, outcome = target.classes, target.outcome
        rest = frame.drop(names)
        self._schema = Schema.infer(rest) if rest.width else Schema(())
        self._encoding = TableEncoder.fit(self._schema, self._schema.conform(rest)) if self._schema.features else None
        risk, there, features = self._read(frame)
        known = there.any(axis=1)
        if outcome[known].sum() < _FEWEST_EVENTS:
            raise TooFewEvents(int(outcome[known].sum()), _FEWEST_EVENTS, "weigh windows")
        patient = np.unique(group[known], return_inverse=True)[1]
        risk, there, features, outcome = risk[known], there[known], features[known], outcome[known]
        fold = split_patients(outcome, patient, _FOLDS, self.seed)
        out_of_fold = np.array([_cross_fitted(risk, there, features, outcome, fold, shrinkage) for shrinkage in SHRINKAGES])  # (pulls, n)
        self.pull_, chosen = _choose(out_of_fold, outcome, patient)
        self._gate = _fit(risk, there, features, outcome, self.pull_)
        self._calibration = Calibrator.fit(logit(out_of_fold[chosen], _FLOOR), outcome)
        self._prevalence = float(outcome.mean())
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of no event and of the event (q, 2), calibrated on rows left out.

        A row without any window's risk gets the prevalence, and a warning.
        """
        check_is_fitted(self, "_gate")
        risk, there, features = self._read(to_frame(X))
        mixed = (_weights(self._gate, there, features) * risk).sum(axis=1)
        nobody = ~there.any(axis=1)
        if nobody.any():
            warnings.warn(
                f"{int(nobody.sum())} of {nobody.size} rows have no window with a risk: they get the prevalence", DataWarning, stacklevel=2
            )
        out = np.where(nobody, self._prevalence, expit(self._calibration.log_odds(logit(mixed, _FLOOR))))
        return np.column_stack([1 - out, out])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def weights(self, X: Any) -> pl.DataFrame:
        """Return each window's weight, one row a row; they sum to 1, and are 0 where a window (or every one) has no risk."""
        check_is_fitted(self, "_gate")
        _, there, features = self._read(to_frame(X))
        return pl.DataFrame(_weights(self._gate, there, features), schema=[str(name) for name in self.windows])

    def save(self, folder: str | Path) -> None:
        """Write the gate into a folder, made where it is missing; what was there before stays until all is written.

        Raises
        ------
        InputError
            The folder holds something else; an outcome that is neither text nor numbers.
        """
        check_is_fitted(self, "_gate")
        learned = {name: getattr(self, name) for name in _LEARNED}
        told = {"schema": self._schema.to_json(), "classes": classes_as_json(self.classes_)}
        write_estimator(folder, "WindowGate", self.get_params(deep=False), learned | told)

    @classmethod
    def load(cls, folder: str | Path) -> WindowGate:
        """Read what ``save`` wrote, every hash checked first.

        Raises
        ------
        ArtefactError
            Not a gate over windows; corrupt; saved by a later version.
        """
        settings, learned = read_estimator(folder, "WindowGate", [TableEncoder, NumberColumn, CategoryColumn, Calibrator])
        gate = cls(**settings)
        gate._schema, gate.classes_ = Schema.from_json(learned["schema"]), classes_from_json(learned["classes"])
        for name in _LEARNED:
            setattr(gate, name, learned[name])
        return gate

    def _read(self, frame: pl.DataFrame) -> tuple[Floats, Bools, Floats]:
        """Return risks (0 where there is none), where they are, and the gate's features with a constant: (n, w), (n, w), (n, f)."""
        table = Schema(tuple(Column(name) for name in self.windows)).conform(frame)
        there = np.column_stack([column.is_not_null().to_numpy() for column in table.iter_columns()])
        risk = table.fill_null(0.0).to_numpy()
        outside = int(((risk < 0) | (risk > 1)).sum())
        if outside:
            raise InputError(f"{outside} risks in the columns {list(self.windows)} are outside 0 to 1")
        constant = np.ones((frame.height, 1))
        if self._encoding is None:
            return risk, there, constant
        return risk, there, np.column_stack([constant, self._encoding.dense(self._encoding.numbers(self._schema.conform(frame)))])


def _weights(gate: Floats, there: Bools, features: Floats) -> Floats:
    """Return the softmax over the windows that have a risk (n, w), for a gate (f, w)."""
    score = np.where(there, features @ gate, -np.inf)
    high = np.where(there.any(axis=1), score.max(axis=1), 0.0)
    raised = np.exp(score - high[:, None])
    total = raised.sum(axis=1, keepdims=True)
    out: Floats = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    return out


def _fit(risk: Floats, there: Bools, features: Floats, outcome: Ints, shrinkage: float) -> Floats:
    """Minimise log-loss + pull / n * |gate|²: (f, w); 0 is equal weights."""
    n, shape = len(risk), (features.shape[1], risk.shape[1])
    bounded = risk.clip(_FLOOR, 1 - _FLOOR)

    def objective(free: Floats) -> tuple[float, Floats]:
        gate = free.reshape(shape)
        weight = _weights(gate, there, features)
        mixed = (weight * bounded).sum(axis=1)
        loss = -np.mean(np.where(outcome == 1, np.log(mixed), np.log1p(-mixed))) + shrinkage / n * (gate**2).sum()
        slope = (mixed - outcome) / (mixed * (1 - mixed)) / n  # of the loss along the mixture
        gradient = features.T @ (slope[:, None] * weight * (bounded - mixed[:, None])) + 2 * shrinkage / n * gate
        return float(loss), gradient.ravel()

    best: Floats = minimize(objective, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x.reshape(
        shape
    )
    return best


def _cross_fitted(risk: Floats, there: Bools, features: Floats, outcome: Ints, fold: Ints, shrinkage: float) -> Floats:
    """Return each row's mixed risk (n,) by a gate that had not seen its fold."""
    mixed = np.empty(len(risk))
    for f in np.unique(fold):
        seen = fold != f
        gate = _fit(risk[seen], there[seen], features[seen], outcome[seen], shrinkage)
        mixed[~seen] = (_weights(gate, there[~seen], features[~seen]) * risk[~seen]).sum(axis=1)
    return mixed


def _choose(out_of_fold: Floats, outcome: Ints, patient: Ints) -> tuple[float, int]:
    """Return the strongest pull whose loss is within a standard error (over patients) of the least, and its place."""
    bounded = out_of_fold.clip(_FLOOR, 1 - _FLOOR)
    loss = -np.where(outcome == 1, np.log(bounded), np.log1p(-bounded))  # (pulls, n)
    excess = loss - loss[loss.mean(axis=1).argmin()]
    each = np.stack([np.bincount(patient, weights=row) for row in excess])
    chosen = int(np.flatnonzero(each.sum(axis=1) <= each.std(axis=1) * each.shape[1] ** 0.5)[-1])
    return SHRINKAGES[chosen], chosen
