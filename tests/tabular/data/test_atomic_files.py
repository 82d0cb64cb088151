"""Atomic writes: private, complete or absent, and cleaned up after dead processes."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from nearward.tabular.data.atomic_files import create_atomic, remove_abandoned, replacing, write_atomic
from nearward.tabular.errors import InputError


def test_files_are_private_while_they_are_being_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "t.parquet") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        assert temporary.parent == tmp_path


def test_a_block_that_fails_after_writing_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"before")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_half_way()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["model.bin"]


def test_a_write_is_complete_and_private_and_only_the_first_create_succeeds(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert create_atomic(tmp_path / "b", b"mine")
    assert not create_atomic(tmp_path / "b", b"late")
    assert (tmp_path / "b").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_temporary_files_of_dead_processes_are_removed_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    host = "".join(c if c.isalnum() or c in "_-" else "-" for c in socket.gethostname())
    writers = (f"{host}.99999999", f"{host}.{os.getpid()}", "elsewhere.1")
    dead, running, other_host = (tmp_path / f".x.{writer}.deadbeef.part" for writer in writers)
    for path in (dead, running, other_host, tmp_path / "part-00000-000000.parquet"):
        path.write_bytes(b"?")
    assert remove_abandoned(tmp_path) == 1
    assert not dead.exists()
    assert running.exists()
    assert other_host.exists()
    os.utime(other_host, (0, 0))
    assert remove_abandoned(tmp_path) == 1


def test_a_long_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"), replacing(tmp_path / "missing" / "t.csv"):
        pass
