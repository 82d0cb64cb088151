from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.tabular.archive import row_keys
from nearward.tabular.archive.files import Archive, open_archive
from nearward.tabular.archive.row_keys import distinct_values, read_row_keys
from nearward.tabular.data.validation import validate_groups, validate_target
from nearward.tabular.errors import DataWarning, InputError


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_keys, "KEY_BLOCK", 7)


def archive_of(folder: Path, *frames: pl.DataFrame) -> Archive:
    for i, frame in enumerate(frames):
        frame.write_parquet(folder / f"{i}.parquet")
    return open_archive(folder)


@pytest.fixture
def table() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    patient, site = rng.integers(0, 20, 60), rng.choice(["north", "south"], 60)
    died = (rng.random(60) < 0.3).astype(int)
    return pl.DataFrame({"stay": range(60), "patient": patient, "site": site.tolist(), "died": died})


def test_keys_are_those_of_the_table_in_memory(tmp_path: Path, table: pl.DataFrame) -> None:
    keys = read_row_keys(archive_of(tmp_path, table[:25], table[25:]), "died", group="patient", id="stay", site="site")
    target = validate_target(table["died"])
    assert (keys.target.outcome == target.outcome).all()
    assert (keys.target.classes == target.classes).all()
    assert keys.target.event == target.event == 1
    assert (keys.patient_ids == validate_groups(table["patient"], 60)).all()  # patients across files are one
    assert ((keys.site == keys.site[0]) == (table["site"] == table["site"][0]).to_numpy()).all()
    assert set(keys.site.tolist()) == {1, 2}


def test_text_of_patients_and_outcomes(tmp_path: Path, table: pl.DataFrame) -> None:
    words = table.with_columns(pl.format("P{}", "patient").alias("patient"), died=pl.col("died").replace_strict({0: "no", 1: "yes"}))
    keys = read_row_keys(archive_of(tmp_path, words[:25], words[25:]), "died", group="patient")
    assert keys.target.event == "yes"
    assert (keys.target.outcome == table["died"].to_numpy()).all()
    pairs = pl.DataFrame({"number": keys.patient_ids, "patient": words["patient"]})
    assert pairs.n_unique() == keys.patients == words["patient"].n_unique()
    named = read_row_keys(open_archive(tmp_path), "died", positive="no")
    assert (named.target.outcome == 1 - table["died"].to_numpy()).all()
    assert distinct_values(open_archive(tmp_path), "died").sort().to_list() == ["no", "yes"]


def test_missing_outcomes_are_counted_with_their_files(tmp_path: Path, table: pl.DataFrame) -> None:
    holes = table.with_columns(pl.when(pl.col("stay") >= 50).then(None).otherwise(pl.col("died")).alias("died"))
    with pytest.raises(InputError, match=r"'died' has 10 missing values .* in 60 rows, in 1 of 2 files, the first of them .*1\.parquet"):
        read_row_keys(archive_of(tmp_path, holes[:25], holes[25:]), "died")
    lost = table.with_columns(pl.when(pl.col("stay") < 3).then(None).otherwise(pl.col("patient")).alias("patient"))
    with pytest.raises(InputError, match=r"'patient' has 3 missing values .* an id of its own"):
        read_row_keys(archive_of(tmp_path, lost[:25], lost[25:]), "died", group="patient")


def test_events_in_one_file_are_warned_of(tmp_path: Path, table: pl.DataFrame) -> None:
    frames = table.sort("died").with_columns(stay=pl.int_range(60))
    events = int(table["died"].sum())
    with pytest.warns(DataWarning, match=r"all events are in 1 of 2 files \(.*1\.parquet\)"):
        keys = read_row_keys(archive_of(tmp_path, frames[: 60 - events], frames[60 - events :]), "died")
    assert keys.files_with_events == 1
    assert keys.target.events == events


def test_a_measurement_and_repeated_ids_are_refused(tmp_path: Path, table: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path, table.with_columns(lactate=pl.col("stay") / 7))
    with pytest.raises(InputError, match="different values, two are required"):
        read_row_keys(archive, "lactate")
    with pytest.raises(InputError, match="the id column 'patient' repeats"):
        read_row_keys(archive, "died", id="patient")
