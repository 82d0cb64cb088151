"""``nearward watch`` with outcomes: what fails a job, what is proposed, the page; outcomes that do not fit are refused."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.batch.outcomes import join_outcomes
from nearward.batch.summary import ColumnDrift, JobSummary
from nearward.cli.scoring.watch import Cause, watch
from nearward.evaluation.stats.confidence import wilson
from nearward.tabular.errors import InputError, MissingColumns

ROWS = 800


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
    assert "1 column moved against training: lactate" in done.stdout
    content = json.loads((place / "drift.json").read_text())
    assert set(content["alarms"]) == {"columns", "novelty", "calibration"}
    assert content["proposed_step"] in ("intercept", "intercept and slope")
    ratios = [run["metrics"]["observed_expected"]["value"] for run in content["calibration"]]
    assert ratios == [pytest.approx(1, abs=0.2), pytest.approx(2, abs=0.3)]
    page = (place / "drift.html").read_text()
    assert "the calibration has drifted" in page
    assert page.count("<svg") == 1


def test_a_run_without_drift_passes(nearward: Any, place: Path) -> None:
    words = ("--outcomes", "outcomes.parquet", "--outcome", "died")
    causes = [word for cause in ("columns", "novelty", "calibration") for word in ("--fail-on", cause)]
    assert "proposed" not in nearward("watch", "spring", *words, *causes, cwd=place).stdout


def test_outcomes_are_joined_by_the_id_of_the_scores(place: Path) -> None:
    outcomes = pl.read_parquet(place / "outcomes.parquet")
    late = outcomes.filter(pl.col("visit") != "spring-3").sample(fraction=1.0, shuffle=True, seed=0)
    joined = join_outcomes(place / "spring", late, "died")
    assert joined["died"].null_count() == 1
    assert joined["died"][4] == outcomes["died"][4]


def test_outcomes_of_meds_labels_are_joined_by_subject_and_time(tmp_path: Path) -> None:
    keys = pl.DataFrame({"subject_id": [7, 7, 8], "prediction_time": [datetime(2024, 1, day) for day in (1, 2, 1)]})
    risk = {"boolean_value": [None] * 3, "predicted_boolean_value": [False] * 3, "predicted_boolean_probability": [0.1, 0.2, 0.3]}
    keys.with_columns(**{name: pl.Series(values) for name, values in risk.items()}).write_parquet(tmp_path / "part-00000-000000.parquet")
    labels = keys[[2, 0]].with_columns(boolean_value=pl.Series([True, False]))
    joined = join_outcomes(tmp_path, labels, "boolean_value")
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
        join_outcomes(place / "spring", outcomes, "died")


def test_options_that_belong_together(place: Path) -> None:
    with pytest.raises(InputError, match="needs the outcomes"):
        watch([place / "spring"], fail_on=[Cause.CALIBRATION])
    with pytest.raises(InputError, match="got --outcome alone"):
        watch([place / "spring"], outcome="died")
