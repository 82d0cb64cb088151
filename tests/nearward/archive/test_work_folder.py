from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.archive.work_folder import WorkFolder
from nearward.tabular.errors import InputError


@dataclass(frozen=True)
class Learned:
    weights: np.ndarray
    names: tuple[str, ...]


def learn() -> Learned:
    return Learned(np.arange(3) / 7, ("a", "b"))


def never() -> Learned:
    raise AssertionError("computed again")


def test_a_finished_part_is_read_not_computed_again(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "model") as work:
        assert not work.begin({"files": "x"})
        first = work.remembered("learned", (Learned,), learn)
    with WorkFolder(tmp_path / "model") as work:
        assert work.begin({"files": "x"})
        again = work.remembered("learned", (Learned,), never)
    assert (again.weights == first.weights).all()
    assert again.names == first.names == ("a", "b")
    assert (again.weights == learn().weights).all()


def test_another_plan_begins_anew(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "model") as work:
        work.begin({"files": "x"})
        work.remembered("learned", (Learned,), learn)
        assert work.has_plan
        assert not work.begin({"files": "y"})
        assert work.part("learned") is None


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "model") as work:
        work.begin({})
        work.remembered("learned", (Learned,), learn)
        path = work.part("learned")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert (work.remembered("learned", (Learned,), learn).weights == learn().weights).all()


def test_a_part_that_does_not_fit_the_disk_does_not_exist(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with WorkFolder(tmp_path / "model") as work:
        with pytest.raises(OSError, match="No space"):
            work.save_part("block-0", ".arrow", full)
        assert work.part("block-0") is None
        work.save_part("block-0", ".arrow", lambda path: path.write_bytes(b"whole"))
        assert work.part("block-0").read_bytes() == b"whole"


@pytest.mark.parametrize("kind", ["checkpoint", "table"])
def test_a_disk_that_is_full_while_a_part_is_written_is_an_error_of_the_system(kind: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    numbers = np.random.default_rng(0).normal(size=4000)

    def save(work: WorkFolder) -> object:
        if kind == "checkpoint":
            return work.remembered("numbers", (), lambda: {"a": numbers})
        return work.save_part("numbers", ".parquet", pl.DataFrame({"a": numbers}).write_parquet)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with WorkFolder(tmp_path / "model") as work:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                save(work)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == 27
        assert work.part("numbers") is None
        save(work)
        assert work.part("numbers").stat().st_size > 30_000


def test_a_folder_of_another_kind_and_a_running_fit_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model.partial"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        WorkFolder(tmp_path / "model")
    (folder / "thesis.txt").unlink()
    owner = folder / "process.json"
    owner.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid()}))
    with pytest.raises(InputError, match=f"another fit writes into .*process {os.getppid()}"):
        WorkFolder(tmp_path / "model")
    owner.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))  # it was killed
    with WorkFolder(tmp_path / "model") as work:
        work.remove()
    assert not folder.exists()
