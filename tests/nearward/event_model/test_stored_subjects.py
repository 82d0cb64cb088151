"""Subjects of a model of events added, removed and adapted to: their timelines are kept in step, and what is unusable is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.adaptation import ladder
from nearward.adaptation.stored_patients import ID, PATIENT
from nearward.tabular.errors import DataWarning, InputError


@pytest.fixture
def model(ward_model: Any) -> Any:
    return nw.load(ward_model[3])


def timelines_in(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(next(folder.glob("timelines-*")))


def assert_in_step(model: Any, folder: Path) -> None:
    """Every stored label has its own subject's timeline in the saved folder, and nobody else has one."""
    model.save(folder)
    records, timelines = nw.load(folder).model_.fitted_.records, timelines_in(folder)
    assert timelines[ID].to_list() == records[ID].to_list()
    assert timelines["subject_id"].cast(pl.String).to_list() == records[PATIENT].str.strip_prefix("local ").to_list()


def test_extended_labels_have_timelines_and_forgotten_ones_lose_them(ward_model: Any, model: Any, tmp_path: Path) -> None:
    events, labels, _, _ = ward_model
    with pytest.warns(DataWarning, match="3 of 30 labels have no outcome"):
        extension = model.extend(events, labels[120:150].with_columns(pl.when(pl.int_range(30) < 27).then("boolean_value")))
    assert (extension.rows, extension.stored, extension.events) == (27, 147, labels["boolean_value"][120:147].sum())
    assert_in_step(model, tmp_path / "more")
    fitted = {who: tuple(what) for who, what in model.timelines_.select("subject_id", "event").iter_rows()}
    expected = nw.EventRisk._choose_timelines(model, nw.read_events(events), labels[120:147])
    assert [fitted[who] for who in labels["subject_id"][120:147]] == [tuple(what) for what in expected["event"]]
    newest = model.similar(events, labels[120:147], k=1).filter(pl.col("patient").is_in(labels["subject_id"][120:147].implode()))
    assert newest.height > 5  # the nearest to themselves, in the shards that they were stored in
    assert newest["timeline"].str.len_chars().min() > 0
    removal = model.forget(labels["subject_id"][[0, 125]].to_list())
    assert removal.patients == 2
    assert "timelines" in removal.removed_from
    assert "codes of the features and their usual values" in removal.still_fitted
    assert_in_step(model, tmp_path / "more")
    content = timelines_in(tmp_path / "more")
    assert not set(labels["subject_id"][[0, 125]]) & set(content["subject_id"])
    with pytest.raises(InputError, match="26 of 26 labels have the subject and all features of a stored label"):
        model.extend(events, pl.concat([labels[120:125], labels[126:147]]))


def test_without_timelines_none_are_added(ward_model: Any, model: Any) -> None:
    events, labels, _, _ = ward_model
    model.timelines_ = None
    assert model.extend(events, labels[120:122]).stored == 122
    assert model.timelines_ is None
    similar = model.similar(events, labels[122:123], k=3)
    assert set(similar["patient"]) <= set(labels["subject_id"])  # subjects, not numbers of rows


def test_a_refit_has_the_remaining_subjects_and_their_timelines(ward_model: Any, model: Any, tmp_path: Path) -> None:
    gone = ward_model[1]["subject_id"][:10].to_list()
    model.forget(gone)
    again = model.refit()
    assert again.summary_.rows == 110
    assert again.features_ is model.features_
    assert_in_step(again, tmp_path / "m")
    assert again.counts_ == model.counts_


def site(labels: pl.DataFrame, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str], dict[str, str]]:
    """Another hospital with names of its own, whose subjects have ids of the first."""
    columns, codes = {"subject_id": "stay"}, {"KREA": "Creatinine"}
    here = events.filter(pl.col("subject_id").is_in(labels["subject_id"].implode()))
    theirs = here.with_columns(pl.col("code").replace({"Creatinine": "KREA"}), pl.col("subject_id") - labels["subject_id"].min())
    return (
        theirs.rename(columns),
        labels.with_columns(pl.col("subject_id") - labels["subject_id"].min()).rename(columns),
        columns,
        codes,
    )


