"""Data files: their blocks' hashes, tables read where they lie, saves that fail or were killed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence import artifact, hashed_files
from nearward.tabular.persistence.artifact import MANIFEST, read_model, write_model
from nearward.tabular.persistence.hashed_files import DataFiles, open_checked, read_checked

RECORDS = pl.DataFrame({"age": np.random.default_rng(0).normal(size=200), "id": [f"p{i}" for i in range(200)]})


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_files, "BLOCK", 256)
    monkeypatch.setattr(hashed_files, "LARGE", 512)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_of_one_block_has_that_blocks_hash_and_an_empty_one_has_none(tmp_path: Path) -> None:
    files = DataFiles(tmp_path)
    name = files.write("array.bin", lambda path: path.write_bytes(b"a" * 256))
    empty = files.write("array.bin", lambda path: path.write_bytes(b""))
    digest = hashlib.sha256(b"a" * 256).hexdigest()
    assert name == f"array-{digest[:16]}.bin"
    assert files.entries == {name: {"size": 256, "sha256": [digest]}, empty: {"size": 0, "sha256": []}}
    assert read_checked(tmp_path / empty, files.entries[empty]) == b""


def test_files_that_differ_in_one_block_have_different_names(tmp_path: Path) -> None:
    files = DataFiles(tmp_path)
    names = {files.write("array.bin", lambda path, i=i: path.write_bytes(bytes([0] * 512 + [i] * 9))) for i in range(3)}
    assert len(names) == 3
    for name in names:
        assert read_checked(tmp_path / name, files.entries[name]) == (tmp_path / name).read_bytes()
        with open_checked(tmp_path / name, files.entries[name]) as file:
            assert file.read() == (tmp_path / name).read_bytes()


def test_large_records_are_read_where_they_lie_and_a_corrupt_block_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    (path,) = tmp_path.glob("records-*.parquet")
    assert path.stat().st_size > 1024
    assert read_model(tmp_path).records.equals(RECORDS)
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"sha256 differs in block 3 of \d+"):
        read_model(tmp_path)


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_disk_that_is_full_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    write_model(tmp_path, {}, {"w": np.arange(300.0)}, RECORDS)
    before, calls, fsync = contents(tmp_path), 0, os.fsync

    def failing(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OSError, match="No space"):
        write_model(tmp_path, {"rows": 3}, {"w": np.arange(300.0) + 1}, RECORDS.head(5))
    assert contents(tmp_path) == before


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    left = [tmp_path / f".array.bin.{os.uname().nodename}.999999999.0123abcd.part", tmp_path / "array-0123456789abcdef.bin"]
    for path in left:
        path.write_bytes(b"x")
    write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    assert not any(path.exists() for path in left)


def test_windows_leaves_a_file_that_is_mapped_to_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, {}, {"w": np.arange(300.0)}, RECORDS)
    (mapped,) = tmp_path.glob("array-*.bin")
    unlink = Path.unlink

    def refusing(path: Path, missing_ok: bool = False) -> None:
        if path == mapped:
            raise PermissionError(13, "in use")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    with pytest.raises(PermissionError):
        write_model(tmp_path, {}, {"w": np.arange(300.0) + 1}, RECORDS)
    monkeypatch.setattr(hashed_files, "WINDOWS", True)
    write_model(tmp_path, {}, {"w": np.arange(300.0) + 2}, RECORDS)
    assert mapped.exists()
    np.testing.assert_array_equal(read_model(tmp_path).tensors["w"], np.arange(300.0) + 2)
    monkeypatch.undo()
    write_model(tmp_path, {}, {"w": np.zeros(1)}, RECORDS)
    assert not mapped.exists()


@pytest.mark.parametrize("hashes", [None, "0" * 64, ["0" * 64] * 2, ["0" * 63], [3], []])
def test_a_manifest_needs_a_hash_of_each_block(tmp_path: Path, hashes: object) -> None:
    write_model(tmp_path, {}, {"w": np.zeros(1)}, pl.DataFrame({"x": [1]}))
    body = json.loads((tmp_path / MANIFEST).read_text())
    name = next(name for name in body["files"] if name.startswith("tensors"))
    assert len(body["files"][name]["sha256"]) == 1
    body["files"][name]["sha256"] = hashes
    (tmp_path / MANIFEST).write_bytes(artifact._serialize({key: value for key, value in body.items() if key != "sha256"}))
    with pytest.raises(ArtifactError, match="no hash or size of tensors"):
        read_model(tmp_path)
