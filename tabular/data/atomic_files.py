"""Atomic writes: a file holds either its old or all of its new content, also after a crash. Temporary file, fsync, rename.

A temporary file's name carries the host and the process id of its writer, so that ``remove_abandoned`` can tell the files of dead
processes from those that are still being written.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nearward.tabular.errors import InputError
from nearward.tabular.operating_system import create_from, flush_file, flush_folder, is_running, replace_file

_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9A-Za-z_-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part")
_STALE = 24 * 3600.0  # seconds after which a temporary file whose writer is not known to run counts as abandoned
_NAME_LENGTH = 40  # characters of the target's name that the temporary name repeats


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, readable by its owner only, that replaces ``path`` when the block succeeds.

    The content is on disk before the rename; the rename itself survives a power cut only after ``flush_folder``.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    with temporary_file(path) as temporary:
        yield temporary
        flush_file(temporary)
        replace_file(temporary, path)


def write_atomic(path: Path, content: bytes, check: Callable[[], None] | None = None) -> None:
    """Write ``content`` to ``path``, readable by its owner only, and flush the folder; the old file stays until the new one is complete.

    Parameters
    ----------
    path : Path
    content : bytes
    check : callable, optional
        Called right before the rename; if it raises, the old file stays.

    Raises
    ------
    OSError
        The disk is full, a quota is reached, or the folder is not writable; nothing has changed then.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(content)
        flush_file(temporary)
        if check is not None:
            check()
        replace_file(temporary, path)
    flush_folder(path.parent)


def create_atomic(path: Path, content: bytes) -> bool:
    """Write ``content`` to ``path`` unless the file exists; return whether it was created. Of concurrent callers exactly one succeeds."""
    with temporary_file(path) as temporary:
        temporary.write_bytes(content)
        flush_file(temporary)
        created = create_from(temporary, path)
    flush_folder(path.parent)
    return created


def remove_abandoned(folder: Path) -> int:
    """Remove the temporary files of dead processes, and return their number."""
    removed = 0
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_abandoned(path, match["host"], int(match["pid"])):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty private file beside ``path``, removed at the end if it is still there."""
    temporary = path.parent / f".{path.name[:_NAME_LENGTH]}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.part"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    running = is_running(pid) if host == _host() else None
    if running is not None:
        return not running
    try:
        return time.time() - path.stat().st_mtime > _STALE
    except FileNotFoundError:  # its writer has just renamed it
        return False


def _host() -> str:
    return re.sub(r"[^0-9A-Za-z_-]", "-", socket.gethostname()) or "host"
