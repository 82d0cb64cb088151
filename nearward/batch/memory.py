"""How much memory a job may use, and what follows from it: how many workers, and how many rows a shard.

A worker is a process of its own that loads the libraries and the model once. Sharing pages by forking would save some of that, but
neither torch's threads nor Polars' survive a fork. So a worker costs what it costs, and where the limit is tight there are fewer.
The constants were measured (docs/guide/score-every-night.md); ``resident`` tells what a worker really holds, and the job says so at its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nearward.tabular.errors import InputError
from nearward.tabular.parallel import cores

SHARD_ROWS = 16_384
_FEWEST_ROWS = 1_024
_COORDINATOR = 120e6  # bytes: this process, which never loads a model
_LIBRARIES = 420e6  # bytes of a worker before it loads a model
_MODEL = 6.0  # times the model's size on disk: arrays, rebuilt trees and index, tokens of the stored rows
_BATCH = 250e6  # bytes that scoring one batch of rows takes for a while
_CELL = 60.0  # bytes a cell of a shard: as read, as checked, as encoded
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Budget:
    """What a job may use.

    Parameters
    ----------
    workers : int, processes
    threads : int, of each process; more than one where memory holds fewer processes than there may be workers
    shard_rows : int
    expected : float, bytes resident at most, all processes together
    """

    workers: int
    threads: int
    shard_rows: int
    expected: float


def read_size(text: str) -> float:
    """Read a size in bytes.

    Raises
    ------
    InputError

    Examples
    --------
    >>> read_size("2GB"), read_size("750 MB")
    (2000000000.0, 750000000.0)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise InputError(f"{text!r} is not a size: write it as 2GB or 750MB")
    return float(match[1]) * _UNITS[match[2].lower()]


def plan_memory(model: str | Path, columns: int, workers: int | None, limit: float | None, shard_rows: int | None = None) -> Budget:
    """Choose workers and rows a shard so that the job stays within its limit.

    Parameters
    ----------
    model : path of the model's folder
    columns : int, columns read a row
    workers : int, optional
        At most so many; one a core by default.
    limit : float, bytes, optional
        Of all processes together; none by default.
    shard_rows : int, optional
        Asked for by the user, or fixed by the job that goes on.

    Raises
    ------
    InputError
        Not even one worker fits, or a number that makes no sense.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    if shard_rows is not None and shard_rows < 1:
        raise InputError(f"--shard-rows must be at least 1, got {shard_rows}")
    wanted = workers or cores()
    standing = _LIBRARIES + _BATCH + _MODEL * sum(path.stat().st_size for path in Path(model).iterdir() if path.is_file())
    row = _CELL * max(columns, 1)
    least = shard_rows or _FEWEST_ROWS
    fit = wanted
    if limit is not None:
        fit = min(wanted, int((limit - _COORDINATOR) // (standing + row * least)))
        if fit < 1:
            raise InputError(
                f"--max-memory {_words(limit)} is too little: one worker with this model needs about "
                f"{_words(_COORDINATOR + standing + row * least)}"
            )
    rows = shard_rows or SHARD_ROWS
    if limit is not None and shard_rows is None:
        room = ((limit - _COORDINATOR) / fit - standing) / row
        while rows > room and rows > _FEWEST_ROWS:
            rows //= 2
    return Budget(fit, wanted // fit, rows, _COORDINATOR + fit * (standing + row * rows))


def resident() -> float:
    """Return the most bytes that this process has ever held in memory.

    Linux's own account of the program comes first: ``ru_maxrss`` outlives exec, so a small program started by a large one would be
    charged with what its parent held.
    """
    import resource
    import sys

    account = Path("/proc/self/status")
    if account.exists():
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", account.read_text(), re.MULTILINE)
        if peak is not None:
            return float(peak[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used if sys.platform == "darwin" else used * 1024)


def _words(size: float) -> str:
    return f"{size / 1e9:.1f}GB" if size >= 1e9 else f"{size / 1e6:.0f}MB"
