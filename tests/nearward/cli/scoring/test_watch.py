"""``nearward watch`` with outcomes: what fails a job, what is proposed, the page; outcomes that do not fit are refused."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from scipy.optimize import brentq
from scipy.special import expit

from nearward.batch.outcomes import join_outcomes
from nearward.batch.summary import ColumnDrift, JobSummary, name_runs
from nearward.cli.scoring.watch import Cause, watch
from nearward.evaluation.stats.confidence import wilson
from nearward.tabular.errors import InputError, MissingColumns

ROWS = 800


def words_of(page: Path) -> str:
    """The words of a page, one space between them."""
    text = re.sub(r"<(style|svg)\b.*?</\1>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of 800 rows: in the second one column has moved, 40 rows are novel, and the risks are half of what they should be."""
    folder = tmp_path_factory.mktemp("watch")
    rng = np.random.default_rng(0)
    known = []
    for name, novel, psi, factor in (("spring", 8, 0.02, 1.0), ("summer", 40, 0.3, 2.0)):
        (folder / name).mkdir()
        risk = rng.uniform(0.02, 0.4, ROWS)
        ids = [f"{name}-{i}" for i in range(ROWS)]
        scores = pl.DataFrame({"file": ["a.parquet"] * ROWS, "visit": ids, "risk": risk, "novelty": rng.random(ROWS)})
        scores[:500].write_parquet(folder / name / "part-00000-0.parquet")
        scores[500:].write_parquet(folder / name / "part-00000-1.parquet")
        known.append(pl.DataFrame({"visit": ids, "died": np.where(rng.random(ROWS) < factor * risk, "yes", "no")}))
        drift = (ColumnDrift("lactate", psi, psi - 0.01, psi + 0.02, 0.03, psi > 0.1),)
        empty: dict[str, Any] = {key: {} for key in ("unit_slips", "gaps", "unseen_categories", "missing_blocks")}
        shares = {"flagged_share": wilson(90, ROWS), "novel_share": wilson(novel, ROWS)}
        counts = {"rows": ROWS, "scored": ROWS, "without_features": 0, "flagged": 90, "novel": novel, "expected_events": float(risk.sum())}
        fixed = {"model": "0" * 64, "schema": "plain", "threshold": 0.3, "novel_from": 0.99, "repeated_ids": 0, "failed": ()}
        summary = JobSummary(**fixed, **counts, **shares, **empty, drift=drift, drift_note=None)
        (folder / name / "summary.json").write_text(json.dumps(summary.to_json()))
    pl.concat(known).with_columns(age=60).write_parquet(folder / "outcomes.parquet")
    return folder


def test_a_drift_fails_the_job_and_the_step_is_proposed(nearward: Any, place: Path) -> None:
    words = ("--outcomes", "outcomes.parquet", "--outcome", "died", "--report", "drift.html", "--json", "drift.json")
    done = nearward("watch", "spring", "summer", *words, "--fail-on", "calibration", "--fail-on", "columns", cwd=place, code=4)
    assert "DRIFT: calibration, columns in summer" in done.stderr
    text = done.stdout
    assert "last run: 1 column moved against training: lactate\n" in text
    assert "last run: 5.0 % of the rows lie outside the training population, where 1 % is expected\n" in text
    assert "PSI against training, of columns that moved in any run (rule of thumb: from .1 on look, from .25 on act)" in text
    assert "calibration (95 %), where the outcome is known" in text
    assert re.search(r"proposed: nearward adapt MODEL TABLE --outcome died .* is the weakest that can mend this", text)
    content = json.loads((place / "drift.json").read_text())
    assert set(content["alarms"]) == {"columns", "novelty", "calibration"}
    assert content["proposed_step"] in ("intercept", "intercept and slope")
    ratios = [run["metrics"]["observed_expected"]["value"] for run in content["calibration"]]
    assert ratios == [pytest.approx(1, abs=0.2), pytest.approx(2, abs=0.3)]
    assert f"the calibration has drifted: {content['alarms']['calibration'].rpartition(': ')[2]}" in text
    assert content["note"] is None
    page = words_of(place / "drift.html")
    assert "Does the model still fit its patients? 2 scoring runs; the last one, “summer”, has 800 rows." in page
    for alarm in content["alarms"].values():
        assert f"Warning: {alarm}" in page
    assert f"The step “{content['proposed_step']}” is the weakest that can mend this." in page
    assert "Columns that moved in the last run: lactate." in page
    assert "Data spring/summary.json, sha256" in page
    assert (place / "drift.html").read_text().count("<svg") == 1


