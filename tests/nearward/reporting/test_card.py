"""The model card: known items are filled in, others are blank; no patient's value; three files; refusals."""

from __future__ import annotations

import json
import stat

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import nearward as nw
from nearward.cli.main import app
from nearward.evaluation.risk.tripod_json import ITEMS
from nearward.reporting.card import BLANK, model_card
from nearward.tabular.errors import ArtifactError, InputError


@pytest.fixture(scope="module")
def place(fitted, clinic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    fitted.save(folder / "model")
    frame, died, patient = clinic
    risk = fitted.predict_frame(frame[500:])["risk"]
    scored = pl.DataFrame({"died": died[500:], "risk": risk, "patient": patient[500:], "sex | <b>": ["f", "m"] * 100})
    nw.evaluate_risk(scored, "died", "risk", "patient", ["sex | <b>"], resamples=100).to_json(folder / "risk.json")
    return folder


def test_without_a_report_the_model_is_known_and_its_performance_elsewhere_is_not(place, fitted) -> None:
    card = model_card(place / "model")
    assert f"{fitted.summary_.rows} rows" in card.chai["Trust ingredients"]["Development data"]
    assert card.chai["Key metrics"]["Usefulness and efficacy"] is None
    assert card.chai["Overview"]["Regulatory approval"] is None
    assert list(card.tripod) == list(ITEMS)
    assert card.tripod["17"] is card.tripod["23a"] is None
    assert "the training patients' rows" in card.chai["Trust ingredients"]["Security and compliance"]
    assert card.validation is None
    assert card.development is not None
    assert card.development.rows == fitted.summary_.rows
    assert fitted.summary_.folds == int(card.tripod["12a"][0])


def test_with_a_report_performance_and_sample_size_of_the_validation_are_there(place) -> None:
    card = model_card(place / "model", place / "risk.json")
    assert card.validation is not None
    assert card.validation.rows == 200
    assert not card.validation.enough
    assert "AUROC" in card.tripod["23a"]
    assert card.metrics()["rows of"].to_list() == ["all rows", "sex | <b>: f", "sex | <b>: m"]
    assert card.probast["4.6"] == "2 groups in the report."


def test_three_files_say_the_same_and_show_no_value_of_a_patient(place, clinic) -> None:
    words = ["card", place / "model", "--evaluation", place / "risk.json", "--out", place / "card"]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    page, text, content = ((place / "card" / f"card.{kind}").read_text() for kind in ("html", "md", "json"))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (place / "card").iterdir())
    parsed = json.loads(content)
    blanks = [item for items in parsed["chai_applied_model_card"].values() for item in items.values()].count(None)
    assert blanks > 10
    tripod_blanks = [item["content"] for item in parsed["tripod_ai"].values()].count(None)
    questions = sum(len(domain) for domain in parsed["probast_ai_self_check"].values())
    assert text.count(BLANK) == blanks + tripod_blanks + questions
    assert page.count(BLANK) + page.count(BLANK.lower()) == blanks + tripod_blanks + questions
    assert "<b>" not in text.replace("\\<b>", "")
    assert "sex \\| \\<b>: f" in text
    lactate = clinic[0]["lactate"].drop_nulls()
    for shown in (page, text, content):
        assert parsed["provenance"]["model_sha256"] in shown
        assert "surgical" not in shown
        assert not any(f"{value:.4g}" in shown for value in (lactate.min(), lactate.max(), *np.quantile(lactate, [0.01, 0.99])))


def test_refusals(place, tmp_path) -> None:
    nw.ThresholdController(0.05).save(tmp_path / "controller")
    with pytest.raises(ArtifactError, match="ThresholdController"):
        model_card(tmp_path / "controller")
    (tmp_path / "other.json").write_text('{"items": {}}')
    with pytest.raises(InputError, match="evaluate risk --json"):
        model_card(place / "model", tmp_path / "other.json")
    with pytest.raises(InputError, match="is a file"):
        model_card(place / "model").write(tmp_path / "other.json")
