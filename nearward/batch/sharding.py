"""What there is to score: tables found under the names a user gives, and cut into shards of so many rows.

A shard is a range of rows of one Parquet file. Polars reads such a range out of the row groups that it touches, and of these only the
pages: a slice of 25,000 rows out of one row group of a million takes no more memory than the slice (docs/guide/score-every-night.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nearward.tabular.errors import InputError


@dataclass(frozen=True)
class Source:
    """A table of the archive.

    Parameters
    ----------
    name : str
        As the user gave it, or below the folder that he gave: what the output's ``file`` column says.
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
        Place of the table in the job, and of the range in the table.
    offset, rows : int
    """

    file: int
    part: int
    offset: int
    rows: int

    @property
    def name(self) -> str:
        """What its files are called: numbers only, so no input can choose where they lie. Names sort in the plan's order."""
        return f"part-{self.file:05d}-{self.part:06d}"


def find_tables(named: Sequence[Path]) -> list[Source]:
    """Find the Parquet files that are named, and those in the folders that are named, in a fixed order.

    Raises
    ------
    InputError
        Nothing there, not Parquet, or a link in a folder that leads out of it.
    """
    found: dict[Path, Source] = {}
    for given in named:
        if given.is_dir():
            inside = sorted(path for path in given.rglob("*.parquet") if not _hidden(path.relative_to(given)) and not path.is_dir())
            if not inside:
                raise InputError(f"{given}: no Parquet files (*.parquet) in this folder")
            for path in inside:
                if not path.resolve().is_relative_to(given.resolve()):
                    raise InputError(f"{path} is a link that leads out of {given}: name the table itself if it is meant")
                found.setdefault(path.resolve(), Source(path.relative_to(given).as_posix(), path.resolve()))
        elif given.suffix.lower() != ".parquet":
            raise InputError(f"{given}: a job over many tables reads Parquet. Write it as Parquet first, or score it alone into one file")
        else:
            found.setdefault(given.resolve(), Source(given.as_posix(), given.resolve()))
    if not found:
        raise InputError("no table to score")
    return list(found.values())


def fingerprint(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its time of change in ns: what tells that it is still the file that was planned.

    Raises
    ------
    InputError
        No such file.
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise InputError(f"{path.name}: no such file, or not readable ({type(error).__name__})") from error
    return facts.st_size, facts.st_mtime_ns


def header(path: Path) -> tuple[int, pl.Schema]:
    """Read how many rows a Parquet file has, and its columns, from its footer alone.

    Raises
    ------
    InputError
        Not a whole Parquet file.
    """
    try:
        scan = pl.scan_parquet(path, glob=False)
        return int(scan.select(pl.len()).collect().item()), scan.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"cannot be read as Parquet, truncated or damaged: {type(error).__name__}") from error


def cut(file: int, rows: int, shard_rows: int) -> list[Shard]:
    """Cut a table of so many rows into shards.

    Examples
    --------
    >>> [(shard.offset, shard.rows) for shard in cut(0, 5, 2)]
    [(0, 2), (2, 2), (4, 1)]
    """
    return [Shard(file, part, begin, min(shard_rows, rows - begin)) for part, begin in enumerate(range(0, rows, shard_rows))]


def read_range(path: Path, columns: Sequence[str], shard: Shard) -> pl.DataFrame:
    """Read some columns of a shard's rows.

    Raises
    ------
    InputError
        Damaged, or no longer the rows that were planned.
    """
    try:
        frame = pl.scan_parquet(path, glob=False).select(columns).slice(shard.offset, shard.rows).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"rows {shard.offset} to {shard.offset + shard.rows - 1} cannot be read: {type(error).__name__}") from error
    if frame.height != shard.rows:
        raise InputError(f"it had {shard.offset + shard.rows} rows or more when the job was planned, and has fewer now")
    return frame


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