def test_adapted_to_a_site_with_other_names(ward_model: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, labels, _, _ = ward_model
    theirs, moments, columns, codes = site(labels[120:], events)
    judge = ladder._Ladder.judge

    def store(self: Any, name: str, candidate: Any, detail: str, *, shrunk: bool = False) -> bool:
        judge(self, name, candidate, detail, shrunk=shrunk)
        if name == "local patients stored":
            self.version = candidate
            self.steps[-1] = dataclasses.replace(self.steps[-1], used=True)
        return self.steps[-1].used

    monkeypatch.setattr(ladder._Ladder, "judge", store)
    monkeypatch.setattr(ladder, "_EVENTS_FOR_SLOPE", 5)  # six of the 40 have the outcome
    here = model.adapt(theirs, moments, columns=columns, codes=codes)
    assert "local patients stored" in here.adaptation_.used
    assert here.model_.fitted_.records.height == 160
    assert_in_step(here, tmp_path / "here")
    loaded = nw.load(tmp_path / "here")
    scores = loaded.predict_frame(theirs, moments)
    assert scores.equals(here.predict_frame(theirs, moments))
    ours = nw.load(ward_model[3])
    np.testing.assert_array_equal(  # the site's names are read as the model's
        here.transform_counted(theirs, moments)[1]["Creatinine: last"], ours.transform_counted(events, labels[120:])[1]["Creatinine: last"]
    )
    assert model.codes is None
    assert model.model_.fitted_.records.height == 120
    similar = here.similar(theirs, moments[:3], k=20)
    assert similar["patient"].str.starts_with("local ").any()
    assert similar.filter(pl.col("patient").str.starts_with("local "))["timeline"].str.len_chars().min() > 0


def test_what_adapt_refuses_and_warns_of(ward_model: Any, model: Any) -> None:
    events, labels, _, _ = ward_model
    local = events.filter(pl.col("subject_id").is_in(labels["subject_id"][120:].implode()))
    slipped = local.with_columns(pl.when(pl.col("code") == "Creatinine").then(pl.col("numeric_value") * 100).otherwise("numeric_value"))
    with pytest.raises(InputError, match=r"numbers of 1 codes are 10, 100 or 1,000 times those of training.*\['Creatinine'\]"):
        model.adapt(slipped, labels[120:])
    with pytest.raises(InputError, match="the site has none of the model's"):
        model.adapt(local.with_columns(pl.col("code") + "?"), labels[120:])
    with pytest.raises(InputError, match="one outcome only"):
        model.adapt(local, labels[120:].with_columns(boolean_value=pl.lit(value=False)))
    with pytest.warns(DataWarning, match="1 of the model's .* codes occur nowhere at the site: Creatinine"):
        without = model.adapt(slipped, labels[120:], codes={"Creatinine": "left out"})
    assert without.transform_counted(slipped, labels[120:])[1]["Creatinine: count"].max() == 0
    few = labels[120:].filter(~pl.col("boolean_value") | (pl.col("boolean_value").cum_sum() <= 5))
    with pytest.warns(DataWarning, match="1 of the model's .* codes occur nowhere at the site: Creatinine. If it names them otherwise"):
        here = model.adapt(local.with_columns(pl.col("code").replace({"Creatinine": "KREA"})), few)
    assert here.timelines_ is model.timelines_  # nobody was stored


def test_subjects_of_a_site_may_be_text(ward_model: Any, model: Any, tmp_path: Path) -> None:
    events, labels, _, _ = ward_model
    as_text = pl.format("P-{}", "subject_id").alias("subject_id")
    model.extend(events.with_columns(as_text), labels[120:130].with_columns(as_text))
    assert_in_step(model, tmp_path / "m")
    assert nw.load(tmp_path / "m").similar(events, labels[130:132], k=None)["patient"].str.starts_with("P-").any()


def test_a_model_without_records_is_not_extended(ward_model: Any, model: Any, tmp_path: Path) -> None:
    events, labels, _, _ = ward_model
    model.save(tmp_path / "m", records=False)
    withheld = nw.load(tmp_path / "m")
    with pytest.raises(InputError, match="saved without records"):
        withheld.extend(events, labels[120:])
    with pytest.raises(InputError, match="saved without records"):
        withheld.forget([1])


def test_contributions_sum_to_the_log_odds(ward_model: Any, model: Any) -> None:
    events, labels, _, _ = ward_model
    table = model.explain(events, labels[120:122], permutations=4)
    assert table.columns == ["subject_id", "prediction_time", "column", "value", "contribution", "se"]
    assert table["subject_id"].unique(maintain_order=True).to_list() == labels["subject_id"][120:122].to_list()
    risk = model.predict_frame(events, labels[120:122])["risk"].to_numpy()
    total = table.group_by("subject_id", maintain_order=True).agg(pl.col("contribution").sum())["contribution"].to_numpy()
    np.testing.assert_allclose(total, np.log(risk / (1 - risk)), atol=1e-6)