def test_a_run_without_drift_passes(nearward: Any, place: Path) -> None:
    words = ("--outcomes", "outcomes.parquet", "--outcome", "died", "--report", "calm.html")
    causes = [word for cause in ("columns", "novelty", "calibration") for word in ("--fail-on", cause)]
    text = nearward("watch", "spring", *words, *causes, cwd=place).stdout
    assert "no column has moved in any of these runs (PSI above .1 and above chance)" in text
    assert "proposed" not in text
    assert "last run" not in text
    page = words_of(place / "calm.html")
    assert "1 scoring run; the last one" in page
    assert "✓ Good: no drift in the last run, as far as these figures show. Run by run" in page
    assert "Proposed" not in page


def test_what_is_not_known_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = pl.read_parquet(place / "outcomes.parquet").filter(pl.col("visit").str.starts_with("spring")).head(30)
    few.write_parquet(place / "few.parquet")
    watch([place / "spring"], report=place / "unknown.html")
    assert "calibration" not in capsys.readouterr().out
    assert "as far as these figures show. Its outcomes are not known." in words_of(place / "unknown.html")
    watch([place / "spring"], outcomes=place / "few.parquet", outcome="died", report=place / "few.html")
    text = capsys.readouterr().out
    assert "spring: fewer than 10 rows with the event, or without it, are known: its calibration is not judged yet" in text
    assert "Too few of its outcomes are known to judge its calibration." in words_of(place / "few.html")


