"""Members of a vote: cross-fitted, calibrated, told whose rows they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from nearward.tabular.ensemble.cross_fitting import CalibratedModels, EncodedClassifier


class ByHeart(ClassifierMixin, BaseEstimator):
    """Knows every patient that it has seen, and nothing else; keeps the groups of its training rows."""

    def fit(self, X: pl.DataFrame, y: Any, groups: Any = None) -> ByHeart:
        self.known_ = dict(zip(X["patient"].to_list(), np.asarray(y).tolist(), strict=True))
        self.groups_ = None if groups is None else list(groups)
        return self

    def predict_proba(self, X: pl.DataFrame) -> np.ndarray:
        risk = np.array([0.98 if self.known_.get(patient, 0) else 0.02 for patient in X["patient"].to_list()])
        return np.column_stack([1 - risk, risk])


def visits() -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Two visits a patient, the outcome a patient's own and unrelated to age."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(200), 2)
    ill = np.repeat((rng.random(200) < 0.3).astype(np.int64), 2)
    return pl.DataFrame({"patient": patient, "age": rng.normal(60, 9, 400)}), ill, patient


def test_no_member_has_seen_the_patient() -> None:
    frame, ill, patient = visits()
    members, out_of_fold = CalibratedModels.fit(
        {"by heart": ByHeart(), "logistic": EncodedClassifier(LogisticRegression())}, frame, ill, patient, seed=0
    )
    assert np.ptp(out_of_fold[:, 0]) < 1e-9  # of unseen patients it says one thing
    assert members.models["by heart"].groups_ == patient.tolist()
    assert members.models["by heart"].predict_proba(frame)[:, 1][ill == 1].min() > 0.9  # refitted on all it knows everybody


def test_risks_are_calibrated() -> None:
    frame, ill, patient = visits()
    fitted, out_of_fold = CalibratedModels.fit(
        {"logistic": EncodedClassifier(LogisticRegression(class_weight="balanced"))}, frame, ill, patient, seed=0
    )
    assert abs(out_of_fold.mean() - ill.mean()) < 0.02  # balanced, it says .5 on the mean
    assert abs(fitted.risks(frame).mean() - ill.mean()) < 0.05


def test_encoded_reads_what_the_model_cannot(clinic) -> None:
    frame, died, _ = clinic
    model = EncodedClassifier(LogisticRegression(max_iter=500)).fit(frame[:500], died[:500])
    assert model.predict_proba(frame[500:]).shape == (200, 2)
    assert model.predict_proba(frame[500:])[died[500:] == 1, 1].mean() > 1.5 * died.mean()
    assert set(model.predict(frame[500:]).tolist()) <= {0, 1}


class Named(LogisticRegression):
    """Knows the event by a name, as ``RiskClassifier`` does."""

    def __init__(self, positive: Any = None) -> None:
        super().__init__()
        self.positive = positive

    def fit(self, X: Any, y: Any) -> Named:
        assert self.positive is None or self.positive in y
        return super().fit(X, y)


def test_a_member_that_knows_the_event_by_name_reads_0_and_1() -> None:
    frame = pl.DataFrame({"x": np.arange(60.0)})
    CalibratedModels.fit({"named": Named("died")}, frame, np.arange(60) % 2, np.arange(60), 0)


def test_no_rows_have_no_risks(clinic) -> None:
    frame, died, _ = clinic
    assert EncodedClassifier(LogisticRegression()).fit(frame, died).predict_proba(frame[:0]).shape == (0, 2)
