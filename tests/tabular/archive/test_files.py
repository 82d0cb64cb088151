from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nearward.tabular.archive.files import open_archive
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import InputError


def write(path: Path, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return path


def read_all(source, rows: int = 2) -> pl.DataFrame:
    return pl.concat([frame for _, frame in open_archive(source).read_blocks(rows)])


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    for ward, year in (("surgical", 2021), ("ICU", 2020), ("ICU", 2021)):
        write(tmp_path / "hive" / f"ward={ward}" / f"year={year}" / "part.parquet", age=[year, 61, None], sex=["f", None, "m"])
    return tmp_path / "hive"


def test_blocks_are_the_table_that_read_table_reads(hive: Path) -> None:
    table = read_table(hive)
    assert table.schema["year"] == pl.Int64
    for rows in (1, 2, 100):
        assert read_all(hive, rows).equals(table)


def test_a_folder_a_pattern_and_a_list_in_any_order_are_one_table(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.parquet", x=[name]) for name in "cab"]
    assert read_all(tmp_path).equals(read_all(tmp_path / "*.parquet"))
    assert read_all(paths)["x"].to_list() == read_all([*paths, paths[0]])["x"].to_list() == ["a", "b", "c"]


def test_dtypes_of_all_files_are_combined_and_a_clash_names_file_and_column(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=[1], y=[None])
    write(tmp_path / "b.parquet", y=["no"], x=[1.5])
    assert read_all(tmp_path).to_dict(as_series=False) == {"x": [1.0, 1.5], "y": [None, "no"]}
    write(tmp_path / "c.parquet", x=["two"], y=["no"])
    with pytest.raises(InputError, match=r"column 'x' has dtype String in .*c\.parquet and .* in .*a\.parquet"):
        open_archive(tmp_path)


def test_a_lazy_frame_is_written_to_the_work_folder(tmp_path: Path) -> None:
    frame = pl.LazyFrame({"x": range(10)}).filter(pl.col("x") > 3)
    archive = open_archive(frame, tmp_path)
    assert pl.concat([block for _, block in archive.read_blocks(4)])["x"].to_list() == list(range(4, 10))
    assert open_archive(frame, tmp_path).fingerprint() == archive.fingerprint()
    assert open_archive(frame.head(3), tmp_path).fingerprint() != archive.fingerprint()


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", x=[1, 2, 3])
    archive = open_archive(tmp_path)
    write(path, x=[1, 2, 4, 5])
    assert open_archive(tmp_path).fingerprint() != archive.fingerprint()
    with pytest.raises(InputError, match=r"a\.parquet: the table has changed"):
        archive.read(archive.blocks(2)[0])
    path.unlink()
    with pytest.raises(InputError, match=r"a\.parquet: .*no such file"):
        archive.read(archive.blocks(2)[0])


@pytest.mark.parametrize(
    ("name", "content", "words"), [("a.csv", "x\n1\n", "must be Parquet"), ("a.parquet", "PAR1", "truncated or damaged")]
)
def test_what_is_no_parquet_is_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        open_archive(tmp_path / name)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=[])
    with pytest.raises(InputError, match="0 rows"):
        open_archive(tmp_path)
