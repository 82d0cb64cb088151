"""Parquet files: which ones a folder or a pattern stands for, what their footers say, and ranges of their rows.

Files are read in the order of their paths, and folders named ``column=value`` are hive partitions. A range of rows is read from the row
groups that it overlaps, and of these only the pages: 25,000 rows of a row group of a million take no more memory than these rows
(docs/benchmarks/scoring-jobs.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import InputError, list_first

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True)
class ParquetFile:
    """A file of a table.

    Parameters
    ----------
    path : Path
    partitions : tuple of (column, text)
        Of the hive folders above it; None for a missing value.
    """

    path: Path
    partitions: tuple[tuple[str, str | None], ...] = ()


def find_parquet_files(source: Path) -> list[ParquetFile]:
    """List the Parquet files of a folder or of a pattern with ``*``, or the one file of that very name, in the order of their paths.

    Folders and files whose name begins with ``.`` or ``_`` are left out; characters of a pattern other than ``*`` stand for themselves.

    Raises
    ------
    InputError
        There is none.
    """
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*.parquet") if path.is_file())
        paths = [path for path in paths if not any(part.startswith((".", "_")) for part in path.relative_to(source).parts)]
        if not paths:
            raise InputError(f"{source} is a folder without Parquet files: no such file")
        return [ParquetFile(path, _partitions(path.relative_to(source))) for path in paths]
    if "*" in str(source) and not source.exists():
        return [ParquetFile(path) for path in _matches(source)]
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    return [ParquetFile(source)]


def _partitions(path: Path) -> tuple[tuple[str, str | None], ...]:
    parts = [part.partition("=") for part in path.parts[:-1]]
    return tuple((name, None if value == _NO_VALUE else unquote(value)) for name, sign, value in parts if sign)


def _matches(pattern: Path) -> list[Path]:
    first = next(i for i, part in enumerate(pattern.parts) if "*" in part)
    literal = "/".join(part.replace("[", "[[]").replace("?", "[?]") for part in pattern.parts[first:])
    files = sorted(path for path in Path(*pattern.parts[:first]).glob(literal) if path.is_file())
    if not files:
        raise InputError(f"{pattern}: no such file, and no file of this pattern")
    return files


def common_dtypes(schemas: Sequence[tuple[str, pl.Schema]]) -> dict[str, pl.DataType]:
    """Return the dtypes in which the columns of several tables can be put below one another, in the order of the first table.

    Parameters
    ----------
    schemas : sequence of (name, dtypes), the name as in messages

    Raises
    ------
    InputError
        Other columns than in the first table, or a column whose dtypes cannot be combined, such as numbers and text.

    Examples
    --------
    >>> common_dtypes([("a", pl.Schema({"x": pl.Int64})), ("b", pl.Schema({"x": pl.Float64}))])
    {'x': Float64}
    >>> common_dtypes([("a", pl.Schema({"x": pl.Int64})), ("b", pl.Schema({"x": pl.String}))])
    Traceback (most recent call last):
    nearward.tabular.errors.InputError: column 'x' has dtype String in b and Int64 in a: give it one dtype in all files
    """
    first, columns = schemas[0]
    for name, other in schemas[1:]:
        missing, added = [c for c in columns if c not in other], [c for c in other if c not in columns]
        if missing or added:
            faults = [
                f"{what} {list_first([repr(one) for one in names])}" for what, names in (("lacks", missing), ("also has", added)) if names
            ]
            raise InputError(f"the files have different columns: {name} {' and '.join(faults)}, unlike {first}")
    return {column: _common_dtype(column, [(name, schema[column]) for name, schema in schemas]) for column in columns}


def _common_dtype(column: str, dtypes: list[tuple[str, pl.DataType]]) -> pl.DataType:
    first, common = dtypes[0]
    for name, dtype in dtypes[1:]:
        if dtype == common:
            continue
        empty = [pl.DataFrame(schema={column: one}) for one in (common, dtype)]
        try:
            combined = pl.concat(empty, how="vertical_relaxed").schema[column]
        except pl.exceptions.PolarsError:
            combined = None
        if combined is None or (is_text(combined) and not all(is_text(one) or one == pl.Null for one in (common, dtype))):
            described = f"{dtype_name(dtype)} in {name} and {dtype_name(common)} in {first}"
            raise InputError(f"column {column!r} has dtype {described}: give it one dtype in all files")
        common = combined
    return common


def is_utf8(path: Path) -> bool:
    """Whether a path's name is UTF-8, as Polars requires."""
    return printable(path) == path.as_posix()


def printable(path: Path) -> str:
    """Return a path's name, with ``\\xff`` for bytes that are not UTF-8."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


def fingerprint(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its modification time in ns, by which a changed file is recognised.

    Raises
    ------
    InputError
        The file does not exist or is not accessible.
    """
    status = _file_state(path)
    return status.st_size, status.st_mtime_ns


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
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        return int(scan.select(pl.len()).collect().item()), scan.collect_schema()
    except _UNREADABLE as error:
        raise InputError(f"cannot be read as Parquet, truncated or damaged: {type(error).__name__}") from error


def read_rows(path: Path, columns: Sequence[str], offset: int, rows: int) -> pl.DataFrame:
    """Read some columns of a range of rows.

    Raises
    ------
    InputError
        The file is damaged, or has fewer rows than when the job was planned.
    """
    try:
        frame = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(columns).slice(offset, rows).collect()
    except _UNREADABLE as error:
        raise InputError(f"rows {offset} to {offset + rows - 1} cannot be read: {type(error).__name__}") from error
    if frame.height != rows:
        raise InputError(f"the table has fewer rows than when the job was planned (at least {offset + rows})")
    return frame