def test_a_slope_that_was_off_from_the_first_run_on_is_no_drift(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log-odds of both runs are half as far apart as they should be; then the second is of another model, which has no first run."""
    rng = np.random.default_rng(3)
    scores = [pl.concat([pl.read_parquet(path) for path in sorted((place / name).glob("part-*"))]) for name in ("spring", "summer")]
    both = pl.concat(scores)
    z = np.log(both["risk"] / (1 - both["risk"])).to_numpy()
    shift = brentq(lambda at: expit(at + z / 2).sum() - both["risk"].sum(), -5, 5)
    flat = both.with_columns(risk=pl.Series(expit(shift + z / 2)))
    died = rng.random(len(z)) < both["risk"].to_numpy()
    both.select("visit").with_columns(died=died).write_parquet(place / "flat.parquet")
    for name, model in (("flat-1", "0"), ("flat-2", "0"), ("flat-3", "1")):
        (place / name).mkdir()
        (flat[:ROWS] if name == "flat-1" else flat[ROWS:]).write_parquet(place / name / "part-00000-0.parquet")
        summary = json.loads((place / "spring" / "summary.json").read_text())
        (place / name / "summary.json").write_text(json.dumps({**summary, "model": model * 64}))

    def run(*names: str) -> dict[str, Any]:
        files = {"outcomes": place / "flat.parquet", "json": place / "flat.json", "report": place / "flat.html"}
        watch([place / name for name in names], outcome="died", fail_on=[Cause.CALIBRATION], **files)
        result: dict[str, Any] = json.loads((place / "flat.json").read_text())
        return result

    with pytest.raises(typer.Exit):
        run("flat-1")
    assert json.loads((place / "flat.json").read_text())["alarms"] == {"calibration": "the calibration has drifted: slope"}
    result = run("flat-1", "flat-2")
    was_off = "was off in the first run of this model already: miscalibrated, but no drift"
    assert re.fullmatch(rf"the calibration slope, [\d.]+ \([\d.]+ to [\d.]+\), {was_off}", result["note"])
    assert (result["alarms"], result["proposed_step"]) == ({}, "intercept and slope")
    assert f"last run: {result['note']}" in capsys.readouterr().out
    assert f"Warning: {result['note']}" in words_of(place / "flat.html")
    with pytest.raises(typer.Exit):
        run("flat-1", "flat-3")


def test_outcomes_are_joined_by_the_id_of_the_scores(place: Path) -> None:
    outcomes = pl.read_parquet(place / "outcomes.parquet")
    late = outcomes.filter(pl.col("visit") != "spring-3").sample(fraction=1.0, shuffle=True, seed=0)
    (joined,) = join_outcomes({"spring": place / "spring"}, late, "died")
    assert joined["died"].null_count() == 1
    assert joined["died"][4] == outcomes["died"][4]


def test_outcomes_of_meds_labels_are_joined_by_subject_and_time(tmp_path: Path) -> None:
    keys = pl.DataFrame({"subject_id": [7, 7, 8], "prediction_time": [datetime(2024, 1, day) for day in (1, 2, 1)]})
    risk = {"boolean_value": [None] * 3, "predicted_boolean_value": [False] * 3, "predicted_boolean_probability": [0.1, 0.2, 0.3]}
    keys.with_columns(**{name: pl.Series(values) for name, values in risk.items()}).write_parquet(tmp_path / "part-00000-000000.parquet")
    labels = keys[[2, 0]].with_columns(boolean_value=pl.Series([True, False]))
    (joined,) = join_outcomes({"run": tmp_path}, labels, "boolean_value")
    assert joined.rows() == [(7, False, 0.1), (7, None, 0.2), (8, True, 0.3)]


@pytest.mark.parametrize(
    ("outcomes", "error", "message"),
    [
        (pl.DataFrame({"patient": ["a"], "died": ["yes"]}), MissingColumns, "visit"),
        (
            pl.DataFrame({"visit": ["spring-1", "spring-1"], "died": ["yes", "no"]}),
            InputError,
            "1 rows of the outcomes have the same visit",
        ),
        (pl.DataFrame({"visit": ["autumn-1"], "died": ["yes"]}), InputError, "no row of .* has an outcome"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused(place: Path, outcomes: pl.DataFrame, error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        join_outcomes({"spring": place / "spring"}, outcomes, "died")


def test_scores_without_ids_say_what_outcomes_need(tmp_path: Path) -> None:
    pl.DataFrame({"file": ["a.parquet"], "row": [0], "risk": [0.1]}).write_parquet(tmp_path / "part-00000-0.parquet")
    with pytest.raises(InputError, match="fitted without ids"):
        join_outcomes({"run": tmp_path}, pl.DataFrame({"visit": ["a"], "died": [1]}), "died")


@pytest.fixture
def nights(tmp_path: Path) -> dict[str, Path]:
    """Two nights that scored a table of the same name without ids."""
    folders = [tmp_path / night / "scores" for night in ("monday", "tuesday")]
    for folder, risk in zip(folders, (0.1, 0.2), strict=True):
        folder.mkdir(parents=True)
        table = pl.DataFrame({"file": ["ward.parquet"] * 2, "row": [0, 1], "risk": [risk, risk]})
        table.write_parquet(folder / "part-00000-0.parquet")
    return name_runs(folders)


def test_outcomes_of_runs_without_ids_name_the_run(nights: dict[str, Path]) -> None:
    known = pl.DataFrame({"file": ["ward.parquet"] * 3, "row": [0, 1, 0], "died": [1, 0, 0]})
    with pytest.raises(InputError, match=r"\['ward.parquet'\], without ids: .*Add a column 'run'"):
        join_outcomes(nights, known[:2], "died")  # of which night are they?
    monday, tuesday = nights
    with_run = known.with_columns(run=pl.Series([monday, monday, f"{tuesday}/"]))
    joined = join_outcomes(nights, with_run, "died")
    assert [frame.rows() for frame in joined] == [[(1, 0.1), (0, 0.1)], [(0, 0.2), (None, 0.2)]]
    with pytest.raises(InputError, match="have the file and row and run of the scores"):
        join_outcomes(nights, with_run[:2], "died")


def test_a_patient_with_an_outcome_in_each_run_is_joined_by_id_and_run(place: Path) -> None:
    known = pl.DataFrame({"visit": ["spring-1", "spring-1"], "run": ["spring", "summer"], "died": ["yes", "no"]})
    (joined,) = join_outcomes({"spring": place / "spring"}, known, "died")
    assert joined["died"].drop_nulls().to_list() == ["yes"]


def test_the_same_run_twice_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match="the runs must differ"):
        watch([place / "spring", place / "spring"])


def test_options_that_belong_together(place: Path) -> None:
    with pytest.raises(InputError, match="needs the outcomes"):
        watch([place / "spring"], fail_on=[Cause.CALIBRATION])
    with pytest.raises(InputError, match="got --outcome alone"):
        watch([place / "spring"], outcome="died")
