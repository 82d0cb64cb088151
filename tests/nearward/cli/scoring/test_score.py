"""``nearward score`` into a folder: real workers, real models, exit codes, limits of the machine."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROWS = 120


@pytest.fixture(scope="module")
def place(fitted, clinic, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    fitted.save(folder / "model")
    (folder / "archive").mkdir()
    for i in range(3):
        clinic[0][i * ROWS : (i + 1) * ROWS].write_parquet(folder / "archive" / f"{i}.parquet")
    return folder


def drop_root_capabilities() -> None:
    """Make file modes apply to the child process, also for root: on Linux, drop two of root's capabilities."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


def scores(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))])


@pytest.mark.slow
def test_a_job_equals_scoring_in_memory_for_any_number_of_workers(nearward, place, fitted, clinic) -> None:
    planned = nearward("score", "model", "archive", "--out", "scores", "--dry-run", cwd=place)
    assert "360" in planned.stdout
    assert not (place / "scores").exists()
    done = nearward("score", "model", "archive", "--out", "scores", "--workers", 2, "--shard-rows", 50, cwd=place, new_process=True)
    assert "360 rows scored" in done.stdout
    assert json.loads(done.stderr.splitlines()[-1])["done"] == 360
    nearward("score", "model", *sorted((place / "archive").glob("*.parquet")), "--out", "one", "--workers", 1, cwd=place)
    wanted = fitted.predict_frame(clinic[0][: 3 * ROWS])
    for folder in ("scores", "one"):
        scored = scores(place / folder)
        assert scored.height == 3 * ROWS
        for name in ("risk", "low", "high", "novelty", "vote"):
            np.testing.assert_allclose(scored[name], wanted[name], atol=1e-6)
    again = nearward("score", "model", "archive", "--out", "scores", cwd=place)
    assert "\n0 rows scored" in again.stdout
    watched = nearward("watch", "scores", "one", cwd=place)
    assert "scores" in watched.stdout
    assert "360" in watched.stdout


@pytest.mark.slow
def test_a_truncated_input_among_forty(nearward, place, clinic) -> None:
    (place / "forty").mkdir()
    for i in range(40):
        clinic[0][i * 5 : (i + 1) * 5].write_parquet(place / "forty" / f"{i:02d}.parquet")
    broken = place / "forty" / "17.parquet"
    broken.write_bytes(broken.read_bytes()[:300])
    done = nearward("score", "model", "forty", "--out", "partly", "--workers", 1, cwd=place, code=4)
    assert "17.parquet" in done.stderr
    assert len(list((place / "partly").glob("part-*.parquet"))) == 39
    assert json.loads((place / "partly" / "ledger" / "file-00017.json").read_text())["error"]


