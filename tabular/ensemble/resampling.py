"""The fraud recipe: make the classes even by resampling, fit trees, and calibrate again on rows left out.

Resampling changes the event rate, so the trees' probabilities are those of a table that does not exist; what they rank may still be of use.
Made-up rows are made of the training part of each fold alone: a made row between two patients knows both.

Letters: n rows, q query rows, t columns that trees read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.validation import validate_fit_inputs
from nearward.tabular.ensemble.tree_learners import FittedTrees, check_learner, learn
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Floats, Floats32, Ints

SAMPLERS = ("smote", "under", None)
_FEWEST = 10
_NEIGHBOURS = 5  # events between which a made row may lie


@dataclass(frozen=True)
class Copy:
    """What was fitted without one fold's patients: how it reads a frame, and its trees."""

    reading: FrameEncoder
    learned: FittedTrees

    def log_odds(self, X: Any) -> Floats:
        """Return what the resampled table makes of q rows (q,)."""
        return self.learned.scores(_matrix(self.reading, X)[0])


@dataclass(frozen=True)
class FittedResampled:
    """One copy a fold, and the calibration of what they said of the rows left out."""

    copies: tuple[Copy, ...]
    calibration: Calibrator

    def uncorrected(self, X: Any) -> Floats:
        """Return the copies' mean log-odds (q,), in a table with as many events as other rows."""
        return np.asarray(np.mean([copy.log_odds(X) for copy in self.copies], axis=0))

    def scores(self, X: Any) -> Floats:
        """Return calibrated log-odds (q,)."""
        return self.calibration.log_odds(self.uncorrected(X))


class Resampled(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trees on a resampled table, calibrated on the rows as they are.

    It helps where a learner is hindered by the rarity itself: where it stops early, or splits on too few events. Trees that are grown on
    log-loss are not, and beside ``sampler=None`` with a lower threshold little is left of the gain (docs/guide/rare-outcomes.md). ``predict_proba`` is
    calibrated out of fold; ``predict_uncorrected`` shows what the resampled table would have had you believe.

    Parameters
    ----------
    sampler : "smote", "under" or None
        Rows made between neighbouring events (SMOTE; SMOTE-NC with categories); other rows dropped by lot; nothing.
    learner : "auto", "xgboost", "forest" or "boosting"
        "auto" is XGBoost where it is installed, else histogram gradient boosting.
    folds : int
    seed : int
    positive : value, optional
        The outcome value that is the event; by default the greater of the two.
    schema : Schema, optional
        Kinds of the columns; inferred by default.

    Attributes
    ----------
    classes_ : (2,), the event last
    fitted_ : FittedResampled

    References
    ----------
    Chawla et al.: SMOTE (2002). Van den Goorbergh et al.: The harm of class imbalance corrections for risk prediction models (2022).

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> biopsies = load_breast_cancer()
    >>> model = Resampled(sampler=None, learner="boosting", folds=2).fit(biopsies.data[:300, :5], biopsies.target[:300] == 0)
    >>> model.predict_proba(biopsies.data[300:302, :5]).shape
    (2, 2)
    """

    def __init__(
        self,
        *,
        sampler: Literal["smote", "under"] | None = "smote",
        learner: Literal["auto", "xgboost", "forest", "boosting"] = "auto",
        folds: int = 5,
        seed: int = 0,
        positive: Any = None,
        schema: Schema | None = None,
    ) -> None:
        self.sampler = sampler
        self.learner = learner
        self.folds = folds
        self.seed = seed
        self.positive = positive
        self.schema = schema

    def fit(self, X: Any, y: Any, groups: Any = None) -> Resampled:
        """Fit on a frame of n rows with outcome (n,) and, where patients repeat, ``groups`` (n,).

        Raises
        ------
        InputError
            What cannot be read or is not installed.
        TooFewEvents
            Fewer than 10 events.
        """
        self._check()
        frame, target, group = validate_fit_inputs(X, y, groups, self.positive)
        target.require_events(_FEWEST, "resample and calibrate")
        self.classes_, outcome = target.classes, target.outcome
        schema = Schema.infer(frame) if self.schema is None else self.schema
        fold = split_patients(outcome, group, self.folds, self.seed)
        out_of_fold, copies = np.empty(len(outcome)), []
        for f in range(int(fold.max()) + 1):
            inside = fold == f
            part = frame.filter(~inside)
            reading = FrameEncoder.fit(part, schema)
            x, as_category = _matrix(reading, part)
            copy = Copy(
                reading, learn(self.learner, *_resample(self.sampler, x, outcome[~inside], as_category, self.seed + f), self.seed + f)
            )
            out_of_fold[inside] = copy.log_odds(frame.filter(inside))
            copies.append(copy)
        self.fitted_ = FittedResampled(tuple(copies), Calibrator.fit(out_of_fold, outcome))
        self.n_features_in_ = frame.width
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the calibrated probability of each class, the event's last: (q, 2)."""
        check_is_fitted(self, "fitted_")
        risk = expit(self.fitted_.scores(X))
        return np.column_stack([1 - risk, risk])

    def predict_uncorrected(self, X: Any) -> Floats:
        """Return the event's probability in the resampled table (q,): no risk of anybody."""
        check_is_fitted(self, "fitted_")
        return expit(self.fitted_.uncorrected(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,); for alerts, put a threshold of your own on the risk."""
        return np.asarray(self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)])

    def _check(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler must be one of {list(SAMPLERS)}, got sampler={self.sampler!r}")
        if not isinstance(self.folds, int | np.integer) or self.folds < 2:
            raise InputError(f"folds must be a whole number from 2, got folds={self.folds!r}")
        check_learner(self.learner)


def _matrix(reading: FrameEncoder, X: Any) -> tuple[Floats32, NDArray[np.bool_]]:
    """Return numbers with 0 (the median) for missing, missing flags, and category codes (q, t); and which columns are categories (t,)."""
    numbers, encoding = reading.encode(X), reading.table_encoder
    misses = [column.has_missing for column in encoding.numeric]
    flags = np.isnan(numbers.values[:, misses]).astype(float)
    x = np.column_stack([np.nan_to_num(numbers.values), flags, numbers.codes])
    as_category = np.arange(x.shape[1]) >= numbers.values.shape[1]
    return x.astype(np.float32), as_category


def _resample(sampler: str | None, x: Floats32, outcome: Ints, as_category: NDArray[np.bool_], seed: int) -> tuple[Floats32, Ints]:
    """Return as many rows of either outcome, or the rows as they are."""
    if sampler is None or outcome.mean() >= 0.5:
        return x, outcome
    try:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
        from imblearn.under_sampling import RandomUnderSampler
    except ImportError as error:
        raise InputError(
            f"sampler={sampler!r} needs imbalanced-learn: pip install 'nearward[imbalanced]'; sampler=None needs nothing"
        ) from error
    near = min(_NEIGHBOURS, int(outcome.sum()) - 1)
    if sampler == "smote" and near < 1:
        raise InputError(
            "one event only is left beside a fold, and SMOTE makes rows between two: sampler='under', or more patients with it"
        )
    if sampler == "under":
        how: Any = RandomUnderSampler(random_state=seed)
    elif as_category.all():
        how = SMOTEN(k_neighbors=near, random_state=seed)
    elif as_category.any():
        how = SMOTENC(categorical_features=np.flatnonzero(as_category).tolist(), k_neighbors=near, random_state=seed)
    else:
        how = SMOTE(k_neighbors=near, random_state=seed)
    made, label = how.fit_resample(x, outcome)
    return np.asarray(made, dtype=np.float32), np.asarray(label, dtype=np.int64)
