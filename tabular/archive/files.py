"""``Archive``: a table in many Parquet files, of which no more than a block of rows is in memory at a time.

Columns, dtypes and row counts come from the footers of all files before a row is read. The rows are in the order of the files' paths, so
that a folder, a pattern and a list of the same files are the same table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import polars as pl

from nearward.tabular.data.parquet_files import (
    ParquetFile,
    common_dtypes,
    find_parquet_files,
    fingerprint,
    printable,
    read_header,
    read_rows,
    unchanged,
)
from nearward.tabular.data.table_io import refuse_pattern_names, with_partition_dtypes, write_errors
from nearward.tabular.errors import InputError, require_columns

Source: TypeAlias = str | Path | Sequence[str | Path] | pl.LazyFrame

_ROW_GROUP = 1 << 17  # rows of the file that a lazy frame is written to


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive.

    Parameters
    ----------
    path : Path
    rows : int
    first : int, number of its first row in the archive
    state : (size in bytes, modification time in ns), when the archive was opened
    columns : names of the columns that lie in the file itself
    partitions : frame of one row, the columns of the hive folders above it
    """

    path: Path
    rows: int
    first: int
    state: tuple[int, int]
    columns: tuple[str, ...]
    partitions: pl.DataFrame


@dataclass(frozen=True)
class FileBlock:
    """A range of rows of one file.

    Parameters
    ----------
    number : int, of the block in the archive
    file : int, index of the file
    offset, rows : int, in the file
    first : int, number of the first row in the archive
    """

    number: int
    file: int
    offset: int
    rows: int
    first: int

    @property
    def span(self) -> slice:
        """The block's rows among all rows of the archive."""
        return slice(self.first, self.first + self.rows)


@dataclass(frozen=True)
class Archive:
    """A table in Parquet files; ``open_archive`` makes one.

    Parameters
    ----------
    name : str, as messages call it
    files : tuple of ArchiveFile, in the order of the rows
    dtypes : dict of polars dtypes by column
    content : str
        Hash of the rows of a lazy frame, whose file is written anew each time.
    """

    name: str
    files: tuple[ArchiveFile, ...]
    dtypes: dict[str, pl.DataType]
    content: str = ""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(file.rows for file in self.files)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, those of hive partitions last."""
        return list(self.dtypes)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.state[0] for file in self.files)

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times of modification: another one where a file was changed, added or removed."""
        if self.content:
            return self.content
        states = [(printable(file.path.absolute()), file.rows, *file.state) for file in self.files]
        return hashlib.sha256(repr(states).encode()).hexdigest()

    def blocks(self, rows: int) -> list[FileBlock]:
        """Return the archive in blocks of at most so many rows; none lies in two files.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in "ab":
        ...         pl.DataFrame({"x": [1, 2, 3]}).write_parquet(f"{folder}/{name}.parquet")
        ...     [(block.file, block.offset, block.rows, block.first) for block in open_archive(folder).blocks(2)]
        [(0, 0, 2, 0), (0, 2, 1, 2), (1, 0, 2, 3), (1, 2, 1, 5)]
        """
        blocks: list[FileBlock] = []
        for i, file in enumerate(self.files):
            for offset in range(0, file.rows, rows):
                blocks.append(FileBlock(len(blocks), i, offset, min(rows, file.rows - offset), file.first + offset))
        return blocks

    def read(self, block: FileBlock, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read some columns of a block, in the archive's dtypes; all of them by default.

        Raises
        ------
        InputError
            The file was changed or removed since the archive was opened, or is damaged.
        MissingColumns
        """
        file, names = self.files[block.file], self.columns if columns is None else list(columns)
        require_columns(names, self.columns)
        try:
            with unchanged(file.path, file.state):
                inside = [name for name in names if name in file.columns]
                frame = read_rows(file.path, inside or list(file.columns[:1]), block.offset, block.rows)
        except InputError as error:
            raise InputError(f"{printable(file.path)}: {error}") from error
        literals = [pl.lit(file.partitions[name].item(), dtype=self.dtypes[name]).alias(name) for name in names if name in file.partitions]
        return frame.with_columns(literals).select(pl.col(name).cast(self.dtypes[name]) for name in names)

    def read_blocks(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[tuple[FileBlock, pl.DataFrame]]:
        """Yield the archive block by block, one of them in memory at a time; errors as ``read``."""
        for block in self.blocks(rows):
            yield block, self.read(block, columns)


def open_archive(source: Source, work: Path | None = None) -> Archive:
    """Open a table in Parquet files.

    Parameters
    ----------
    source : path, sequence of paths, or pl.LazyFrame
        A file; a folder, with the columns of hive partitions; a pattern with ``*``; several of them; or a lazy frame, whose rows are
        written to a file by Polars' streaming engine.
    work : Path, optional
        The folder for a lazy frame's rows.

    Raises
    ------
    InputError
        No such file, or not Parquet; files with different columns, or a column whose dtypes cannot be combined: the message names both;
        no rows.
    OSError
        The disk is full.
    """
    if isinstance(source, pl.LazyFrame):
        written = _write_rows(source, work)
        with written[0].path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return replace(_open(written, "the lazy frame"), content=digest)
    paths = [Path(one) for one in ([source] if isinstance(source, str | Path) else source)]
    if not paths:
        raise InputError("source names no file")
    by_path = {file.path.resolve(): file for path in paths for file in _find(path)}
    files = sorted(by_path.values(), key=lambda file: file.path)
    return _open(files, str(paths[0]) if len(paths) == 1 else f"{len(files)} files")


def _find(path: Path) -> list[ParquetFile]:
    files = find_parquet_files(path)
    other = [file.path for file in files if file.path.suffix.lower() != ".parquet"]
    if other:
        raise InputError(
            f"{printable(other[0])}: a table that is read in blocks must be Parquet. Convert it first (pl.scan_csv, sink_parquet)"
        )
    return files


def _write_rows(frame: pl.LazyFrame, work: Path | None) -> list[ParquetFile]:
    if work is None:
        raise InputError("a lazy frame needs a work folder for its rows")
    path = work / "rows.parquet"
    with write_errors(path):
        frame.sink_parquet(path, row_group_size=_ROW_GROUP, compression="zstd")
    return [ParquetFile(path)]


def _open(found: list[ParquetFile], name: str) -> Archive:
    files, schemas, first = [], [], 0
    for file in found:
        shown = printable(file.path)
        try:
            rows, dtypes = read_header(file.path)
            state = fingerprint(file.path)
        except InputError as error:
            raise InputError(f"{shown}: {error}") from error
        texts = pl.DataFrame({column: [value] for column, value in file.partitions}, dict.fromkeys(dict(file.partitions), pl.String))
        inside = tuple(column for column in dtypes if column not in texts.columns)
        files.append(ArchiveFile(file.path, rows, first, state, inside, texts))
        schemas.append((shown, pl.Schema({**dtypes, **texts.schema})))
        first += rows
    combined = common_dtypes(schemas)
    refuse_pattern_names(list(combined))
    if first == 0:
        raise InputError(f"{name} has 0 rows; at least 1 is required")
    columns = [column for column in combined if column in files[0].partitions.columns]
    typed = with_partition_dtypes(pl.concat([file.partitions.select(columns) for file in files]), found)
    files = [replace(file, partitions=typed.slice(i, 1)) for i, file in enumerate(files)]
    return Archive(name, tuple(files), {**combined, **typed.schema})
