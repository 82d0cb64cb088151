"""Data files of a model folder: named by their content, hashed in blocks of 16 MiB, so that a corrupt block is named.

A file is written and checked block by block. Files above ``LARGE`` bytes are never in memory as a whole: an array is mapped, a table is
read by Polars where it lies. The check comes before the first use, and reads each byte once (about 0.9 GB/s).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nearward.tabular.data.atomic_files import temporary_file
from nearward.tabular.data.table_io import write_errors
from nearward.tabular.errors import ArtifactError
from nearward.tabular.operating_system import WINDOWS, flush_file, replace_file
from nearward.tabular.persistence.memory_limit import check_memory

BLOCK = 16 * 2**20  # bytes
LARGE = 32 * 2**20  # bytes
_DATA_FILE = re.compile(r"(tensors-[0-9a-f]{16}\.safetensors|(records|timelines)-[0-9a-f]{16}\.parquet|array-[0-9a-f]{16}\.bin)")
_HASH = re.compile(r"[0-9a-f]{64}")
_ADVICE = "restore the model from a copy, or fit it again"


def is_data_file(name: str) -> bool:
    """Return whether a file of this name in a model's folder is one of its data files."""
    return _DATA_FILE.fullmatch(name) is not None


class DataFiles:
    """The data files that one save writes; ``entries`` is their part of the manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}
        self._new: list[Path] = []

    def write(self, base: str, write: Callable[[Path], object]) -> str:
        """Let ``write`` fill a temporary file, give it its content's name, and return that: "array.bin" becomes "array-<16 hex>.bin".

        A file of that name and content stays as it is: this process or another may have mapped it.

        Raises
        ------
        OSError
            The disk is full.
        """
        with temporary_file(self.folder / base) as temporary:
            with write_errors(temporary):
                write(temporary)
            flush_file(temporary)
            with open(temporary, "rb") as file:
                hashes = [_sha256(block) for block in _blocks(file)]
            entry = {"size": temporary.stat().st_size, "sha256": hashes}
            digest = hashes[0] if len(hashes) == 1 else _sha256("".join(hashes).encode())
            name = base.replace(".", f"-{digest[:16]}.", 1)
            target = self.folder / name
            if not target.exists():
                self._new.append(target)
            if not _is_intact(target, entry):
                replace_file(temporary, target)
        self.entries[name] = entry
        return name

    def discard(self) -> None:
        """Remove what was written: the save has failed, and no manifest names it."""
        for path in self._new:
            path.unlink(missing_ok=True)

    def remove_stale(self) -> None:
        """Remove the data files of earlier saves. Who has mapped one keeps it; Windows leaves such a file to the next save."""
        for path in self.folder.iterdir():
            if is_data_file(path.name) and path.name not in self.entries:
                try:
                    path.unlink()
                except PermissionError:
                    if not WINDOWS:
                        raise


def check_entries(path: Path, files: Any) -> None:
    """Check the names, sizes and hashes of data files in the manifest ``path``.

    Raises
    ------
    ArtifactError
        No mapping, a name that is not a data file's, or an entry without a size or without a hash of each block.
    """
    if not isinstance(files, dict):
        raise ArtifactError(f"{path} names no files: {_ADVICE}")
    unknown = [name for name in files if not is_data_file(name)]
    if unknown:
        raise ArtifactError(f"{path} names {len(unknown)} files that are not a model's, or outside its folder")
    for name, entry in files.items():
        fields = entry if isinstance(entry, dict) else {}
        size, hashes = fields.get("size"), fields.get("sha256")
        valid = type(size) is int and size >= 0 and isinstance(hashes, list) and len(hashes) == -(-size // BLOCK)
        if not valid or not all(isinstance(one, str) and _HASH.fullmatch(one) for one in hashes):  # type: ignore[union-attr]
            raise ArtifactError(f"{path} has no hash or size of {name}: {_ADVICE}")


@contextmanager
def open_checked(path: Path, entry: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """Yield a data file, open for reading, after a check of all its blocks.

    Raises
    ------
    ArtifactError
        The file is missing, a link, of another size, or a block's hash differs.
    """
    with _open_plain(path, entry) as file:
        for number, block in enumerate(_blocks(file)):
            _check_block(path, entry, number, block)
        file.seek(0)
        yield file


def read_checked(path: Path, entry: Mapping[str, Any]) -> bytes:
    """Return the content of a data file, checked as ``open_checked`` does; one beyond this machine's memory is refused before."""
    check_memory(path, entry["size"])
    with _open_plain(path, entry) as file:
        content = file.read(entry["size"])
    view = memoryview(content)
    for number in range(len(entry["sha256"])):
        _check_block(path, entry, number, view[number * BLOCK : (number + 1) * BLOCK])
    return content


@contextmanager
def _open_plain(path: Path, entry: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """Yield a file of the entry's size, open for reading."""
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path}: missing, or not a plain file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["size"]:
            relation = "larger" if size > entry["size"] else "smaller"
            raise ArtifactError(f"{path} is corrupt ({relation} than {entry['size']} bytes): {_ADVICE}")
        yield file


def _check_block(path: Path, entry: Mapping[str, Any], number: int, block: bytes | memoryview) -> None:
    hashes = entry["sha256"]
    if number >= len(hashes) or _sha256(block) != hashes[number]:
        raise ArtifactError(f"{path} is corrupt (its sha256 differs in block {number + 1} of {len(hashes)}): {_ADVICE}")


def _is_intact(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        with open_checked(path, entry):
            return True
    except (ArtifactError, OSError):
        return False


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
