"""Trees on a resampled table (SMOTE or undersampling), calibrated again out of fold.

Resampling changes the event rate, so the trees' probabilities are those of a table that does not exist; their ranking may still be useful.
Synthetic rows are made from the training part of each fold alone: a SMOTE row between two patients contains both.

Shapes: n rows, q query rows, t columns that trees read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.validation import (
    UNKNOWN_EVENT,
    class_probabilities,
    refuse_sample_weight,
    seed_of,
    validate_fit_inputs,
    validate_integers,
)
from nearward.tabular.ensemble.tree_learners import FittedTrees, check_learner, fit_learner
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.typing import Bools, Floats, Floats32, Ints, RandomState

SAMPLERS = ("smote", "under", None)
_FEWEST = 10
_NEIGHBOURS = 5  # of SMOTE


@dataclass(frozen=True)
class FoldModel:
    """A frame encoder and trees, fitted without one fold's patients."""

    frame_encoder: FrameEncoder
    trees: FittedTrees

    def log_odds(self, X: Any) -> Floats:
        """Return log-odds (q,) in the resampled table."""
        return self.trees.scores(_matrix(self.frame_encoder, X)[0])


@dataclass(frozen=True)
class FittedResampled:
    """One model a fold, and the calibrator of their out-of-fold log-odds."""

    folds: tuple[FoldModel, ...]
    calibrator: Calibrator

    def uncorrected(self, X: Any) -> Floats:
        """Return the folds' mean log-odds (q,), in a table with as many events as other rows."""
        return np.asarray(np.mean([model.log_odds(X) for model in self.folds], axis=0))

    def scores(self, X: Any) -> Floats:
        """Return calibrated log-odds (q,)."""
        return self.calibrator.log_odds(self.uncorrected(X))


