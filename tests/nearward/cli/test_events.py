"""The commands on events: describe, similar with timelines, inspect, and what fit and score refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nearward as nw
from nearward.cli.main import app
from nearward.tabular.errors import InputError

RENAMED = "subject_id=stay,numeric_value=value"


@pytest.fixture
def place(ward_model, tmp_path) -> Path:
    events, labels, _, _ = ward_model
    events.write_parquet(tmp_path / "events.parquet")
    events.rename({"subject_id": "stay", "numeric_value": "value"}).write_parquet(tmp_path / "renamed.parquet")
    labels[120:].write_parquet(tmp_path / "labels.parquet")
    return tmp_path


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code
    return result.stdout


def test_describe(place) -> None:
    plain = call("events", "describe", place / "events.parquet", "--labels", place / "labels.parquet", "--report", place / "page.html")
    assert "Creatinine" in plain
    assert "labels with the outcome" in plain
    assert "<svg" in (place / "page.html").read_text()
    assert re.search(r"Creatinine +160 +1920 +100 +0\.\d+ /", plain)
    content = json.loads(call("events", "describe", place / "renamed.parquet", "--columns", RENAMED, "--json", "-"))
    assert content["facts"]["subjects"] == 160
    with pytest.raises(InputError, match="--columns must be NAME=THEIRS, got stay"):
        call("events", "describe", place / "renamed.parquet", "--columns", "stay")


def test_similar_shows_what_happened(ward_model, place) -> None:
    words = ["similar", ward_model[3], place / "events.parquet", "--row", 3, "-k", 2]
    content = json.loads(call(*words, "--labels", place / "labels.parquet", "--json", "-"))
    assert content["scores"]["risk"] > 0
    assert "Creatinine" in str(content["similar"])
    (line,) = [line for line in call(*words, "--labels", place / "labels.parquet").splitlines() if line.startswith("what makes")]
    assert len(re.findall("Creatinine", line)) <= 1, "the columns of a code are one entry"
    with pytest.raises(InputError, match="holds a model of events: --labels must name"):
        call(*words)


def test_inspect_counts_the_kept_events_as_patient_records(ward_model) -> None:
    content = json.loads(call("inspect", ward_model[3], "--json", "-"))
    assert content["contains_records"]
    assert content["about"]["kind"] == "EventRisk"
    assert content["events"]["events kept for timelines (patient records)"] > 120
    assert content["fit"]["rows"] == 120


def test_subjects_are_stored_removed_and_adapted_to(ward_model, place) -> None:
    model, events, labels, out = ward_model[3], place / "events.parquet", place / "labels.parquet", place / "more"
    assert "40 rows of 40 patients added" in call("extend", model, events, "--labels", labels, "--out", out)
    ids = ward_model[1]["subject_id"][[0, 130]].to_list()
    (place / "ids.txt").write_text("\n".join(map(str, ids)))
    plain = call("forget", out, "--ids", place / "ids.txt", "--out", out, "--json", place / "f.json")
    assert "2 patients removed" in plain
    assert "codes of the features" in plain
    assert json.loads((place / "f.json").read_text())["removal"]["stored"] == 158
    described = call("inspect", out)
    assert "2 patients; encoders" in described.replace("\n", " ").replace("  ", " ")
    renamed = ("--labels", place / "stays.parquet", "--columns", RENAMED, "--out", place / "here", "--json", place / "a.json")
    stays = ward_model[1][120:].rename({"subject_id": "stay"})
    stays.write_parquet(place / "stays.parquet")
    call("adapt", model, place / "renamed.parquet", *renamed, "--report", place / "a.html")
    assert json.loads((place / "a.json").read_text())["adaptation"]["rows"] == 40
    assert "adapted: 40 local rows" in call("inspect", place / "here")
    with pytest.raises(InputError, match="holds a model of events: --labels must name"):
        call("extend", model, events, "--outcome", "died", "--out", out)
    with pytest.raises(InputError, match="--outcome and --group are for tables"):
        call("extend", model, events, "--labels", labels, "--outcome", "died", "--out", out)


def test_a_label_is_explained_and_has_a_sheet_and_the_model_a_card(ward_model, place) -> None:
    words = (ward_model[3], place / "events.parquet", "--labels", place / "labels.parquet", "--row", 3, "--permutations", 4)
    plain = call("explain", *words, "--picture", place / "why.svg", "--out", place / "e.csv")
    assert "contributions to the log-odds" in plain
    assert (place / "e.csv").read_text().startswith("subject_id,prediction_time,column,value,contribution,se")
    call("sheet", *words, "--out", place / "sheet.html")
    page = (place / "sheet.html").read_text()
    assert "row 3" in page
    assert "Similar patients" in page
    call("card", ward_model[3], "--out", place / "card")
    card = (place / "card" / "card.md").read_text()
    assert "Time-stamped events (MEDS)" in card
    assert "the risk that “boolean\\_value” is True" in card
    with pytest.raises(InputError, match="holds a model of events"):
        call("sheet", *words[:2], "--out", place / "sheet.html")


def test_options_reach_the_features(place, monkeypatch) -> None:
    def fit(self: nw.EventRisk, events: Path, labels: Path) -> None:
        features = self.features
        limits = features.spans, features.max_columns, features.min_subjects
        raise InputError(f"missing={features.missing}, columns={self.columns}; {limits}")

    monkeypatch.setattr(nw.EventRisk, "fit", fit)
    words = ("fit", place / "renamed.parquet", "--labels", place / "labels.parquet", "--columns", RENAMED, "--out", place / "m")
    with pytest.raises(InputError, match=r"missing=\{'\*': \[-1.0\], 'Height': \[-9.0\]\}, columns=\{'subject_id': 'stay'"):
        call(*words, "--missing", "-1", "--missing", "Height=-9")
    with pytest.raises(InputError, match=r"; \(\('6h', '24h', None\), 1000, 50\)$"):
        call(*words)
    with pytest.raises(InputError, match=r"; \(\['6h', None\], 300, 7\)$"):
        call(*words, "--spans", "6h, all", "--max-columns", 300, "--min-subjects", 7)


def test_fit_shows_what_was_left_out(ward_model, place, monkeypatch) -> None:
    model = nw.load(ward_model[3])
    model.counts_ = {**model.counts_, "other_units": 1234}
    monkeypatch.setattr(nw.EventRisk, "fit", lambda *_: model)
    plain = call("fit", place / "events.parquet", "--labels", place / "labels.parquet", "--out", place / "m")
    assert re.search(r"events in another unit than in training \(the number is left out\) +1234\n", plain)


def test_options_of_tables_and_of_events_do_not_mix(ward_model, place) -> None:
    with pytest.raises(InputError, match="only for tables: --outcome, --group"):
        call("fit", place / "events.parquet", "--labels", place / "labels.parquet", "--outcome", "x", "--group", "y", "--out", place / "m")
    with pytest.raises(InputError, match="--missing of events must be a number, or CODE=NUMBER, got unknown"):
        call("fit", place / "events.parquet", "--labels", place / "labels.parquet", "--missing", "unknown", "--out", place / "m")
    with pytest.raises(InputError, match="--outcome must name"):
        call("fit", place / "events.parquet", "--out", place / "m")
    with pytest.raises(InputError, match="only for events, with --labels: --columns, --max-columns"):
        call("fit", place / "events.parquet", "--outcome", "x", "--columns", RENAMED, "--max-columns", 9, "--out", place / "m")
    with pytest.raises(InputError, match="holds a model of events"):
        call("score", ward_model[3], place / "events.parquet", "--out", place / "risk.csv")
