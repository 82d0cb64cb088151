"""``nearward adapt``, ``extend`` and ``forget``: what is written and said; a folder that cannot be written keeps the old model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import nearward as nw
from nearward.cli.main import app
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.persistence.artifact import model_hash


@pytest.fixture(scope="module")
def place(fitted: Any, clinic: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    fitted.save(folder / "model")
    frame, died, patient = clinic
    rows = frame.with_columns(died=pl.Series(died), patient=pl.Series(patient))
    rows[500:560].write_parquet(folder / "local.parquet")
    events = rows.filter(pl.col("died") == 1)[-6:]
    pl.concat([rows.filter(pl.col("died") == 0)[-40:], events]).rename({"age": "years"}).write_parquet(folder / "few.parquet")
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


def refusal(*words: object) -> BaseException | None:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code
    return result.exception


def test_adapt_writes_model_page_and_numbers(place: Path) -> None:
    words = ("--outcome", "died", "--group", "patient", "--rename", "years=age", "--out", place / "here")
    output = run("adapt", place / "model", place / "few.parquet", *words, "--report", place / "a.html", "--json", place / "a.json")
    assert "6 events" in output
    adaptation = json.loads((place / "a.json").read_text())["adaptation"]
    assert adaptation["renamed"] == {"years": "age"}
    assert [step["log_loss_after"] is None for step in adaptation["steps"]] == [False, True, True, True, True]
    page = (place / "a.html").read_text()
    assert "<svg" in page
    assert re.search(r"few\.parquet, sha256 .*sha256 ", page, re.DOTALL), "the data file and the model stand on the page"
    assert "adapted: 46 local rows" in run("inspect", place / "here")
    wrong = [str(word).replace("years=age", "years") for word in words]
    assert isinstance(refusal("adapt", place / "model", place / "few.parquet", *wrong), InputError)


def test_what_is_refused_before_anything_is_computed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearward.tabular.persistence.artifact.FORMAT", 10_000)
    words = ("adapt", place / "model", place / "local.parquet", "--outcome", "died", "--out")
    assert isinstance(refusal(*words, tmp_path / "here"), ArtifactError)  # a model of an earlier version
    monkeypatch.setattr("nearward.tabular.persistence.artifact.FORMAT", 0)
    assert "later nearward" in str(refusal(*words, tmp_path / "here"))
    monkeypatch.undo()
    assert "cannot be written" in str(refusal(*words, place / "local.parquet" / "here"))
    assert not list(tmp_path.iterdir())


def test_extend_then_forget(place: Path) -> None:
    words = ("--outcome", "died", "--group", "patient", "--out", place / "more")
    assert "60 rows of" in run("extend", place / "model", place / "local.parquet", *words)
    model = nw.load(place / "more")
    assert model.fitted_.records.height == 560
    patient = model.fitted_.records[-1, "(patient)"]
    (place / "ids.txt").write_text(f"{patient}\n\nnobody\n")
    output = run("forget", place / "more", "--ids", place / "ids.txt", "--out", place / "more", "--json", place / "f.json")
    assert "1 ids are of no stored patient" in output
    removal = json.loads((place / "f.json").read_text())["removal"]
    assert removal["stored"] == 560 - removal["rows"] == nw.load(place / "more").fitted_.records.height
    described = run("inspect", place / "more")
    assert "1 patients; encoders" in described.replace("\n", " ").replace("  ", " ")
    assert f"among {removal['stored']} stored rows now, {removal['stored_events']} with the event" in described


def test_what_cannot_be_written_leaves_the_old_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_hash(place / "model")
    (place / "none.txt").write_text("\n")
    ids = (place / "some.txt", place / "none.txt")
    ids[0].write_text(f"{nw.load(place / 'model').fitted_.records[0, '(patient)']}\n")
    words = ("forget", place / "model", "--out", place / "model", "--ids")
    assert "holds no ids" in str(refusal(*words, ids[1]))
    assert "not a text file" in str(refusal(*words, place / "local.parquet"))
    assert "no such file" in str(refusal(*words, place / "nobody.txt"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert isinstance(refusal(*words, ids[0]), OSError)
    monkeypatch.undo()
    assert model_hash(place / "model") == before
    assert nw.load(place / "model").fitted_.records.height == 500
