"""Input tables, and their division into shards of a fixed number of rows.

A shard is a range of rows of one Parquet file. Polars reads it from the row groups that it overlaps, and of these only the pages: a slice
of 25,000 rows from a row group of a million takes no more memory than the slice (docs/benchmarks/scoring-jobs.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nearward.tabular.errors import InputError


@dataclass(frozen=True)
class Source:
    """An input table.

    Parameters
    ----------
    name : str
        The path as given, or relative to the folder given, with ``\\xff`` for bytes that are not UTF-8; the output's ``file`` column.
    path : Path, absolute
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Shard:
    """A range of rows of one table.

    Parameters
    ----------
    file, part : int
        Index of the table in the job, and of the range in the table.
    offset, rows : int
    """

    file: int
    part: int
    offset: int
    rows: int

    @property
    def name(self) -> str:
        """The stem of its files: numbers only, so that no input decides where they are written. Names sort in the order of the plan."""
        return f"part-{self.file:05d}-{self.part:06d}"


def find_tables(paths: Sequence[Path]) -> list[Source]:
    """List Parquet files, and those inside folders, in a fixed order and without duplicates.

    Raises
    ------
    InputError
        A folder without Parquet files, a file that is not Parquet, or a link that leads out of its folder.
    """
    sources: dict[Path, Source] = {}
    for path in paths:
        if path.is_dir():
            for table in _tables_in(path):
                sources.setdefault(table.resolve(), Source(printable(table.relative_to(path)), table.resolve()))
        elif path.suffix.lower() != ".parquet":
            raise InputError(f"{path}: a job over many tables reads Parquet. Convert it first, or score it alone with --out FILE")
        else:
            sources.setdefault(path.resolve(), Source(printable(path), path.resolve()))
    if not sources:
        raise InputError("no table to score")
    return list(sources.values())


def _tables_in(folder: Path) -> list[Path]:
    tables = sorted(path for path in folder.rglob("*.parquet") if not _is_hidden(path.relative_to(folder)) and not path.is_dir())
    if not tables:
        raise InputError(f"{folder}: no Parquet files (*.parquet) in this folder")
    for path in tables:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path} is a link that leads out of {folder}: pass the table's own path to score it")
    return tables


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_utf8(path: Path) -> bool:
    """Whether a path's name is UTF-8, as Polars requires."""
    return printable(path) == path.as_posix()


def printable(path: Path) -> str:
    """Return a path's name, with ``\\xff`` for bytes that are not UTF-8."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


@contextmanager
def unchanged(path: Path, planned: tuple[int | None, int | None]) -> Iterator[None]:
    """Check before and after a table is read that it is the planned one.

    Parameters
    ----------
    path : Path
    planned : its ``fingerprint``

    Raises
    ------
    InputError
        The file was changed or replaced since it was planned, or while it was read.
    """
    before = _file_state(path)
    if (before.st_size, before.st_mtime_ns) != planned:
        raise InputError("the table has changed since the job was planned: run again")
    yield
    after = _file_state(path)
    if any(getattr(before, field) != getattr(after, field) for field in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")):
        raise InputError("the table has changed while it was read: run again")


def fingerprint(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its modification time in ns, by which a changed file is recognised.

    Raises
    ------
    InputError
        The file does not exist or is not accessible.
    """
    status = _file_state(path)
    return status.st_size, status.st_mtime_ns


def _file_state(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise InputError(f"{printable(Path(path.name))}: no such file, or not readable ({type(error).__name__})") from error


def read_header(path: Path) -> tuple[int, pl.Schema]:
    """Read a Parquet file's number of rows and its columns from the footer alone.

    Raises
    ------
    InputError
        The file is truncated, damaged, or not Parquet, or its name is not UTF-8.
    """
    if not is_utf8(path):
        raise InputError("the name of the file or of its folder is not UTF-8: rename it")
    try:
        scan = pl.scan_parquet(path, glob=False)
        return int(scan.select(pl.len()).collect().item()), scan.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"cannot be read as Parquet, truncated or damaged: {type(error).__name__}") from error


def is_scores(path: Path) -> bool:
    """Whether a scoring job has written a file, by the model's hash in its Parquet metadata."""
    try:
        return "nearward.model" in pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return False


def split_into_shards(file: int, rows: int, shard_rows: int) -> list[Shard]:
    """Split a table of ``rows`` rows into shards.

    Examples
    --------
    >>> [(shard.offset, shard.rows) for shard in split_into_shards(0, 5, 2)]
    [(0, 2), (2, 2), (4, 1)]
    """
    return [Shard(file, part, offset, min(shard_rows, rows - offset)) for part, offset in enumerate(range(0, rows, shard_rows))]


def read_shard(path: Path, columns: Sequence[str], shard: Shard) -> pl.DataFrame:
    """Read some columns of a shard's rows.

    Raises
    ------
    InputError
        The file is damaged, or has fewer rows than when the job was planned.
    """
    try:
        frame = pl.scan_parquet(path, glob=False).select(columns).slice(shard.offset, shard.rows).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"rows {shard.offset} to {shard.offset + shard.rows - 1} cannot be read: {type(error).__name__}") from error
    if frame.height != shard.rows:
        raise InputError(f"the table has fewer rows than when the job was planned (at least {shard.offset + shard.rows})")
    return frame
