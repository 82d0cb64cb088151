"""``nearward evaluate risk``: printed tables, written reports, errors in one line."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    rng = np.random.default_rng(0)
    logit = rng.normal(-2, 1.2, 900)
    risk = 1 / (1 + np.exp(-logit))
    frame = pl.DataFrame(
        {
            "died": np.where(rng.random(900) < risk, "yes", "no"),
            "risk": risk,
            "apache": 1 / (1 + np.exp(-logit - rng.normal(0, 1, 900))),
            "patient": rng.integers(0, 600, 900),
            "sex": rng.choice(["F", "M"], 900).tolist(),
            "ward": ["tiny"] * 5 + rng.choice(["A", "B", "C"], 895).tolist(),
        }
    )
    folder = tmp_path_factory.mktemp("evaluate")
    frame.write_csv(folder / "scored.csv")
    return folder


def test_a_risk_is_evaluated(nearward, place):
    output = nearward(
        "evaluate", "risk", "scored.csv", "--outcome", "died", "--risk", "risk", "--group", "patient", "--subgroups", "sex,ward",
        "--strata", "ward", "--resamples", 100, "--alert-rate", 0.1, "--report", "report.html", "--json", "report.json", cwd=place,
    ).stdout  # fmt: skip
    assert "900 rows of" in output
    assert "10 alerts per 100 patients" in output
    assert "AUPRC" in output
    assert "sex: F" in output
    assert "<10*" in output
    assert "written to report.html" in output
    assert (place / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((place / "report.json").read_text())["items"]["15"]["content"]["alert_rate"] == 0.1


def test_risks_are_compared(nearward, place):
    words = ("--outcome", "died", "--positive", "yes", "--risk", "risk,apache", "--resamples", 100, "--threshold", 0.2)
    output = nearward("evaluate", "risk", "scored.csv", *words, "--report", "both.html", cwd=place).stdout
    assert "less apache" in output
    assert "threshold 0.2" in output
    assert "“risk” less" in (place / "both.html").read_text()
    repeated = (*words[:5], "risk", "--risk", "apache", *words[6:])
    assert nearward("evaluate", "risk", "scored.csv", *repeated, cwd=place).stdout == output.replace("written to both.html\n", "")
    assert "one risk at a time" in nearward("evaluate", "risk", "scored.csv", *words, "--subgroups", "sex", cwd=place, code=2).stderr


def test_the_event_may_be_either_value(nearward, place):
    outputs = [
        nearward("evaluate", "risk", "scored.csv", "--outcome", "died", "--positive", value, "--resamples", 100, cwd=place).stdout
        for value in ("yes", "no")
    ]
    areas = [float(output.split("AUROC")[1].split()[0]) for output in outputs]
    assert sum(areas) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--outcome", "dead"), "did you mean 'died'"),
        (("--outcome", "died", "--risk", "patient"), "outside [0, 1]"),
        (("--outcome", "died", "--risk", ","), "--risk names no column"),
        (("--outcome", "died", "--report", "nowhere/report.html"), "no such folder. Nothing was computed"),
    ],
)
def test_user_errors_exit_with_2_and_one_line(nearward, place, words, error):
    done = nearward("evaluate", "risk", "scored.csv", *words, cwd=place, code=2)
    assert error in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1


def test_help_lists_the_commands(nearward, place):
    assert "risk" in nearward("evaluate", "--help", cwd=place).stdout
