"""What differs between systems: each fallback is forced here, and what is promised holds with it."""

from __future__ import annotations

import builtins
import errno
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.tabular import operating_system
from nearward.tabular.data.atomic_files import create_atomic, remove_abandoned, write_atomic
from nearward.tabular.persistence.artifact import read_model, write_model

_PRINT_PEAK = "from nearward.tabular.operating_system import peak_memory; print(peak_memory())"


def failing(code: int) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


@pytest.fixture
def windows(monkeypatch) -> None:
    """Windows' rules: no folder can be opened, no read-only file be flushed, no signal be sent, and a rename replaces nothing."""
    real_open, real_fsync, modes = os.open, os.fsync, {}

    def open_file(path: Any, flags: int, *more: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "is a folder")
        descriptor = real_open(path, flags, *more)
        modes[descriptor] = flags
        return descriptor

    def fsync(descriptor: int) -> None:
        if not modes[descriptor] & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EBADF, "read only")
        real_fsync(descriptor)

    def rename(source: Any, target: Any) -> None:
        os.link(source, target)  # as rename does there: an error where the target exists
        os.unlink(source)

    monkeypatch.setattr(operating_system, "WINDOWS", True)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "kill", failing(errno.EINVAL))


def check_promises(folder: Path) -> None:
    """A file is replaced whole, and created by exactly one of many callers."""
    write_atomic(folder / "a", b"one")
    write_atomic(folder / "a", b"two")
    assert (folder / "a").read_bytes() == b"two"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: create_atomic(folder / "b", b"%d" % i), range(24)))
    assert sum(created) == 1
    assert (folder / "b").read_bytes() == b"%d" % created.index(True)
    write_model(folder / "m", {}, {"w": np.arange(3.0)}, pl.DataFrame({"x": [1]}))
    write_model(folder / "m", {}, {"w": np.arange(4.0)}, pl.DataFrame({"x": [2]}))
    assert read_model(folder / "m").records["x"].to_list() == [2]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "m"]


def test_here(tmp_path) -> None:
    check_promises(tmp_path)


@pytest.mark.usefixtures("windows")
def test_windows(tmp_path) -> None:
    check_promises(tmp_path)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_hard_links(tmp_path, monkeypatch, code) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    check_promises(tmp_path)


def test_a_lock_of_a_dead_process_is_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOTSUP))
    lock = tmp_path / ".b.lock.part"
    lock.mkdir()
    os.utime(lock, (0, 0))
    assert create_atomic(tmp_path / "b", b"x")
    assert not lock.exists()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_share_that_flushes_nothing(tmp_path, monkeypatch, code) -> None:
    monkeypatch.setattr(os, "fsync", failing(code))
    check_promises(tmp_path)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch, code) -> None:
    write_atomic(tmp_path / "a", b"one")
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_file_that_another_program_holds_open_is_retried_on_windows(tmp_path, monkeypatch) -> None:
    real, attempts = os.replace, []

    def held(source: Any, target: Any) -> None:
        attempts.append(target)
        if len(attempts) < 4:
            raise PermissionError(errno.EACCES, "in use")
        real(source, target)

    (tmp_path / "new").write_bytes(b"new")
    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(PermissionError):  # elsewhere it means what it says
        operating_system.replace_file(tmp_path / "new", tmp_path / "old")
    monkeypatch.setattr(operating_system, "WINDOWS", True)
    operating_system.replace_file(tmp_path / "new", tmp_path / "old")
    assert len(attempts) == 4
    assert (tmp_path / "old").read_bytes() == b"new"
    monkeypatch.setattr(operating_system, "_PATIENCE", 0.0)
    monkeypatch.setattr(os, "replace", failing(errno.EACCES))
    with pytest.raises(PermissionError):
        operating_system.replace_file(tmp_path / "old", tmp_path / "new")


@pytest.mark.usefixtures("windows")
def test_where_processes_are_not_known_only_old_temporary_files_are_removed(tmp_path) -> None:
    from nearward.tabular.data import atomic_files

    with atomic_files.temporary_file(tmp_path / "x") as ours:
        abandoned = ours.with_name(ours.name.replace(str(os.getpid()), "99999999"))
        abandoned.write_bytes(b"")
        assert operating_system.is_running(os.getpid()) is None
        assert remove_abandoned(tmp_path) == 0
        os.utime(abandoned, (0, 0))
        assert remove_abandoned(tmp_path) == 1
        assert ours.exists()


def test_processes_are_known_here() -> None:
    assert operating_system.is_running(os.getpid()) is True
    assert operating_system.is_running(99999999) is False


def test_memory_is_not_a_number_where_no_system_tells(monkeypatch) -> None:
    real = builtins.__import__

    def without_resource(name: str, *more: Any) -> Any:
        if name == "resource":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(builtins, "__import__", without_resource)
    monkeypatch.delattr(os, "sysconf")
    assert np.isnan(operating_system.peak_memory())
    assert np.isinf(operating_system.machine_memory())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report the peak of the process, whatever program it runs")
def test_the_peak_of_a_small_program_is_not_that_of_its_large_parent() -> None:
    large = b"\1" * 600_000_000  # every page touched: the parent is large when the child starts
    done = subprocess.run([sys.executable, "-c", _PRINT_PEAK], capture_output=True, text=True, check=True)
    assert len(large) == 600_000_000
    assert 10e6 < float(done.stdout) < 400e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and glibc alone keeps freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    held = [b"x" * (60_000 + i % 7) for i in range(2_000)]  # too small for pages of their own
    full = resident()
    del held[:-1]  # the last one is above the others
    operating_system.release_memory()
    assert resident() < full - 60e6
