"""The work folder of a fit, ``<out>.partial/``: what is finished of it, so that a fit that was killed goes on where it stopped.

A plan says which files and which options the finished parts belong to. Parts are named after the hash of their content and checked when
they are read: a part that is damaged is made again. One process works in the folder at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy

from nearward.tabular.data.atomic_files import create_atomic, remove_abandoned, write_atomic
from nearward.tabular.data.limited_reading import read_at_most
from nearward.tabular.data.table_io import write_errors
from nearward.tabular.errors import InputError
from nearward.tabular.operating_system import is_running
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.typing import Arrays

PLAN = "plan.json"
_OWNER = "process.json"


class WorkFolder:
    """A claimed work folder; a context manager, which releases it.

    Parameters
    ----------
    out : path of the model's folder

    Raises
    ------
    InputError
        The folder holds something else, or another process works in it.
    OSError
        The folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.parent / f"{out.name}.partial"
        if self.path.exists() and (not self.path.is_dir() or (any(self.path.iterdir()) and not self._is_ours())):
            raise InputError(f"{self.path} holds something else than an unfinished fit: move it, or choose another --out")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_abandoned(self.path)
        self._claim()

    def _is_ours(self) -> bool:
        return any((self.path / name).is_file() for name in (PLAN, _OWNER))

    def _claim(self) -> None:
        owner = self.path / _OWNER
        content = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        if create_atomic(owner, content):
            return
        try:
            other = json.loads(read_at_most(owner))
            host, pid = str(other["host"]), int(other["pid"])
        except (OSError, ValueError, LookupError, TypeError):
            host, pid = socket.gethostname(), 0
        if host != socket.gethostname() or (pid not in (0, os.getpid()) and is_running(pid) is not False):
            raise InputError(f"another fit writes into {self.path} (process {pid} on {host}): wait for it, or remove {owner} if it is gone")
        write_atomic(owner, content)

    def begin(self, plan: dict[str, Any]) -> bool:
        """Return whether finished parts of this very plan are there; parts of another plan are removed."""
        path = self.path / PLAN
        content = json.dumps(plan, sort_keys=True).encode()
        try:
            same = read_at_most(path) == content
        except OSError:
            same = False
        if not same:
            for old in self.path.glob("part-*"):
                old.unlink()
            write_atomic(path, content)
        return same and any(self.path.glob("part-*"))

    @property
    def has_plan(self) -> bool:
        """Whether the folder holds the plan of an earlier fit."""
        return (self.path / PLAN).is_file()

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, *_: object) -> None:
        (self.path / _OWNER).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.path)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def part(self, name: str) -> Path | None:
        """Return the file of a finished part, its content checked; None where there is none."""
        for path in sorted(self.path.glob(f"part-{name}-*")):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest()[:16] == path.stem.rpartition("-")[2]:
                    return path
            path.unlink()
        return None

    def save_part(self, name: str, suffix: str, write: Callable[[Path], object]) -> Path:
        """Write a part to a file, and return it.

        Raises
        ------
        OSError
            The disk is full; the part does not exist then.
        """
        temporary = self.path / f"unfinished{suffix}"
        with write_errors(temporary):
            write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        path = self.path / f"part-{name}-{digest}{suffix}"
        os.replace(temporary, path)
        return path

    def remembered(self, name: str, types: tuple[type, ...], compute: Callable[[], Any]) -> Any:
        """Return a finished part's value, or compute and save it: arrays, numbers and dataclasses of these types, in tuples and dicts.

        Either way the value is the one that was saved: a fit that goes on gives what an uninterrupted one gives.
        """
        path = self.part(name)
        if path is None:
            arrays: Arrays = {}
            packed = pack(compute(), arrays)
            about = {"packed": json.dumps(packed)}
            path = self.save_part(name, ".safetensors", lambda target: safetensors.numpy.save_file(arrays, target, about))
        with safetensors.safe_open(path, "numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return unpack(json.loads(file.metadata()["packed"]), arrays, types)
