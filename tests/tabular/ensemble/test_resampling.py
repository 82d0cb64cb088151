"""The resampling recipe: synthetic rows come from the training part of a fold alone, and the risk is calibrated again."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.risk_model.user_experts import PERSISTED_TYPES
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.splits import split_patients
from nearward.tabular.ensemble import resampling as resampled
from nearward.tabular.ensemble import tree_learners as learners
from nearward.tabular.ensemble.resampling import Resampled
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.errors import InputError, TooFewEvents
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.preprocessing.table_encoder import CategoryColumn, NumberColumn, TableEncoder


def cohort(n: int = 1500, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n))
    ward = rng.choice(["a", "b", "c"], n)
    outcome = (rng.random(n) < expit(1.5 * x + (ward == "c") - 4)).astype(int)
    holes = rng.random(n) < 0.1
    frame = pl.DataFrame({"x": x, "z": z, "ward": ward}).with_columns(pl.when(pl.Series(~holes)).then("z").alias("z"))
    return frame, outcome


@pytest.fixture(scope="module")
def imblearn() -> Any:
    return pytest.importorskip("imblearn", reason="resampling needs the extra `imbalanced`")


@pytest.mark.parametrize("sampler", ["smote", "under"])
def test_the_risk_is_calibrated_again_where_the_resampled_one_is_much_too_high(imblearn: Any, sampler: str) -> None:
    frame, outcome = cohort()
    new, truth = cohort(4000, seed=1)
    model = Resampled(sampler=sampler, learner="boosting", folds=3).fit(frame, outcome)
    risk = model.predict_proba(new)[:, 1]
    assert risk.mean() == pytest.approx(truth.mean(), rel=0.35)
    assert model.predict_uncorrected(new).mean() > 2 * truth.mean()
    order = np.argsort(model.predict_uncorrected(new), kind="stable")
    assert (np.diff(risk[order]) >= -1e-12).all()  # calibration never changes who is ahead of whom


def test_no_row_is_resampled_from_a_validation_fold(imblearn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, outcome = cohort(600)
    patient = np.random.default_rng(2).integers(0, 300, 600)
    given = []

    def spy(sampler: Any, x: np.ndarray, y: np.ndarray, as_category: Any, seed: int) -> Any:
        given.append((len(x), int(y.sum())))
        return x, y

    monkeypatch.setattr(resampled, "_resample", spy)
    Resampled(learner="boosting", folds=3).fit(frame, outcome, groups=patient)
    fold = split_patients(outcome, np.unique(patient, return_inverse=True)[1], 3, 0)
    assert given == [(int((fold != f).sum()), int(outcome[fold != f].sum())) for f in range(3)]


def test_classes_are_even_afterwards_and_categories_stay_categories(imblearn: Any) -> None:
    frame, outcome = cohort(400)
    reading = resampled.FrameEncoder.fit(frame, None)
    x, as_category = resampled._matrix(reading, frame)
    assert as_category.tolist() == [False, False, True, True]  # x, z; whether z is missing, the ward
    for sampler in ("smote", "under"):
        resampled_x, label = resampled._resample(sampler, x, outcome, as_category, 0)
        assert label.mean() == 0.5
        assert set(np.unique(resampled_x[:, 2])) <= {0.0, 1.0}
        assert set(np.unique(resampled_x[:, 3])) <= {0.0, 1.0, 2.0}
    assert resampled._resample(None, x, outcome, as_category, 0)[0] is x


def test_only_numbers_and_only_categories_can_be_resampled(imblearn: Any) -> None:
    rng = np.random.default_rng(0)
    outcome = (np.arange(200) < 20).astype(int)
    for frame in (pl.DataFrame({"x": rng.normal(size=200)}), pl.DataFrame({"ward": rng.choice(["a", "b"], 200)})):
        x, as_category = resampled._matrix(resampled.FrameEncoder.fit(frame, None), frame)
        assert resampled._resample("smote", x, outcome, as_category, 0)[1].mean() == 0.5


def test_one_event_beside_a_fold_is_refused(imblearn: Any) -> None:
    frame, outcome = cohort(300)
    few_events = np.where(np.cumsum(outcome) <= 10, outcome, 0)
    patient = np.arange(300)
    patient[(few_events == 1) & (np.cumsum(few_events) > 1)] = 300  # nine of ten events are one patient's
    with pytest.raises(InputError, match="at least 2 events outside each fold"):
        Resampled(sampler="smote", folds=2).fit(frame, few_events, groups=patient)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(InputError, match=r"pip install 'nearward\[imbalanced\]'"):
        Resampled(sampler="smote", learner="boosting").fit(*cohort(300))


def test_no_correction_is_the_plain_learner_calibrated() -> None:
    frame, outcome = cohort(600)
    model = Resampled(sampler=None, learner="boosting", folds=2).fit(frame, outcome)
    fold = split_patients(outcome, np.arange(600), 2, 0)
    for f, fold_model in enumerate(model.fitted_.folds):
        part = frame.filter(pl.Series(fold != f))
        alone = learners.fit_learner("boosting", resampled._matrix(fold_model.frame_encoder, part)[0], outcome[fold != f], f)
        assert fold_model.log_odds(frame) == pytest.approx(alone.scores(resampled._matrix(fold_model.frame_encoder, frame)[0]), abs=1e-12)


@pytest.mark.parametrize("learner", ["boosting", "forest"])
def test_written_as_arrays_and_back_it_says_the_same(learner: Any) -> None:
    frame, outcome = cohort(400)
    fitted = Resampled(sampler=None, learner=learner, folds=2).fit(frame, outcome).fitted_
    tensors: dict[str, Any] = {}
    parts = (*PERSISTED_TYPES, TableEncoder, NumberColumn, CategoryColumn, Forest, Calibrator)
    again = unpack(pack(fitted, tensors), tensors, parts)
    assert (again.scores(frame) == fitted.scores(frame)).all()


def test_random_forest_is_scikit_learns() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=300) > 1).astype(np.int64)
    theirs = RandomForestClassifier(20, min_samples_leaf=2, max_leaf_nodes=64, random_state=3).fit(x, y).predict_proba(x)[:, 1]
    assert learners.random_forest(x, y, 3, 20).scores(x) == pytest.approx(theirs, abs=1e-6)


def test_bad_input() -> None:
    frame, outcome = cohort(300)
    with pytest.raises(InputError, match="sampler must be one of"):
        Resampled(sampler="adasyn").fit(frame, outcome)
    with pytest.raises(InputError, match="learner must be one of"):
        Resampled(learner="svm").fit(frame, outcome)
    with pytest.raises(InputError, match="folds must be"):
        Resampled(folds=1).fit(frame, outcome)
    with pytest.raises(TooFewEvents):
        Resampled(sampler=None).fit(frame, (np.arange(300) < 9).astype(int))
    with pytest.raises(InputError, match="value of the event"):
        Resampled(sampler=None, positive=2).fit(frame, outcome)
    labels = np.where(outcome == 1, "died", "well")
    model = Resampled(sampler=None, learner="boosting", folds=2, positive="died").fit(frame, labels)
    assert model.classes_.tolist() == ["died", "well"]
    assert model.event_ == "died"
    plain = Resampled(sampler=None, learner="boosting", folds=2).fit(frame, outcome)
    np.testing.assert_array_equal(model.predict_proba(frame)[:, 0], plain.predict_proba(frame)[:, 1])
    assert set(model.predict(frame)) <= {"well", "died"}
