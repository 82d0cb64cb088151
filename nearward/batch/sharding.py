"""Input tables, and their division into shards: ranges of a fixed number of rows of one Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nearward.tabular.data.parquet_files import printable, read_rows
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
    """Read some columns of a shard's rows; errors as ``read_rows``."""
    return read_rows(path, columns, shard.offset, shard.rows)
