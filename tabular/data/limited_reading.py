"""Reading of small files with a limit on their size: a rules file or a stamp of 40 GB is refused before it fills the memory."""

from __future__ import annotations

import errno
from pathlib import Path

SMALL_FILE = 16 * 2**20  # bytes of a schema, a stamp, a summary or a record of a job, at most


class TooLarge(OSError):
    """Raised where a file is larger than its kind can be."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than {limit} bytes", str(path))


def read_at_most(path: Path, limit: int = SMALL_FILE) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises
    ------
    TooLarge
        Nothing was read, or no more than one byte beyond the limit.
    OSError
    """
    with open(path, "rb") as file:
        content = file.read(limit + 1) if path.stat().st_size <= limit else b""
    if len(content) > limit or path.stat().st_size > limit:
        raise TooLarge(path, limit)
    return content