class Resampled(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trees on a resampled table, calibrated on the rows as they are.

    It helps where rarity itself hinders a learner: where it stops early, or splits on too few events. Trees that minimise the log-loss are
    not hindered, and little gain remains over ``sampler=None`` with a lower threshold (docs/guide/rare-outcomes.md). ``predict_proba`` is
    calibrated out of fold; ``predict_uncorrected`` returns the uncalibrated probabilities of the resampled table.

    Parameters
    ----------
    sampler : "smote", "under" or None
        SMOTE (SMOTE-NC with categories); random undersampling; no resampling.
    learner : "boosting" or "forest"
        Gradient boosting by LightGBM, or scikit-learn's random forest of trees with up to 64 leaves.
    folds : int
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two. All other values are no event.
    schema : Schema, optional
        Kinds of the columns; inferred by default.

    Attributes
    ----------
    classes_ : (2,), the outcome values in increasing order; ``[False, True]`` where ``positive`` names some of more than two
    event_ : the outcome value that is the event, or a tuple of several
    fitted_ : FittedResampled

    References
    ----------
    Chawla et al.: SMOTE (2002). Van den Goorbergh et al.: The harm of class imbalance corrections for risk prediction models (2022).

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> biopsies = load_breast_cancer()
    >>> model = Resampled(sampler=None, folds=2).fit(biopsies.data[:300, :5], biopsies.target[:300] == 0)
    >>> model.predict_proba(biopsies.data[300:302, :5]).shape
    (2, 2)
    """

    classes_: NDArray[Any]
    event_: Any
    _event_index: int
    fitted_: FittedResampled

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(
        self,
        *,
        sampler: Literal["smote", "under"] | None = "smote",
        learner: Literal["boosting", "forest"] = "boosting",
        folds: int = 5,
        random_state: RandomState = 0,
        positive: Any = None,
        schema: Schema | None = None,
    ) -> None:
        self.sampler = sampler
        self.learner = learner
        self.folds = folds
        self.random_state = random_state
        self.positive = positive
        self.schema = schema

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> Resampled:
        """Fit on a frame of n rows with outcome (n,) and, where patients repeat, ``groups`` (n,).

        Raises
        ------
        InputError
            Rows or outcomes that cannot be read, arguments outside their range, or imbalanced-learn is not installed.
        TooFewEvents
            Fewer than 10 events.
        """
        refuse_sample_weight(self, fit_params)
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler must be one of {list(SAMPLERS)}, got sampler={self.sampler!r}")
        validate_integers(2, folds=self.folds)
        check_learner(self.learner)
        frame, target, patient_ids = validate_fit_inputs(X, y, groups, self.positive, allow_encoded=True)
        target.require_events(_FEWEST, "resample and calibrate")
        outcome = target.outcome
        schema = Schema.infer(frame) if self.schema is None else self.schema
        first_seed = seed_of(self.random_state)
        fold = split_patients(outcome, patient_ids, self.folds, first_seed)
        out_of_fold, models = np.empty(len(outcome)), []
        for f in range(int(fold.max()) + 1):
            train, seed = fold != f, first_seed + f
            frame_encoder = FrameEncoder.fit(frame.filter(train), schema)
            x, as_category = _matrix(frame_encoder, frame.filter(train))
            trees = fit_learner(self.learner, *_resample(self.sampler, x, outcome[train], as_category, seed), seed)
            models.append(FoldModel(frame_encoder, trees))
            out_of_fold[~train] = models[f].log_odds(frame.filter(~train))
        fitted = FittedResampled(tuple(models), Calibrator.fit(out_of_fold, outcome))
        state = {"classes_": target.classes, "event_": target.event, "_event_index": target.event_index, "n_features_in_": frame.width}
        self.__dict__.update(state, fitted_=fitted)
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the calibrated probability of each class (q, 2), in the order of ``classes_``."""
        check_is_fitted(self, "fitted_")
        return class_probabilities(expit(self.fitted_.scores(X)), self._event_index)

    def predict_uncorrected(self, X: Any) -> Floats:
        """Return the event's probability in the resampled table (q,): not a risk."""
        check_is_fitted(self, "fitted_")
        if self.event_ is None:
            raise InputError(UNKNOWN_EVENT)
        return expit(self.fitted_.uncorrected(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,); for alerts, put a threshold of your own on the risk."""
        return np.asarray(self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)])


def _matrix(frame_encoder: FrameEncoder, X: Any) -> tuple[Floats32, Bools]:
    """Return what the trees read (q, t), and which columns of it are categories (t,): missing flags and category codes, the last ones.

    The others are numbers, 0 (the median) where one is missing, and features of code lists.
    """
    table, table_encoder = frame_encoder.encode(X), frame_encoder.table_encoder
    misses = [column.has_missing for column in table_encoder.numeric]
    flags = np.isnan(table.values[:, misses]).astype(float)
    x = np.column_stack([np.nan_to_num(table.values), table.list_features, flags, table.codes])
    as_category = np.arange(x.shape[1]) >= table.values.shape[1] + table.list_features.shape[1]
    return x.astype(np.float32), as_category


def _resample(sampler: str | None, x: Floats32, outcome: Ints, as_category: Bools, seed: int) -> tuple[Floats32, Ints]:
    """Return a table with as many rows of either outcome, or the rows as they are."""
    if sampler is None or outcome.mean() >= 0.5:
        return x, outcome
    try:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
        from imblearn.under_sampling import RandomUnderSampler
    except ImportError as error:
        raise InputError(
            f"sampler={sampler!r} needs imbalanced-learn: pip install 'nearward[imbalanced]'; sampler=None needs no extra package"
        ) from error
    near = min(_NEIGHBOURS, int(outcome.sum()) - 1)
    if sampler == "smote" and near < 1:
        raise InputError("SMOTE needs at least 2 events outside each fold, got 1: use sampler='under', or more patients with the event")
    if sampler == "under":
        resampler: Any = RandomUnderSampler(random_state=seed)
    elif as_category.all():
        resampler = SMOTEN(k_neighbors=near, random_state=seed)
    elif as_category.any():
        resampler = SMOTENC(categorical_features=np.flatnonzero(as_category).tolist(), k_neighbors=near, random_state=seed)
    else:
        resampler = SMOTE(k_neighbors=near, random_state=seed)
    x, outcome = resampler.fit_resample(x, outcome)
    return np.asarray(x, dtype=np.float32), np.asarray(outcome, dtype=np.int64)
