"""Reading and writing of tables: Parquet, CSV and Arrow/Feather files; and conversion of frames, arrays and columns to Polars."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors import SafetensorError

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.other_frames import from_other_frame, plain_values
from nearward.tabular.data.parquet_files import ParquetFile, common_dtypes, find_parquet_files
from nearward.tabular.data.text_values import read_missing
from nearward.tabular.errors import InputError
from nearward.tabular.parallel import require_own_process

if TYPE_CHECKING:
    from nearward.tabular.data.schema import Schema

_WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": lambda frame, path: durations_in_days(frame).write_csv(path),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), pl.DataFrame.write_ipc),
}  # by file extension
_READ = (".parquet", ".csv", ".csv.gz", ".arrow", ".feather", ".ipc")
_HOSPITAL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".sav", ".zsav", ".por", ".dta", ".sas7bdat", ".xpt")  # by the extra [files]
_ADDRESS = r"([a-z][a-z0-9+.-]+):/+(.+)"  # s3://bucket/key, also as pathlib writes it: s3:/bucket/key


def read_table(path: str | Path, schema: Schema | None = None, missing: str | Sequence[str] = ()) -> pl.DataFrame:
    """Read a Parquet, CSV, Arrow, Excel, SPSS, Stata or SAS file, a folder of Parquet files, or a Parquet file in an object store.

    Parameters
    ----------
    path : path
        A file, also ``.csv.gz``; a folder, whose Parquet files are read in the order of their names, with the columns of hive partitions
        (``ward=ICU/``); a pattern with ``*`` of Parquet files, where no file has that very name; or an address that
        ``polars.scan_parquet`` reads, such as ``s3://bucket/cohort.parquet``.
    schema : Schema, optional
        Decides which features are text and which are numbers, and in a CSV which other columns are text.
    missing : str or sequence of str
        Texts that are read as missing, as in ``Schema.infer``.

    Raises
    ------
    InputError
        No such file, an unknown file extension, or a file that cannot be read as its extension says; a CSV that names columns twice, not at
        all, or is separated by something else than commas; names that Polars reads as patterns.

    Examples
    --------
    >>> read_table("cohort.doc")
    Traceback (most recent call last):
    nearward.tabular.errors.InputError: cohort.doc: unknown file extension; known: .parquet .csv .csv.gz .arrow .feather .ipc .xlsx ...
    """
    require_own_process()
    address = re.fullmatch(_ADDRESS, str(path))
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if address and not path.exists():
            if suffix != ".parquet":
                raise InputError(f"{path}: only Parquet files are read from an address")
            frame = pl.scan_parquet(f"{address[1]}://{'/' * (address[1] == 'file')}{address[2]}", glob=False).collect()
        elif path.is_dir() or ("*" in str(path) and suffix == ".parquet" and not path.exists()):
            frame = _read_files(path)
        else:
            frame = _read_file(path, schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path} cannot be read as {suffix or 'a folder of Parquet files'}: {type(error).__name__}") from error
    refuse_pattern_names(frame.columns)
    frame = frame if schema is None else _as_declared(frame, schema)
    return read_missing(frame, missing)


def write_table(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table atomically, readable by its owner only (0600).

    Raises
    ------
    InputError
        An unknown file extension, a folder that does not exist, or a column that such a file cannot hold.
    OSError
        The disk is full, or the folder is not writable; an earlier file of that name is unchanged.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"{path}: unknown file extension; known: {' '.join(_WRITERS)}")
    with write_errors(path), replacing(path) as temporary:
        write(frame, temporary)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the errors that Polars and safetensors raise while they write a file into an OSError that names the file, or an InputError.

    They report a full disk now as OSError without a file name, now as an error of their own, with the system's number in the text.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, SafetensorError, OSError) as error:
        if getattr(error, "filename", None) is not None:
            raise
        number = getattr(error, "errno", None) or next(iter(map(int, re.findall(r"os error (\d+)", str(error)))), None)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        if isinstance(error, OSError):
            raise
        raise InputError(f"{path}: the table cannot be written as {path.suffix} ({type(error).__name__}): write .parquet") from error


def to_frame(X: Any, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Turn a Polars frame, a lazy frame, an Arrow or pandas table, or a 2-D array into a DataFrame.

    Parameters
    ----------
    X : pl.DataFrame, pl.LazyFrame, a table with the Arrow stream protocol, or array of shape (n, d)
    names : sequence of str, optional
        Column names for an array; ``x0``, ``x1``, … by default.

    Raises
    ------
    InputError
        Anything else, a sparse matrix among them.

    Examples
    --------
    >>> import numpy as np
    >>> to_frame(np.zeros((2, 2))).columns
    ['x0', 'x1']
    """
    require_own_process()
    frame = _to_frame(X, names)
    refuse_pattern_names(frame.columns)
    return frame


