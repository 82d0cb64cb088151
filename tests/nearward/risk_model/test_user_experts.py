"""Estimators in the panel: cross-fitted, saved as arrays, refused where only a pickle could hold them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import nearward as nw
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.risk_model.user_experts import check_experts, cross_fit, estimators_from_json, estimators_to_json, split_experts
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.one_class import OneClass


class Remembers(BaseEstimator):
    """Scores a row by whether it was in the training rows: what cross-fitting must never show."""

    def fit(self, X: pl.DataFrame, y: Any) -> Remembers:
        self.seen_ = set(X["x"].to_list())
        self.outcomes_ = len(y)
        return self

    def decision_function(self, X: pl.DataFrame) -> np.ndarray:
        return np.array([float(v in self.seen_) for v in X["x"]])


class Broken(Remembers):
    def decision_function(self, X: pl.DataFrame) -> np.ndarray:
        return np.full(X.height, np.nan)


def rows(n: int = 400) -> tuple[Schema, pl.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n)})
    outcome = (frame["x"].to_numpy() + rng.normal(size=n) > 1).astype(np.int64)
    group = np.unique(rng.integers(0, 300, n), return_inverse=True)[1]
    return Schema.infer(frame), frame, outcome, group, assign_folds(outcome, group, 3, 0)


def test_no_row_is_scored_by_a_copy_that_saw_it_or_its_patient() -> None:
    schema, frame, outcome, group, fold = rows()
    (user_estimators,), out_of_fold = cross_fit([Remembers()], schema, frame, TrainingData(outcome, group, fold), lambda _: None)
    assert (out_of_fold == 0).all()
    for f, fitted in enumerate(user_estimators.folds):
        assert fitted.seen_ == set(frame["x"].to_numpy()[fold != f])
    assert user_estimators.scores(frame) == pytest.approx(2 / 3)  # stored rows asked as new ones: two of three copies know each


def test_own_experts_are_saved_as_arrays_and_the_users_object_is_not_changed() -> None:
    schema, frame, outcome, group, fold = rows()
    given = OneClass(steps=5)
    _, out_of_fold = cross_fit([given], schema, frame, TrainingData(outcome, group, fold), lambda _: None)
    assert not hasattr(given, "fitted_")
    inside = fold == 1
    alone = clone(given).set_params(schema=schema).fit(frame.filter(~inside), outcome[~inside], groups=group[~inside])
    assert out_of_fold[inside, 0] == pytest.approx(alone.fitted_.scores(frame.filter(inside)), abs=1e-12)


def test_a_score_that_is_no_number_is_refused() -> None:
    schema, frame, outcome, group, fold = rows()
    with pytest.raises(InputError, match="expert Broken must give one finite score a row"):
        cross_fit([Broken()], schema, frame, TrainingData(outcome, group, fold), lambda _: None)


def test_experts_are_columns_or_estimators() -> None:
    check_experts(["sofa", OneClass()])
    for wrong, message in ((OneClass, r"the class OneClass: pass an instance, OneClass\(\)"), (3, "int"), (object(), "object")):
        with pytest.raises(InputError, match=message):
            check_experts([wrong])
    one = OneClass()
    assert split_experts(["sofa", one]) == (["sofa"], (one,))


def test_description_makes_the_same_estimator_again() -> None:
    schema = rows()[0]
    one_class = OneClass(method="droc", steps=np.int64(7), schema=schema)
    (again,) = estimators_from_json(json.loads(json.dumps(estimators_to_json([one_class]))))
    assert again.get_params() == one_class.get_params()
    with pytest.raises(InputError, match="Remembers is an estimator of your own"):
        estimators_to_json([one_class, Remembers()])


@pytest.fixture(scope="module")
def with_one_class(clinic: Any) -> nw.RiskClassifier:
    frame, died, patient = clinic
    how = {"random_state": 3, "encoder": EncoderConfig(steps=10), "backbone": None, "folds": 2}
    return nw.RiskClassifier(experts=["sofa", nw.OneClass(steps=20)], **how).fit(frame[:250], died[:250], groups=patient[:250])


def test_in_the_classifier_it_is_a_base_learner_beside_a_column(with_one_class: nw.RiskClassifier) -> None:
    members = with_one_class.summary_.out_of_fold.base_learners
    assert {"expert: sofa", "expert: OneClass"} <= set(members)


def test_saved_and_loaded_it_says_the_same(with_one_class: nw.RiskClassifier, clinic: Any, tmp_path: Path) -> None:
    new = clinic[0][600:]
    with_one_class.save(tmp_path / "model")
    again = nw.load(tmp_path / "model")
    assert again.predict_frame(new).equals(with_one_class.predict_frame(new))
    assert again.experts[0] == "sofa"
    assert again.experts[1].get_params() == with_one_class.experts[1].get_params()
    again.save(tmp_path / "again")
    assert nw.load(tmp_path / "again").predict_frame(new).equals(with_one_class.predict_frame(new))


def test_a_foreign_estimator_is_refused_at_save_before_anything_is_written(with_one_class: nw.RiskClassifier, tmp_path: Path) -> None:
    model = copy.copy(with_one_class)
    model.experts = ["sofa", Remembers()]
    with pytest.raises(InputError, match="no pickle"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_pipeline_of_scikit_learn_scores_by_its_decision_or_its_log_odds() -> None:
    schema, frame, outcome, group, fold = rows()
    linear, trees = make_pipeline(StandardScaler(), LogisticRegression()), DecisionTreeClassifier(max_depth=2)
    _, out_of_fold = cross_fit([linear, trees], schema, frame, TrainingData(outcome, group, fold), lambda _: None)
    inside = fold == 0
    for column, kind in enumerate((linear, trees)):
        alone = clone(kind).fit(frame.filter(~inside), outcome[~inside]).predict_proba(frame.filter(inside))[:, 1]
        assert out_of_fold[inside, column] == pytest.approx(logit(alone))
