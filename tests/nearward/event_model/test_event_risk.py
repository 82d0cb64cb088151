"""``EventRisk``: one estimator and one folder from events to risks; what happened to similar patients; what is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator

import nearward as nw
from nearward.tabular.errors import ArtifactError, DataWarning, InputError


class Recorder(BaseEstimator):
    """Stands for a ``RiskClassifier``: keeps what it was fitted on."""

    def __init__(self, schema: Any = None, positive: Any = None) -> None:
        self.schema, self.positive = schema, positive

    def fit(self, X: pl.DataFrame, y: pl.Series, groups: pl.Series) -> Recorder:
        self.rows_, self.outcome_, self.groups_ = X, y, groups
        return self


def test_saved_and_loaded_models_score_alike(ward_model) -> None:
    events, labels, model, folder = ward_model
    scores = model.predict_frame(events, labels[120:])
    assert scores.columns[:3] == ["subject_id", "prediction_time", "risk"]
    assert scores["subject_id"].equals(labels["subject_id"][120:])
    loaded = nw.load(folder)
    assert isinstance(loaded, nw.EventRisk)
    assert loaded.predict_frame(events.lazy(), labels[120:]).equals(scores)
    np.testing.assert_array_equal(loaded.predict_proba(events, labels[120:])[:, 1], scores["risk"])
    assert loaded.similar(events, labels[120:122]).equals(model.similar(events, labels[120:122]))
    assert loaded.counts_ == model.counts_


def test_a_folder_of_another_kind_is_refused(ward_model, fitted, tmp_path) -> None:
    with pytest.raises(ArtifactError, match="not a risk model but a EventRisk"):
        nw.RiskClassifier.load(ward_model[3])
    fitted.save(tmp_path / "table")
    with pytest.raises(ArtifactError, match="not a model of events but a risk model"):
        nw.EventRisk.load(tmp_path / "table")
    with pytest.raises(InputError, match="holds a risk model"):
        ward_model[2].save(tmp_path / "table")


def test_features_and_risk_model_of_different_versions_are_refused(ward_model, tmp_path, monkeypatch) -> None:
    model = nw.load(ward_model[3])
    monkeypatch.setattr(model.features_, "spans", ("6h", None))
    model.save(tmp_path / "m")
    with pytest.raises(ArtifactError, match="columns of the risk model are no features of its events"):
        nw.load(tmp_path / "m")


def test_what_follows_the_moment_is_in_timelines_alone(ward_model) -> None:
    events, labels, model, _ = ward_model
    assert not [name for name in model.schema_.named("feature") if "PALLIATIVE" in name or "DISCHARGE" in name]
    similar = model.similar(events, labels[120:124], k=5)
    assert similar.columns[-2:] == ["differs", "timeline"]
    assert set(similar["patient"]) <= set(labels["subject_id"][:120])
    outcome = dict(labels.select("subject_id", pl.col("boolean_value").cast(pl.Int64)).iter_rows())
    assert similar["outcome"].to_list() == [outcome[patient] for patient in similar["patient"]]
    assert similar["timeline"].str.contains("Creatinine").any()
    assert similar["timeline"].str.count_matches(";").max() < 10
    later = events.filter(pl.col("code") != "PALLIATIVE_CARE")
    assert model.predict_frame(later, labels[120:]).equals(model.predict_frame(events, labels[120:]))


def test_names_of_other_tables(ward_model) -> None:
    events, labels, model, folder = ward_model
    names = {"subject_id": "stay", "numeric_value": "value"}
    other = nw.load(folder)
    other.columns = names
    scores = other.predict_frame(events.rename(names), labels[120:].rename({"subject_id": "stay"}))
    assert scores.equals(model.predict_frame(events, labels[120:]))
    other.save(folder.parent / "renamed")
    assert nw.load(folder.parent / "renamed").columns == names


def test_a_subject_without_events_has_a_risk(ward_model) -> None:
    events, _, model, _ = ward_model
    unknown = pl.DataFrame({"subject_id": [10**6], "prediction_time": [datetime(2020, 6, 1)]})
    assert 0 <= model.predict_frame(events, unknown)["risk"].item() <= 1


def test_a_fit_leaves_out_censored_labels_and_groups_by_subject(ward_model) -> None:
    events, labels, _, _ = ward_model
    censored = labels.with_columns(pl.when(pl.int_range(pl.len()) < 150).then("boolean_value"))
    with pytest.warns(DataWarning, match="10 of 160 labels have no outcome"):
        model = nw.EventRisk(nw.EventFeatures(min_subjects=30), Recorder(), timelines=False).fit(events, censored)
    assert model.model_.groups_.equals(labels["subject_id"][:150])
    assert model.model_.outcome_.equals(labels["boolean_value"][:150])
    assert model.model_.schema == model.features_.schema_
    assert model.timelines_ is None
    assert model.counts_["labels"] == 150


def test_labels_without_an_outcome_cannot_be_fitted(ward_model) -> None:
    events, labels, _, _ = ward_model
    with pytest.raises(InputError, match="labels need the outcome in a column 'boolean_value'"):
        nw.EventRisk().fit(events, labels.drop("boolean_value"))


def test_without_timelines_nothing_of_them_is_kept(ward_model, tmp_path) -> None:
    events, labels, _, folder = ward_model
    model = nw.load(folder)
    model.timelines_ = None
    model.save(tmp_path / "m")
    assert not list((tmp_path / "m").glob("timelines-*"))
    loaded = nw.load(tmp_path / "m")
    assert not loaded.timelines
    assert loaded.similar(events, labels[120:121], k=2)["timeline"].to_list() == [None, None]


def test_forgotten_subjects_and_withheld_records_leave_no_timeline(ward_model, tmp_path) -> None:
    events, labels, _, folder = ward_model
    model = nw.load(folder)
    forgotten = labels["subject_id"][:3].to_list()
    model.forget(forgotten)
    model.save(tmp_path / "m")
    timelines = pl.read_parquet(next((tmp_path / "m").glob("timelines-*")))
    assert timelines.height == 117
    assert not set(forgotten) & set(timelines["subject_id"])
    similar = nw.load(tmp_path / "m").similar(events, labels[120:122], k=None)
    assert set(similar["patient"]) <= set(labels["subject_id"][3:120])
    model.save(tmp_path / "withheld", records=False)
    assert not list((tmp_path / "withheld").glob("timelines-*"))
    withheld = nw.load(tmp_path / "withheld").similar(events, labels[120:121], k=2)
    assert withheld["timeline"].to_list() == [None, None]
