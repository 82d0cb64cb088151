from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nearward.tabular.data.parquet_files import find_parquet_files, read_rows
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import InputError


def write(path: Path, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, x=[1]) for name in ("b.parquet", "a/z.parquet", "_log/c.parquet", ".d.parquet")]
    assert [file.path for file in find_parquet_files(tmp_path)] == [paths[1], paths[0]]


def test_files_that_differ_are_named_with_the_column(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", age=[1], crp=[1.0])
    write(tmp_path / "b.parquet", age=[1], lactate=[1.0])
    with pytest.raises(InputError, match=r"b\.parquet lacks 'crp' and also has 'lactate', unlike .*a\.parquet"):
        read_table(tmp_path)
    write(tmp_path / "b.parquet", age=["sixty-one"], crp=[2])
    with pytest.raises(InputError, match=r"column 'age' has dtype String in .*b\.parquet and Int64 in .*a\.parquet") as error:
        read_table(tmp_path)
    assert "sixty-one" not in str(error.value)


def test_a_range_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", x=[1, 2, 3], y=[4, 5, 6])
    assert read_rows(path, ["y"], 1, 2)["y"].to_list() == [5, 6]
    with pytest.raises(InputError, match="fewer rows"):
        read_rows(path, ["x"], 2, 2)
