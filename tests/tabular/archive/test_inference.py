from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.tabular.archive import inference
from nearward.tabular.archive.files import open_archive
from nearward.tabular.archive.inference import infer_schema, read_through, sample_rows
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError


def silent(message: str) -> None:
    pass


@pytest.fixture
def table() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    n = 400
    lactate = rng.exponential(2, n)
    lactate[::3] = np.nan
    return pl.DataFrame(
        {
            "age": rng.integers(18, 100, n),
            "lactate": pl.Series(lactate).fill_nan(None),
            "ward": rng.choice(["ICU", "medical", "surgical"], n, p=[0.02, 0.5, 0.48]).tolist(),
            "unit": rng.choice(["True", "false"], n).tolist(),
            "rare": [None] * 390 + [float(i) for i in range(10)],
            "empty": pl.Series([None] * n, dtype=pl.Float64),
            "day": ["2026-01-02"] * n,
        }
    )


@pytest.fixture
def folder(table: pl.DataFrame, tmp_path: Path) -> Path:
    for i, begin in enumerate((0, 150, 300)):
        table[begin : begin + 150].write_parquet(tmp_path / f"{i}.parquet")
    return tmp_path


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
def test_levels_and_ranges_are_those_of_all_rows(table: pl.DataFrame, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "SAMPLE_ROWS", 40)
    archive, patients = open_archive(folder), np.arange(400) // 2
    sampled = infer_schema(archive, patients)
    expected = Schema.infer(table, groups=pl.Series(patients))
    assert sampled["age"] != expected["age"]
    taught = np.arange(400) % 7 == 0
    completed, rows = read_through(archive, sampled, patients, taught, 64, silent)
    assert completed == expected
    assert rows.equals(table.select(rows.columns).filter(pl.Series(taught)))
    edited = Schema(tuple(c for c in sampled.columns if c.name == "age"))
    assert read_through(archive, edited, patients, taught, 64, silent, inferred=False)[0] == edited


def test_a_sample_is_spread_over_all_files(folder: Path, table: pl.DataFrame) -> None:
    frame, rows = sample_rows(open_archive(folder), 40)
    assert frame.equals(table[rows])
    assert 40 <= len(rows) < 60
    assert all(((rows >= begin) & (rows < begin + 150)).sum() >= 10 for begin in (0, 150, 300))


@pytest.mark.filterwarnings("ignore::nearward.tabular.errors.DataWarning")
def test_a_value_that_a_column_cannot_have_is_found_in_the_last_file(table: pl.DataFrame, folder: Path) -> None:
    archive, patients = open_archive(folder), np.arange(400)
    schema = infer_schema(archive, patients)
    table[300:].with_columns(lactate=pl.lit(float("inf"))).write_parquet(folder / "2.parquet")
    with pytest.raises(InputError, match=r"2\.parquet: column 'lactate' holds \d+ infinite"):
        read_through(open_archive(folder), schema, patients, patients < 0, 64, silent)
