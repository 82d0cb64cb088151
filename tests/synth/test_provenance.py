"""Stamps: written and read alike, bound to the table by its hash, and refused where missing, edited or of a later format."""

from __future__ import annotations

import csv
import json
import os

import polars as pl
import pytest

from nearward.synth.provenance import read_stamp, sidecar_path, table_hash, verify, write_stamped
from nearward.tabular.errors import InputError, NoStamp, StaleAudit

TABLE = pl.DataFrame({"age": [61, None, 70], "word": ["x", "", "é"], "lab": [0.1, None, 1e300], "flag": [True, None, False]})


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_stamp_read_is_the_stamp_written(tmp_path, name):
    written = write_stamped(TABLE, tmp_path / name, {"rows": 3, "why": "é"})
    assert verify(tmp_path / name) == read_stamp(tmp_path / name) == written
    assert written["rows"] == 3
    assert written["why"] == "é"
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    if name.endswith("parquet"):
        assert pl.read_parquet(tmp_path / name).equals(TABLE)


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_same_table_gives_the_same_bytes(tmp_path, name):
    write_stamped(TABLE, tmp_path / name, {"rows": 3})
    first = (tmp_path / name).read_bytes()
    write_stamped(TABLE, tmp_path / name, {"rows": 3})
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("changed", [TABLE[::-1], TABLE.with_columns(age=pl.Series([61, 0, 70])), TABLE.rename({"age": "Age"})])
def test_another_table_under_an_old_stamp_is_stale(tmp_path, changed):
    csv, parquet = tmp_path / "table.csv", tmp_path / "table.parquet"
    write_stamped(TABLE, csv, {})
    changed.write_csv(csv)
    write_stamped(TABLE, parquet, {})
    changed.write_parquet(parquet, metadata={"nearward": pl.read_parquet_metadata(parquet)["nearward"]})
    for path in (csv, parquet):
        with pytest.raises(StaleAudit, match="not the table that was audited"):
            verify(path)


def test_the_hash_differs_for_missing_and_empty_values_and_for_dtypes():
    hashes = {table_hash(pl.DataFrame({"a": values})) for values in (["", "x"], [None, "x"], ["x", ""], ["\0", "x"])}
    assert len(hashes) == 4
    assert table_hash(TABLE) != table_hash(TABLE.with_columns(pl.col("age").cast(pl.Float64)))
    assert table_hash(TABLE) == table_hash(pl.concat([TABLE[:1], TABLE[1:]], rechunk=False))


def test_no_text_of_a_csv_runs_in_a_spreadsheet_and_numbers_stay_numbers(tmp_path):
    runs = ["=1+1", '=HYPERLINK("x")', "+49 170", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1"]
    harmless = ["-5", "+1.5", "plain", "", "a=b", "'quoted'", None, "1-2"]
    ward = pl.Series(["@x"] * 16, dtype=pl.Categorical)
    table = pl.DataFrame({"note": runs + harmless, "change": [-1.5] * 16, "=cmd": [1] * 16, "ward": ward})
    stamp = write_stamped(table, tmp_path / "table.csv", {})
    assert stamp["text_with_apostrophe"] == ["note", "ward", "=cmd"]
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        header, *records = csv.reader(file)
    assert header == ["note", "change", "'=cmd", "ward"]
    notes = [record[0] for record in records]
    assert notes == ["'" + text for text in runs] + [text or "" for text in harmless]
    assert {record[1] for record in records} == {"-1.5"}
    undone = pl.Series(notes).str.replace(r"^'('*[=+\-@\t\r\n])", "${1}")
    assert undone.to_list() == [text or "" for text in runs + harmless]
    verify(tmp_path / "table.csv")


def test_parquet_keeps_text_as_it_is(tmp_path):
    table = pl.DataFrame({"note": ["=1+1"]})
    write_stamped(table, tmp_path / "table.parquet", {})
    assert pl.read_parquet(tmp_path / "table.parquet").equals(table)


def test_missing_edited_and_later_stamps_are_errors(tmp_path):
    path = tmp_path / "table.csv"
    TABLE.write_csv(path)
    with pytest.raises(NoStamp, match="no stamp"):
        verify(path)
    TABLE.write_parquet(tmp_path / "table.parquet")
    with pytest.raises(NoStamp, match="no stamp"):
        verify(tmp_path / "table.parquet")
    write_stamped(TABLE, path, {"passed": False})
    body = json.loads(sidecar_path(path).read_text())
    for edit, message in (
        ({"passed": True}, "edited"),
        ({"nearward_synthetic": 99}, "later"),
        ({"nearward_synthetic": "x"}, "not nearward's"),
    ):
        sidecar_path(path).write_text(json.dumps({**body, **edit}))
        with pytest.raises(NoStamp, match=message):
            read_stamp(path)
    sidecar_path(path).write_text("{")
    with pytest.raises(NoStamp, match="cannot be read"):
        read_stamp(path)


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write_stamped(TABLE, path, {"rows": 3})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_stamped(TABLE[:1], path, {"rows": 1})
    monkeypatch.undo()
    assert verify(path)["rows"] == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, *([sidecar_path(path).name] if name.endswith("csv") else [])])


def test_other_endings_and_missing_folders_are_errors(tmp_path):
    with pytest.raises(InputError, match="must be a"):
        write_stamped(TABLE, tmp_path / "table.xlsx", {})
    with pytest.raises(InputError, match="no such folder"):
        write_stamped(TABLE, tmp_path / "nowhere" / "table.csv", {})


@pytest.mark.parametrize(
    "stamp",
    ["[" * 100_000, '{"nearward_synthetic": NaN}', '{"nearward_synthetic": 1, "x": 1e999}', '{"nearward_synthetic": "1"}', "7"]
    + [f'{{"nearward_synthetic": {version}}}' for version in ("-7", "0", "2.5", "true")],
)
def test_a_hostile_stamp_is_no_stamp(tmp_path, stamp):
    csv, parquet = tmp_path / "table.csv", tmp_path / "table.parquet"
    TABLE.write_csv(csv)
    sidecar_path(csv).write_text(stamp)
    TABLE.write_parquet(parquet, metadata={"nearward": stamp})
    for path in (csv, parquet):
        with pytest.raises(NoStamp):
            read_stamp(path)


def test_the_stamp_of_a_file_named_like_a_pattern_is_its_own(tmp_path):
    write_stamped(pl.DataFrame({"x": [1]}), tmp_path / "p1.parquet", {"rows": 1})
    write_stamped(pl.DataFrame({"x": [2, 3]}), tmp_path / "p[1].parquet", {"rows": 2})
    assert verify(tmp_path / "p[1].parquet")["rows"] == 2
