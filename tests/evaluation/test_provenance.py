"""Provenance: hashes of files, the clock or SOURCE_DATE_EPOCH, and that pages show it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

import nearward as nw
from nearward import evaluation
from nearward.evaluation.provenance import DataFile, Provenance
from nearward.tabular.errors import InputError


def test_a_file_has_its_name_and_hash_and_a_folder_that_of_its_files(tmp_path) -> None:
    (tmp_path / "cohort").mkdir()
    path = tmp_path / "cohort" / "part.csv"
    path.write_bytes(b"a\n1\n")
    assert DataFile.read(path) == DataFile("part.csv", hashlib.sha256(b"a\n1\n").hexdigest())
    before = DataFile.read(tmp_path / "cohort")
    assert before.name == "cohort"
    path.rename(path.with_name("other.csv"))
    assert DataFile.read(tmp_path / "cohort").sha256 != before.sha256


def test_the_date_is_given_or_the_clock(monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert Provenance.now().created == "2023-11-14 22:13 UTC"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
        Provenance.now()


def test_page_and_json_show_it_and_are_reproducible_where_the_date_is_given(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    frame = pl.DataFrame({"died": [0, 1] * 100, "risk": [0.1, 0.3, 0.2, 0.6] * 50})
    frame.write_csv(tmp_path / "scored.csv")
    provenance = Provenance.now(tmp_path / "scored.csv", model_sha256="f00d" * 16)
    report = nw.evaluate_risk(frame, "died", "risk", resamples=100)
    for name in ("one", "two"):
        report.to_html(tmp_path / f"{name}.html", provenance=provenance)
        report.to_json(tmp_path / f"{name}.json", provenance=provenance)
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    for text in ("2023-11-14 22:13 UTC", f"nearward {nw.__version__}", "scored.csv", provenance.data[0].sha256, "f00d" * 16):
        assert text in page
    assert json.loads((tmp_path / "one.json").read_text())["provenance"] == json.loads(json.dumps(provenance.to_dict()))


@pytest.mark.parametrize("path", sorted((Path(evaluation.__path__[0]) / "templates").glob("*.html.jinja")), ids=lambda path: path.stem)
def test_every_page_has_the_foot_with_the_provenance(path: Path) -> None:
    """A template either is part of others, or extends the frame whose foot shows it."""
    text = path.read_text()
    parts = ("page.html", "components.html", "risk_components.html", "site_components.html")
    assert text.count('{% extends "page.html.jinja" %}') == 1 or path.stem in parts
