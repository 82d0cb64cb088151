"""Reading and writing of tables: Parquet, CSV and Arrow/Feather files; and conversion of frames, arrays and columns to Polars."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.errors import InputError


def _read_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema_length=None, null_values=["", "NA", "NaN", "null"])


_FORMATS: dict[str, tuple[Callable[[Path], pl.DataFrame], Callable[[pl.DataFrame, Path], Any]]] = {
    ".parquet": (pl.read_parquet, pl.DataFrame.write_parquet),
    ".csv": (_read_csv, pl.DataFrame.write_csv),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), (pl.read_ipc, pl.DataFrame.write_ipc)),
}  # by file extension: how to read and to write


def read_table(path: str | Path) -> pl.DataFrame:
    """Read a Parquet, CSV or Arrow/Feather file.

    Raises
    ------
    InputError
        No such file, an unknown file extension, or a file that cannot be read as its extension says.

    Examples
    --------
    >>> read_table("cohort.xlsx")
    Traceback (most recent call last):
    nearward.tabular.errors.InputError: cohort.xlsx: unknown file extension; known: .parquet .csv .arrow .feather .ipc
    """
    path = Path(path)
    read, _ = _format(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return read(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix}: {type(error).__name__}") from error


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
    _, write = _format(path)
    with write_errors(path), replacing(path) as temporary:
        write(frame, temporary)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the errors that Polars raises while it writes a file into an OSError that names the file, or an InputError.

    Polars reports a full disk now as OSError without a file name, now as one of its own errors, with the system's number in the text.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
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
    if isinstance(X, pl.DataFrame):
        return X
    if isinstance(X, pl.LazyFrame):
        return X.collect()
    if hasattr(X, "toarray"):
        raise InputError("X must be a frame or a dense array, got a sparse matrix: call X.toarray(), or pass a Polars frame")
    if isinstance(X, pl.Series | str | bytes) or X is None:
        raise InputError(f"X must be a frame, got {type(X).__name__}. Reshape your data: one row a patient, one column a feature")
    if hasattr(X, "__arrow_c_stream__") or (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return _from_other_frame(X)
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
        series = pl.Series(_plain_values(name, array), strict=False) if array.dtype == object else pl.Series(array)
    return series.fill_nan(None) if series.dtype.is_float() else series


def _plain_values(name: str, array: np.ndarray[Any, Any]) -> list[Any]:
    """Return plain Python values, None where missing; text beside another kind is an error."""
    items = [value.item() if isinstance(value, np.generic) else value for value in array]
    items = [None if _is_missing(value) else value for value in items]
    kinds = sorted({type(value).__name__ for value in items if value is not None})
    if "str" in kinds and len(kinds) > 1:
        raise InputError(f"{name} mixes {kinds}: make it one kind first")
    return items


def _is_missing(value: Any) -> bool:
    if type(value).__name__ in ("NAType", "NaTType"):  # of pandas, which may not be installed
        return True
    return isinstance(value, float | Decimal) and math.isnan(value)


def _from_other_frame(X: Any) -> pl.DataFrame:
    names = [str(name) for name in getattr(X, "columns", [])] if hasattr(X, "dtypes") else []
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise InputError(f"the frame names columns twice: {duplicates}. Rename or drop one of each.")
    if hasattr(X, "__arrow_c_stream__"):
        try:
            return pl.DataFrame(X)
        except ImportError:  # pandas exports Arrow only where pyarrow is installed
            pass
    return pl.DataFrame([_from_other_series(name, X[key]) for name, key in zip(names, X.columns, strict=True)])


def _from_other_series(name: str, column: Any) -> pl.Series:
    values = np.asarray(column)
    if values.dtype != object:
        return pl.Series(name, values)
    missing = np.asarray(column.isna()) if hasattr(column, "isna") else np.array([value is None for value in values])
    items = [None if is_missing else value for is_missing, value in zip(missing, values.tolist(), strict=True)]
    try:
        return pl.Series(name, items)
    except (TypeError, pl.exceptions.PolarsError):
        kinds = sorted({type(item).__name__ for item in items if item is not None})
        raise InputError(f"column {name!r} mixes {kinds}: make it one kind first") from None


def _objects_to_numbers(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an array of Python objects must hold numbers only; {error.__class__.__name__}: argument must be a string or a number. "
            "For mixed columns pass a Polars frame."
        ) from error


def _format(path: Path) -> tuple[Callable[[Path], pl.DataFrame], Callable[[pl.DataFrame, Path], Any]]:
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: unknown file extension; known: {' '.join(_FORMATS)}")
    return _FORMATS[path.suffix.lower()]
