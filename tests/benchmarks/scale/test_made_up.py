from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.scale.made_up import make_archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, 5000, seed=1, part_rows=2000, new_rows=500)
    return folder


def test_the_same_rows_and_seed_give_the_same_stays(archive: Path, tmp_path: Path) -> None:
    make_archive(tmp_path, 5000, seed=1, part_rows=2000, new_rows=500)
    for name in ("rows", "truth", "new", "new-truth"):
        assert pl.read_parquet(tmp_path / name).equals(pl.read_parquet(archive / name))


def test_a_patient_has_one_sex_and_hospital_in_all_files(archive: Path) -> None:
    rows = pl.read_parquet(archive / "rows")
    assert len(list((archive / "rows").iterdir())) == 3
    assert rows.width == 34  # stay, patient, hospital and outcome beside 30 features
    assert rows["stay"].n_unique() == 5000
    patients = rows.group_by("patient").agg(pl.len(), pl.col("sex", "hospital", "diabetes").n_unique())
    assert patients["len"].max() > 3
    assert patients.select("sex", "hospital", "diabetes").max().row(0) == (1, 1, 1)
    assert rows.join(pl.read_parquet(archive / "new"), on="patient", how="semi").height == 0


def test_outcomes_follow_the_true_risks(archive: Path) -> None:
    died, risk = pl.read_parquet(archive / "rows")["died"], pl.read_parquet(archive / "truth")["risk"]
    assert 0.01 < risk.mean() < 0.025
    assert abs(died.sum() - risk.sum()) < 4 * risk.sum() ** 0.5
    assert died.filter(risk > 0.2).mean() > 0.2
