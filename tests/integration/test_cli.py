"""The command line: each command on a small cohort, its output and exit codes."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.cli.terminal.console import as_value
from nearward.tabular.persistence.artifact import FORMAT


@pytest.fixture(scope="module")
def place(nearward, clinic, tmp_path_factory):
    """A folder with a cohort, new rows, and a model fitted by the command."""
    folder = tmp_path_factory.mktemp("cli")
    frame, died, patient = clinic
    visits = frame.with_columns(
        encounter=pl.Series([f"v{i}" for i in range(frame.height)]), patient=pl.Series(patient), charges=pl.lit(3.5), died=pl.Series(died)
    )
    visits[:250].write_parquet(folder / "cohort.parquet")
    visits[500:520].drop("died").write_parquet(folder / "new.parquet")
    done = nearward(
        "fit", "cohort.parquet", "--outcome", "died", "--positive", 1, "--id", "encounter", "--group", "patient", "--drop", "charges",
        "--expert", "sofa", "--out", "model", cwd=folder, new_process=True,
    )  # fmt: skip
    assert "250 rows" in done.stdout
    assert "contains patient records" in done.stdout
    assert "declare it as the id" not in done.stderr  # it is declared
    steps = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [step["done"] for step in steps] == list(range(1, 13))
    return folder


def test_score_writes_ids_risks_and_bands(nearward, place):
    done = nearward("score", "model", "new.parquet", "--out", "risk.parquet", cwd=place)
    scores = pl.read_parquet(place / "risk.parquet")
    assert scores.columns == ["encounter", "risk", "low", "high", "n_similar", "novelty", "vote"]
    assert scores["encounter"].to_list() == [f"v{i}" for i in range(500, 520)]
    assert stat.S_IMODE((place / "risk.parquet").stat().st_mode) == 0o600
    assert json.loads(done.stderr.splitlines()[-1])["done"] == 20
    nearward("score", "model", "new.parquet", "--out", "risk.csv", cwd=place)
    np.testing.assert_allclose(pl.read_csv(place / "risk.csv")["risk"], scores["risk"])


def test_similar_prints_the_similar_patients(nearward, place):
    output = nearward("similar", "model", "new.parquet", "--row", "v503", "-k", 4, cwd=place).stdout
    assert "row v503: risk" in output
    assert re.search(r"similar to this one: \w+ \d+%, ", output)
    assert "weight" in output
    assert "→" in output
    nearward("similar", "model", "new.parquet", "--row", "v400", cwd=place, code=2)


def test_standard_input_and_output_stand_for_tables(nearward, place):
    from_file = nearward("score", "model", "new.parquet", "--out", "-", cwd=place)
    assert "20 rows scored into -" in from_file.stderr
    assert pl.read_csv(io.StringIO(from_file.stdout)).columns[:2] == ["encounter", "risk"]
    text = pl.read_parquet(place / "new.parquet").write_csv()
    from_input = nearward("score", "model", "-", "--out", "-", "--quiet", cwd=place, input=text)
    assert (from_input.stdout, from_input.stderr) == (from_file.stdout, "")
    assert "name a file" in nearward("score", "model", "-", "--out", "folder", cwd=place, code=2, input=text).stderr


def test_results_are_printed_as_json(nearward, place):
    about = json.loads(nearward("inspect", "model", "--json", "-", cwd=place).stdout)
    assert about["contains_records"] is True
    assert about["fit"]["rows"] == 250
    assert {shard["search"] for shard in about["search"]} == {"exact"}
    assert sum(shard["stored rows"] for shard in about["search"]) == 250
    assert {column["column"] for column in about["schema"]} >= {"age", "sofa"}
    similar = json.loads(nearward("similar", "model", "new.parquet", "--row", "v503", "-k", 4, "--json", "-", cwd=place).stdout)
    assert len(similar["similar"]) == 4
    assert 0 <= similar["scores"]["risk"] <= 1


def test_inspect_states_first_whether_there_are_records(nearward, place):
    output = nearward("inspect", "model", cwd=place).stdout
    assert output.splitlines()[0] == "contains patient records: yes"
    assert "AWARE vote" in output
    assert "expert: sofa" in output
    words = " ".join(output.split())  # the lines of a table are wrapped
    assert re.search(r"in-context model embedded (not )?in use \(out of fold .*: AUPRC 0\.\d{4} with it, 0\.\d{4} without; alone 0", words)


def test_inspect_describes_a_model_that_cannot_be_loaded(nearward, place, tmp_path):
    """As where its backbone or its weights are not on this machine: the manifest suffices for all but gate and schema."""
    shutil.copytree(place / "model", tmp_path / "model")
    next((tmp_path / "model").glob("tensors-*")).unlink()
    done = nearward("inspect", "model", cwd=tmp_path, code=3)
    assert "250 rows of" in done.stdout
    assert "in-context model" in done.stdout
    assert "expert: sofa" in done.stdout
    assert done.stderr.startswith("error: ")


def test_inspect_describes_other_artifacts(nearward, tmp_path):
    nw.ThresholdController(0.05).save(tmp_path / "controller")
    output = nearward("inspect", "controller", cwd=tmp_path).stdout.splitlines()
    assert output[0] == "contains patient records: no"
    assert f"a ThresholdController, format {FORMAT}" in output


def test_schema_is_written_edited_and_used(nearward, place):
    nearward("schema", "cohort.parquet", "--out", "schema.json", cwd=place)
    text = (place / "schema.json").read_text()
    edited = json.loads(text)
    for column in edited["columns"]:
        if column["name"] in ("charges", "diabetic"):
            column["role"] = "ignore"
    (place / "schema.json").write_text(json.dumps(edited))
    words = (
        "--outcome",
        "died",
        "--id",
        "encounter",
        "--group",
        "patient",
        "--schema",
        "schema.json",
        "--out",
        "edited",
        "--backbone",
        "none",
    )
    nearward("fit", "cohort.parquet", *words, cwd=place)
    output = nearward("inspect", "edited", cwd=place).stdout
    assert "not in use (none was requested)" in output
    used = output[output.index("feature importance for similarity") :].split("levels")[0].split("schema")[0]
    assert "lactate" in used
    assert "diabetic" not in used


@pytest.mark.parametrize(
    ("text", "values", "event"),
    [("1", [False, True], True), ("true", [False, True], True), ("0", [False, True], False), ("1", [0, 1], 1), ("-1", [-1, 1], -1),
     ("1.0", [0, 1], 1), ("yes", ["no", "yes"], "yes"), ("1", ["0", "1"], "1")],
)  # fmt: skip
def test_the_event_value_has_the_columns_dtype(text, values, event):
    value = as_value(text, pl.Series(values))
    assert value == event
    assert type(value) is type(event)


def test_user_errors_exit_with_2_and_one_line(nearward, place):
    done = nearward("fit", "cohort.parquet", "--outcome", "dead", "--out", "x", cwd=place, code=2)
    assert done.stderr.startswith("error: columns missing from the frame: ['dead']")
    nearward("fit", "nothing.parquet", "--outcome", "died", "--out", "x", cwd=place, code=2)
    nearward("fit", "cohort.parquet", "--outcome", "died", "--positive", "yes", "--out", "x", cwd=place, code=2)
    assert not (place / "x").exists()


def test_an_unusable_model_exits_with_3(nearward, place, tmp_path):
    nearward("score", tmp_path, place / "new.parquet", "--out", tmp_path / "r.parquet", cwd=place, code=3)
    assert not (tmp_path / "r.parquet").exists()


@pytest.mark.slow
def test_a_job_whose_folder_is_taken_over_exits_with_4_and_leaves_the_other_jobs_scores(nearward, place, tmp_path):
    """Two processes: the second begins anew (--restart) in the folder of the first, which has hundreds of shards before it."""
    rows = pl.concat([pl.read_parquet(place / "new.parquet")] * 20)
    rows.write_parquet(tmp_path / "archive.parquet")
    command = ["score", place / "model", "archive.parquet", "--out", "scores", "--workers", "1"]
    first = subprocess.Popen(
        [str(Path(sys.executable).parent / "nearward"), *map(str, command), "--shard-rows", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 600
        while not list((tmp_path / "scores").glob("part-*.parquet")) and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        nearward(*command, "--shard-rows", 200, "--restart", cwd=tmp_path)
        _, errors = first.communicate(timeout=600)
    finally:
        first.kill()
    assert first.returncode == 4, errors
    assert "was taken over by another job (--restart)" in errors
    assert "Traceback" not in errors
    parts = sorted((tmp_path / "scores").glob("part-*.parquet"))
    assert [pl.read_parquet(part).height for part in parts] == [200, 200]
    assert nearward(*command, "--shard-rows", 200, cwd=tmp_path).stdout.startswith("scores: 2 of 2 shards done")


@pytest.mark.slow
@pytest.mark.cohort
def test_demo_on_a_cohort(nearward, cohort_folder, tmp_path):
    """The ward's demo takes the same way with ten times the rows; `make demo` runs it."""
    table, sidecar = cohort_folder / "heart_failure.parquet", cohort_folder / "heart_failure.json"
    output = nearward("demo", "--data", table, "--sidecar", sidecar, cwd=tmp_path).stdout
    assert "Heart failure" in output
    assert re.search(r"the event: \w+ is 1", output)
    assert "logistic regression" in output
    assert re.search(r"killed after \d of 1 shards, then resumed: \d+ rows", output)
    assert "saved and loaded: equal" in output
    assert "Not exported, because it did not pass its audit: " in output  # some 60 test patients are too few
    pages = ["risk.html", "comparison.html", "card.html"]
    assert [line.strip() for line in output.splitlines()[-3:]] == [str(tmp_path / "nearward-demo" / page) for page in pages]
    assert "guard the page as you guard the cohort" in (tmp_path / "nearward-demo" / "risk.html").read_text()


def test_a_demo_whose_folder_cannot_be_written_computes_nothing(nearward, tmp_path):
    (tmp_path / "file").write_text("kept")
    done = nearward("demo", "--out", "file", cwd=tmp_path, code=2)
    assert done.stderr.startswith("error: --out file cannot be written (File exists): name another folder")
    assert (tmp_path / "file").read_text() == "kept"
