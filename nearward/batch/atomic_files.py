"""Files that are there whole or not at all, also after a power cut: temporary file, fsync, rename, fsync of the folder.

A temporary file carries the host and process that write it, so that what a killed process left behind is told from what a living
one is about to finish.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from pathlib import Path

from nearward.tabular.data.table_io import sync_folder

_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9A-Za-z_-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part")
_STALE = 24 * 3600.0  # seconds after which a temporary file of another machine is nobody's


def commit(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, readable by its owner only; what was there stays until all of it is on disk.

    Raises
    ------
    OSError
        The disk is full, a limit is reached, or the folder cannot be written; nothing has changed then.
    """
    _write(path, content, replace=True)


def commit_first(path: Path, content: bytes) -> bool:
    """Put ``content`` at ``path`` unless somebody was faster; tell whether it is ours. Of several at once exactly one is told so."""
    return _write(path, content, replace=False)


def _write(path: Path, content: bytes, replace: bool) -> bool:
    temporary = path.parent / f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.part"
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if replace:
            os.replace(temporary, path)
            first = True
        else:
            first = _linked(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return first


def _linked(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def sweep(folder: Path) -> int:
    """Remove temporary files whose writer is dead, and return how many there were."""
    swept = 0
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and _abandoned(path, match["host"], int(match["pid"])):
            path.unlink(missing_ok=True)
            swept += 1
    return swept


def _abandoned(path: Path, host: str, pid: int) -> bool:
    if host == _host():
        return not _alive(pid)
    try:
        return time.time() - path.stat().st_mtime > _STALE
    except FileNotFoundError:  # it has just become what it was to be
        return False


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    return re.sub(r"[^0-9A-Za-z_-]", "-", socket.gethostname()) or "host"
