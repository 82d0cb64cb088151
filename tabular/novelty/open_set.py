"""Open-set recognition: does a patient belong to any known class? At a declared rate of false alarms.

Shapes: n rows, q query rows, k classes, c calibration rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_fit_inputs, validate_integers
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.reciprocal_points import ReciprocalPoints, fit_reciprocal_points
from nearward.tabular.persistence.estimators import SavableEstimator
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder
from nearward.tabular.preprocessing.table_encoder import ENCODER_TYPES
from nearward.tabular.typing import Floats, Ints, RandomState, Values

_MIN_ROWS = 10  # of a class
_CALIBRATION = 4  # one patient in so many calibrates the threshold and is not trained on


@dataclass(frozen=True)
class FittedOpenSet:
    """Trained reciprocal points, with the encoder of their input.

    Parameters
    ----------
    encoder : FrameEncoder
    points : ReciprocalPoints
    calibration_scores : (c,), ascending, largest distances to a point, of rows that it was not trained on
    """

    encoder: FrameEncoder
    points: ReciprocalPoints
    calibration_scores: Floats

    def distances(self, X: Any) -> Floats:
        """Return the distance of q rows to each class's point (q, k)."""
        return self.points.distances(self.encoder.transform(X))


class UnknownGate(OutlierMixin, SavableEstimator, BaseEstimator):  # type: ignore[misc]
    """Open-set detector: flags patients of no known class, such as a new phenotype, another site, or a table filled in differently.

    It needs meaningful classes (diagnoses, wards, sites, or the outcome), and helps where the unknown lies between them. It does not detect
    values out of range: they push a row outwards, to the known classes. Use it beside the column ``novelty`` of ``predict_frame``, the
    distance to neighbours, and not instead of it: each ranked better on about half of 18 phenotypes and sites
    that were left out (docs/guide/rare-outcomes.md).

    Parameters
    ----------
    false_alarms : float
        Share of rows of the known classes that are flagged as unknown.
    width : int
        Width of the embedding.
    steps : int
        Training steps.
    random_state : int, numpy generator or None
        Seed of all randomness; None for another result at every fit.
    schema : Schema, optional
        Kinds of the columns; inferred by default.

    Attributes
    ----------
    classes_ : (k,)
    offset_ : float, score below which a row is unknown
    fitted_ : FittedOpenSet

    References
    ----------
    Chen, Peng, Wang, Tian: Adversarial reciprocal points learning for open set recognition (2021); RPM-Net, its form for network attacks.
    The threshold is split-conformal (Vovk, Gammerman, Shafer 2005).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kind = rng.choice(["a", "b", "c"], 600)
    >>> middle = {"a": (4, 0), "b": (-4, 0), "c": (0, 4)}
    >>> frame = pl.DataFrame([middle[k] + rng.normal(size=2) for k in kind], schema=["x", "y"], orient="row")
    >>> gate = UnknownGate().fit(frame, kind)
    >>> gate.gate(pl.DataFrame({"x": [4.0, 0.0], "y": [0.0, -3.0]}))["unknown"].to_list()
    [False, True]
    """

    _fitted_attributes = ("fitted_", "offset_", "classes_", "n_features_in_")
    _state_types = (FittedOpenSet, FrameEncoder, *ENCODER_TYPES, ReciprocalPoints)

    classes_: Values
    offset_: float
    fitted_: FittedOpenSet

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on

    def __init__(
        self, *, false_alarms: float = 0.05, width: int = 32, steps: int = 400, random_state: RandomState = 0, schema: Schema | None = None
    ) -> None:
        self.false_alarms = false_alarms
        self.width = width
        self.steps = steps
        self.random_state = random_state
        self.schema = schema

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> UnknownGate:
        """Train on the known classes.

        Parameters
        ----------
        X : frame of n rows
        y : (n,), the class of each row, two or more
        groups : (n,), optional
            Patients; the rows of one patient are used either in training or in calibration.

        Raises
        ------
        InputError
            One class only, classes of fewer than 10 rows, too few rows for the rate of false alarms, or invalid
            arguments.
        """
        refuse_sample_weight(self, fit_params)
        if not 0 < self.false_alarms < 1:
            raise InputError(f"false_alarms must lie between 0 and 1, got false_alarms={self.false_alarms!r}")
        validate_integers(1, width=self.width, steps=self.steps)
        frame, target, patient_ids = validate_fit_inputs(X, y, groups, max_classes=None)
        class_index, count = target.outcome, np.bincount(target.outcome)
        if (count < _MIN_ROWS).any():
            raise InputError(f"{(count < _MIN_ROWS).sum()} classes have fewer than {_MIN_ROWS} rows: pool them, or leave their rows out")
        seed = seed_of(self.random_state)
        calibration = np.random.default_rng(seed).permutation(patient_ids.max() + 1)[patient_ids] % _CALIBRATION == 0
        if len(np.unique(class_index[~calibration])) < len(count):
            raise InputError("a class has patients in the calibration part only: it needs more patients")
        n = int(calibration.sum())
        rank = ceil((n + 1) * (1 - self.false_alarms))
        if rank > n:
            raise InputError(f"{n} calibration rows are too few for false_alarms={self.false_alarms}")
        encoder = FrameEncoder.fit(frame.filter(~calibration), self.schema)
        x = encoder.transform(frame)
        points = fit_reciprocal_points(x[~calibration], class_index[~calibration], self.width, self.steps, seed)
        scores = np.sort(points.distances(x[calibration]).max(axis=1))
        fitted = FittedOpenSet(encoder, points, scores)
        self.__dict__.update(classes_=target.classes, fitted_=fitted, offset_=float(scores[n - rank]), n_features_in_=frame.width)
        return self

    def score_samples(self, X: Any) -> Floats:
        """Return the distance to the farthest point (q,): small for rows of no known class."""
        return np.asarray(self._distances(X).max(axis=1))

    def decision_function(self, X: Any) -> Floats:
        """Return the score minus the threshold (q,): below 0 for unknown rows."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Ints:
        """Return 1 for a known row, -1 for an unknown one (q,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def gate(self, X: Any) -> pl.DataFrame:
        """Flag unknown rows among q rows.

        Returns
        -------
        pl.DataFrame
            ``row``; ``class``, the most likely known class; ``share``, the conformal p-value, the share of
            calibration rows and the row itself with a score as low, uniform for known patients; ``unknown``, whether it is flagged.
        """
        distance = self._distances(X)
        score, calibration = distance.max(axis=1), self.fitted_.calibration_scores
        share = (np.searchsorted(calibration, score, side="right") + 1) / (len(calibration) + 1)
        return pl.DataFrame(
            {
                "row": np.arange(len(score)),
                "class": pl.Series(self.classes_).gather(distance.argmax(axis=1)),
                "share": share,
                "unknown": score < self.offset_,
            }
        )

    def _distances(self, X: Any) -> Floats:
        check_is_fitted(self, "fitted_")
        return self.fitted_.distances(X)