def _to_frame(X: Any, names: Sequence[str] | None) -> pl.DataFrame:
    if isinstance(X, pl.DataFrame):
        return X
    if isinstance(X, pl.LazyFrame):
        return X.collect()
    if hasattr(X, "toarray"):
        raise InputError("X must be a frame or a dense array, got a sparse matrix: call X.toarray(), or pass a Polars frame")
    if isinstance(X, pl.Series | str | bytes) or X is None:
        raise InputError(f"X must be a frame, got {type(X).__name__}. Reshape your data: one row a patient, one column a feature")
    if hasattr(X, "__arrow_c_stream__") or (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return from_other_frame(X)
    array = np.asarray(X)
    if array.ndim != 2:
        raise InputError(f"X must be a frame or a 2D array, got {array.ndim}D array instead (shape {array.shape}). Reshape your data")
    if array.shape[1] == 0 or array.shape[0] == 0:
        raise InputError(
            f"0 sample(s) or 0 feature(s) (shape={array.shape}) while a minimum of 1 is required: the array has no rows or no columns."
        )
    if np.iscomplexobj(array):
        raise InputError("Complex data not supported")
    if array.dtype == object:
        array = _objects_to_numbers(array)
    columns = list(names) if names is not None and len(names) == array.shape[1] else [f"x{j}" for j in range(array.shape[1])]
    return pl.DataFrame({name: np.ascontiguousarray(array[:, j]) for j, name in enumerate(columns)})


def to_array(values: Any) -> np.ndarray[Any, Any]:
    """Return an array; of text beside numbers an object array, because NumPy would make text of the numbers (1 and "1", NaN and "nan")."""
    if isinstance(values, pl.Series):
        return values.to_numpy()
    array = np.asarray(values)
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        exact = np.asarray(values, dtype=object)
        return exact if any(not isinstance(value, str | bytes) for value in exact.flat) else array
    return array


def to_series(name: str, values: Any) -> pl.Series:
    """Turn one column, such as an outcome, into a Series that is null where a value is missing.

    Parameters
    ----------
    name : str, the column's name in messages
    values : pl.Series or array-like of n values; None, NaN and pandas' own missing values are missing, also beside text

    Raises
    ------
    InputError
        More than one column; text beside something else.

    Examples
    --------
    >>> to_series("the outcome", ["dead", float("nan")]).to_list()
    ['dead', None]
    """
    series: pl.Series = values
    if not isinstance(values, pl.Series) or values.dtype == pl.Object:
        array = to_array(values)
        if array.ndim != 1:
            raise InputError(f"{name} must be one column, got shape={array.shape}")
        if array.dtype.kind in "mM":
            array = array.astype(f"{array.dtype.kind}8[us]")  # a resolution that Polars has
        series = pl.Series(plain_values(name, array), strict=False) if array.dtype == object else pl.Series(array)
    return series.fill_nan(None) if series.dtype.is_float() else series


def _objects_to_numbers(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an array of Python objects must hold numbers only; {error.__class__.__name__}: argument must be a string or a number. "
            "For mixed columns pass a Polars frame."
        ) from error


def _as_declared(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return features that the schema declares as categories as text, and texts that it declares as numbers as numbers."""
    from nearward.tabular.data.csv_reader import read_texts

    converted, names = [], set(frame.columns)
    for column in schema.columns:
        if column.role in ("feature", "expert") and column.name in names:
            series = frame.get_column(column.name)
            if column.kind == "category" and series.dtype.is_numeric():
                converted.append(as_text(series, column.name))
            elif column.kind == "number" and series.dtype == pl.String:
                converted.append(read_texts(series, column))
    return frame.with_columns(converted)


def refuse_pattern_names(names: Sequence[str]) -> None:
    """Refuse names that Polars' expressions read as several columns, or as none."""
    patterns = [name for name in names if name == "*" or (name.startswith("^") and name.endswith("$"))]
    if patterns:
        raise InputError(f"the table has columns named {patterns}, which Polars reads as patterns: rename them")
    if "" in names:
        raise InputError(f"columns without a name at position {[i + 1 for i, name in enumerate(names) if not name]}: name or drop them")


def _read_file(path: Path, schema: Schema | None) -> pl.DataFrame:
    """Read one file by its very name: characters such as ``[`` and ``*`` are part of it."""
    suffix = path.suffix.lower()
    zipped = path.name.lower().endswith(".csv.gz")
    if not suffix and not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if suffix not in (*_READ, *_HOSPITAL) and not zipped:
        raise InputError(f"{path}: unknown file extension; known: {' '.join((*_READ, *_HOSPITAL))}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if suffix in _HOSPITAL:
        from nearward.tabular.data.hospital_files import read_hospital_file

        return read_hospital_file(path)
    if suffix == ".csv" or zipped:
        from nearward.tabular.data.csv_reader import read_csv

        return read_csv(path, schema)
    return _read_parquet(path) if suffix == ".parquet" else pl.scan_ipc(path, glob=False, hive_partitioning=False).collect()


def _read_parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path, glob=False, hive_partitioning=False)


def _read_files(source: Path) -> pl.DataFrame:
    """Read the Parquet files of a folder or a pattern below one another, with the columns of hive partitions."""
    files = find_parquet_files(source)
    frames = []
    for file in files:
        texts = (pl.lit(value, dtype=pl.String).alias(name) for name, value in file.partitions)
        frames.append((str(file.path), _read_parquet(file.path).with_columns(texts)))
    try:
        dtypes = common_dtypes([(name, frame.schema) for name, frame in frames])
        frame = pl.concat([frame.select(list(dtypes)) for _, frame in frames], how="vertical_relaxed")
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return with_partition_dtypes(frame, files)


def with_partition_dtypes(frame: pl.DataFrame, files: Sequence[ParquetFile]) -> pl.DataFrame:
    """Return a frame with its columns of hive partitions as the numbers or dates that their texts are."""
    from nearward.tabular.data.csv_reader import read_texts

    names = {name for file in files for name, _ in file.partitions}
    return frame.with_columns(read_texts(frame.get_column(name)) for name in frame.columns if name in names)


def durations_in_days(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with its durations as numbers of days: CSV has no durations.

    Examples
    --------
    >>> from datetime import timedelta
    >>> durations_in_days(pl.DataFrame({"stay": [timedelta(hours=36)]}))["stay"].to_list()
    [1.5]
    """
    return frame.with_columns(pl.col(pl.Duration).dt.total_microseconds() / 86_400_000_000)