@pytest.mark.slow
def test_a_limit_on_files_and_a_target_that_cannot_be_written(nearward, place) -> None:
    nearward("score", "model", "archive/0.parquet", "--out", "kept", "--workers", 1, cwd=place)
    before = {path: path.read_bytes() for path in (place / "kept").rglob("*") if path.is_file()}

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = nearward("score", "model", "archive", "--out", "small", "--workers", 1, cwd=place, code=4, preexec_fn=small)
    assert "too large" in done.stderr
    assert not list((place / "small").glob("*.parquet"))
    assert not list((place / "small").rglob("*.part"))
    assert {path: path.read_bytes() for path in before} == before
    folders = (place / "kept", place / "kept" / "ledger")
    for folder in folders:
        folder.chmod(0o500)
    nearward("score", "model", "archive", "--out", "kept/more", "--workers", 1, cwd=place, code=2, preexec_fn=drop_root_capabilities)
    nearward(
        "score", "model", "archive", "--out", "kept", "--restart", "--workers", 1, cwd=place, code=2, preexec_fn=drop_root_capabilities
    )
    for folder in folders:
        folder.chmod(0o700)
    assert {path: path.read_bytes() for path in (place / "kept").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_memory_is_bounded_and_does_not_grow_with_the_rows(nearward, place, clinic) -> None:
    few, many = place / "few.parquet", place / "many.parquet"
    clinic[0].sample(2_048, with_replacement=True, seed=0).write_parquet(few)
    clinic[0].sample(12_288, with_replacement=True, seed=0).write_parquet(many, row_group_size=12_288)
    peaks = []
    for table in (few, many):
        words = ("--out", table.stem, "--shard-rows", 1_024, "--workers", 2, "--max-memory", "2GB")
        output = nearward("score", "model", table, *words, cwd=place, new_process=True).stdout.splitlines()[-1]
        peaks.append(float(re.search(r"([\d.]+) GB resident", output)[1]))
    assert peaks[1] < 2.2
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.slow
def test_a_target_where_nothing_can_be_written(nearward, place) -> None:
    assert "error" in nearward("score", "model", "archive", "--out", "/proc/scores", cwd=place, code=2).stderr


@pytest.mark.slow
def test_two_jobs_at_once_and_a_worker_that_is_killed(place) -> None:
    command = [
        str(Path(sys.executable).parent / "nearward"),
        "score",
        "model",
        "archive",
        "--out",
        "both",
        "--workers",
        "1",
        "--shard-rows",
        "10",
    ]
    jobs = [subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    until = time.monotonic() + 60
    while not list((place / "both").glob("part-*.parquet")) and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{jobs[0].pid}/task/{jobs[0].pid}/children")
    if children.exists():
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)
    for job in jobs:
        _, err = job.communicate(timeout=120)
        assert job.returncode == 0, err
    rows = scores(place / "both").select("file", "row")
    assert rows.height == 3 * ROWS
    assert rows.is_unique().all()
    assert not [path for path in (place / "both").rglob("*") if path.suffix in (".part", ".claim")]


@pytest.mark.slow
def test_meds_labels_in_and_the_evaluation_schema_out(nearward, place, clinic) -> None:
    start = datetime(2020, 1, 1)
    features = clinic[0][:60].with_columns(
        subject_id=pl.Series([i // 2 for i in range(60)], dtype=pl.Int64),
        time=pl.Series([start + timedelta(days=i % 2 * 10) for i in range(60)]),
    )
    (place / "features").mkdir()
    features.write_parquet(place / "features" / "f.parquet")
    (place / "labels").mkdir()
    pl.DataFrame(
        {
            "subject_id": [3, 3, 3, 99],
            "prediction_time": [start + timedelta(days=d) for d in (-1, 5, 15, 5)],
            "boolean_value": [True, False, None, True],
        }
    ).write_parquet(place / "labels" / "l.parquet")
    nearward("score", "model", "features", "--labels", "labels", "--format", "meds", "--out", "meds", "--workers", 1, cwd=place)
    scored = scores(place / "meds")
    assert scored.columns == ["subject_id", "prediction_time", "boolean_value", "predicted_boolean_value", "predicted_boolean_probability"]
    assert scored["boolean_value"].to_list() == [True, False, None, True]
    risk = scored["predicted_boolean_probability"].to_list()
    assert risk[0] is None  # no features before the first row: later rows are never used
    assert risk[3] is None
    from nearward.loading import load

    wanted = load(place / "model").predict_frame(clinic[0][6:8])["risk"]
    np.testing.assert_allclose(risk[1:3], wanted, atol=1e-6)


@pytest.mark.slow
def test_drift_is_reported_for_columns_that_moved_and_needs_bins(nearward, place, clinic) -> None:
    from nearward.tabular.persistence.artifact import _serialize

    clinic[0].with_columns(pl.col("age") + 30, lactate=pl.col("lactate") * 1000).write_parquet(place / "moved.parquet")
    output = nearward("score", "model", "moved.parquet", "--out", "moved", "--workers", 1, cwd=place).stdout
    summary = json.loads((place / "moved" / "summary.json").read_text())
    moved = {one["column"] for one in summary["drift"]["columns"] if one["moved"]}
    assert moved == {"age", "lactate"}
    assert f"{len(moved)} of 5 columns moved" in output
    assert summary["unit_slips"]["lactate"] > 500
    assert "age" in nearward("watch", "moved", cwd=place).stdout
    shutil.copytree(place / "model", place / "old")
    manifest = json.loads((place / "old" / "manifest.json").read_text())
    del manifest["sha256"], manifest["bins"]
    (place / "old" / "manifest.json").write_bytes(_serialize(manifest))
    output = nearward("score", "old", "moved.parquet", "--out", "unknown", "--workers", 1, cwd=place).stdout
    assert "no drift: the model was saved without training bins" in output


def test_arguments_that_do_not_go_together_are_refused(nearward, place) -> None:
    assert "is one file" in nearward("score", "model", "archive", "--out", "x.parquet", cwd=place, code=2).stderr
    assert "not a size" in nearward("score", "model", "archive", "--out", "x", "--max-memory", "much", cwd=place, code=2).stderr
    assert "plain or meds" in nearward("score", "model", "archive", "--out", "x", "--format", "omop", cwd=place, code=2).stderr
    for option in ("--threshold", "--workers", "--shard-rows"):  # 0 is a value too
        assert "is one file" in nearward("score", "model", "archive/0.parquet", "--out", "x.csv", option, 0, cwd=place, code=2).stderr
    nearward("score", "archive", "archive", "--out", "x", cwd=place, code=3)
    assert not (place / "x").exists()
