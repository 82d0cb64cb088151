"""What differs between operating systems and file systems: Windows, network shares, disks without hard links.

Elsewhere the package uses what all of them have. Each function says what it promises; where a system has no such operation, another way
keeps the promise, or the docstring says what is missing there.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

WINDOWS = os.name == "nt"
_NO_SUCH_OPERATION = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_RETRY, _PATIENCE = 0.02, 5.0  # seconds between attempts at a file that another program holds open, and altogether
_STALE_LOCK = 60.0  # seconds; a lock is held for two operations on a folder
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")


def flush_file(path: Path) -> None:
    """Flush a file's content to disk. File systems without this operation (some network shares) write it when they choose."""
    _flush(path, os.O_RDWR)  # Windows flushes no file that was opened for reading


def flush_folder(path: Path) -> None:
    """Flush a folder's entries to disk: only then does a rename in it survive a power cut.

    Windows opens no folders, and its file system keeps a journal of renames; some network shares have no such operation.
    """
    if not WINDOWS:
        _flush(path, os.O_RDONLY)


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another at once. Where another program holds the target open (Windows), it is retried for five seconds."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > until:
                raise
            time.sleep(_RETRY)


def create_from(source: Path, target: Path) -> bool:
    """Give a complete file a name that no file has yet; return whether it was free. Of concurrent callers exactly one succeeds.

    ``source`` may be gone afterwards. By a hard link; on Windows by a rename, which replaces nothing there; on a disk without hard links
    by a rename under a lock.
    """
    try:
        if WINDOWS:
            os.rename(source, target)
        else:
            os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (*_NO_SUCH_OPERATION, errno.EPERM, errno.EMLINK):
            raise
        return _rename_locked(source, target)
    return True


def is_running(pid: int) -> bool | None:
    """Whether a process of this machine is running; None on Windows, where a signal of 0 would interrupt it."""
    if WINDOWS:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True


def peak_memory() -> float:
    """Return the peak resident memory of this process, in bytes; NaN on Windows.

    On Linux it is read from /proc: ``ru_maxrss`` survives exec, so a small program started by a large one would report its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peak is not None:
            return float(peak[1]) * 1024
    try:
        import resource
    except ImportError:
        return float("nan")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used if sys.platform == "darwin" else used * 1024)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment variables that give each library so many threads and the process one malloc arena."""
    return {**dict.fromkeys(_THREADS, str(threads)), "MALLOC_ARENA_MAX": "1"}


def release_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc): otherwise a long program grows by what lies between."""
    import ctypes

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def machine_memory() -> float:
    """Return this machine's memory in bytes, infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _flush(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_OPERATION:
            raise
    finally:
        os.close(descriptor)


def _rename_locked(source: Path, target: Path) -> bool:
    """Rename a file unless the target exists, under a lock that is a folder: every file system creates a folder once only."""
    lock = target.parent / f".{target.name}.lock.part"
    while True:
        try:
            os.mkdir(lock)
            break
        except FileExistsError:
            _remove_stale(lock)
            time.sleep(_RETRY)
    try:
        if target.exists():
            return False
        replace_file(source, target)
        return True
    finally:
        os.rmdir(lock)


def _remove_stale(lock: Path) -> None:
    """Remove a lock whose process has died while it held it."""
    try:
        if time.time() - lock.stat().st_mtime > _STALE_LOCK:
            os.rmdir(lock)
    except FileNotFoundError:  # its owner has just removed it
        pass
