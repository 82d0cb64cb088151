"""The memory of a scoring job, and the number of workers and of rows in a shard that fit into it.

A worker is a process of its own that loads the libraries and the model once. Forking would share some of that memory, but neither torch's
threads nor Polars' survive a fork, so a tight limit means fewer workers. The constants were measured (docs/benchmarks/scoring-jobs.md);
a job reports its peak memory at the end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from nearward.tabular.errors import InputError
from nearward.tabular.parallel import cpu_count
from nearward.tabular.persistence.artifact import loading, read_manifest

SHARD_ROWS = 16_384
_FEWEST_ROWS = 1_024
_COORDINATOR = 120e6  # bytes of the main process, which never loads a model
_LIBRARIES = 420e6  # bytes of a worker before it loads a model
_MODEL = 6.0  # times the model's size on disk: arrays, rebuilt trees and index, tokens of the stored rows
_MAPPED = 2.0  # times the size of its mapped arrays: their pages, and the index built of them
_BATCH = 250e6  # bytes that scoring one batch of rows takes temporarily
_EVENTS = 800e6  # bytes of a block of four million events while it becomes features
_VALUE = 60.0  # bytes for each value of a shard: as read, as checked, as encoded
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Resources:
    """Workers and shard size of a job.

    Parameters
    ----------
    workers : int, processes
    threads : int, of each process; more than one where memory allows fewer processes than workers were requested
    shard_rows : int
    memory : float, bytes, the expected peak of all processes together
    """

    workers: int
    threads: int
    shard_rows: int
    memory: float


def read_size(text: str) -> float:
    """Parse a size into bytes.

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


def plan_resources(
    model: str | Path,
    columns: int,
    workers: int | None,
    limit: float | None,
    shard_rows: int | None = None,
    *,
    events: bool = False,
    divided: bool = False,
) -> Resources:
    """Choose the number of workers and the rows of a shard so that the job stays within its memory limit.

    Parameters
    ----------
    model : path of the model's folder
    columns : int, columns read
    workers : int, optional
        Upper limit; one per core by default.
    limit : float, bytes, optional
        Of all processes together; none by default.
    shard_rows : int, optional
        Requested by the user, or fixed by the job that is resumed.
    events : bool
        Whether features are made of events.
    divided : bool
        Whether the index is with actors, which are not counted, and not with the workers.

    Raises
    ------
    InputError
        Not even one worker fits into the limit; a number below 1.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    if shard_rows is not None and shard_rows < 1:
        raise InputError(f"--shard-rows must be at least 1, got {shard_rows}")
    requested = workers or cpu_count()
    worker_size = model_memory(model, math.inf if divided else 1) + _BATCH + events * _EVENTS
    row_size = _VALUE * max(columns, 1)
    fewest_rows = shard_rows or _FEWEST_ROWS
    processes = requested
    if limit is not None:
        processes = min(requested, int((limit - _COORDINATOR) // (worker_size + row_size * fewest_rows)))
        if processes < 1:
            raise InputError(
                f"--max-memory {format_size(limit)} is too little: one worker with this model needs about "
                f"{format_size(_COORDINATOR + worker_size + row_size * fewest_rows)}"
            )
    rows = shard_rows or SHARD_ROWS
    if limit is not None and shard_rows is None:
        most_rows = ((limit - _COORDINATOR) / processes - worker_size) / row_size
        while rows > most_rows and rows > _FEWEST_ROWS:
            rows //= 2
    return Resources(processes, requested // processes, rows, _COORDINATOR + processes * (worker_size + row_size * rows))


def count_shards(model: str | Path) -> int:
    """Return how many shards the index of a saved model has."""
    with loading(model):
        return int(read_manifest(model)["summary"]["fields"]["folds"])


def mapped_size(model: str | Path) -> int:
    """Return the bytes of a saved model's mapped arrays, most of which are the vectors of its index."""
    return sum(path.stat().st_size for path in Path(model).glob("array-*"))


def model_memory(model: str | Path, shards: float = 1) -> float:
    """Return the bytes of a process with a saved model, or with all of it but the index and one of the index's shards."""
    mapped = mapped_size(model)
    others = sum(path.stat().st_size for path in Path(model).iterdir() if path.is_file()) - mapped
    return _LIBRARIES + _MODEL * others + _MAPPED * mapped / shards


def format_size(size: float) -> str:
    """Return a number of bytes as text: "1.5GB", "750MB"."""
    return f"{size / 1e9:.1f}GB" if size >= 1e9 else f"{size / 1e6:.0f}MB"
