"""Large arrays of a model: a raw file each (row-major, little-endian), which is mapped on loading and takes no memory of its own.

Writing copies a source block by block, so that a mapped one is never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence import hashed_files
from nearward.tabular.persistence.hashed_files import DataFiles, open_checked
from nearward.tabular.typing import Arrays

_DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
_MOST_DIMENSIONS = 8


def write_large(arrays: Arrays, files: DataFiles) -> tuple[Arrays, dict[str, Any]]:
    """Write the arrays above ``LARGE`` bytes, each to a file of its own.

    Returns
    -------
    others : the arrays that were not written
    written : JSON-able description of those that were, by name: file, dtype and shape
    """
    others, written = {}, {}
    for name, array in sorted(arrays.items()):
        dtype = array.dtype.newbyteorder("<").str
        if array.nbytes <= hashed_files.LARGE or dtype not in _DTYPES:
            others[name] = array
            continue
        file = files.write("array.bin", partial(write_array, array))
        written[name] = {"file": file, "dtype": dtype, "shape": list(array.shape)}
    return others, written


def write_array(array: NDArray[Any], path: Path) -> None:
    """Write an array's values in row-major order and little-endian, block by block."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    step = max(1, hashed_files.BLOCK // array.dtype.itemsize)
    with open(path, "wb") as file:
        for begin in range(0, array.size, step):
            block = np.ascontiguousarray(flat[begin : begin + step], dtype=array.dtype.newbyteorder("<"))
            file.write(block.data.cast("B"))


def map_large(folder: Path, written: Any, entries: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the names and the arrays of ``write_large``, checked and mapped for reading.

    Parameters
    ----------
    folder : Path
    written : JSON of ``write_large``
    entries : sizes and hashes of the data files by name, checked

    Raises
    ------
    ArtifactError
        A description that does not fit its file, or a file that is missing, a link, truncated or changed.
    """
    if not isinstance(written, dict):
        raise ArtifactError(f"{folder}: the manifest's arrays are no mapping. Restore the model from a copy, or fit it again")
    for name, described in written.items():
        if not _is_valid(described, entries):
            raise ArtifactError(
                f"{folder}: array {name} has a file, dtype or shape that do not fit: restore the model from a copy, or fit it again"
            )
    for name, described in written.items():
        file, dtype, shape = described["file"], described["dtype"], tuple(described["shape"])
        with open_checked(folder / file, entries[file]) as opened:
            mapped: NDArray[Any] = np.memmap(opened, dtype=dtype, mode="r", shape=shape)
        yield name, np.asarray(mapped)


def _is_valid(described: Any, entries: Mapping[str, Any]) -> bool:
    """Return whether a described array has a known dtype, and exactly the bytes of its file."""
    if not isinstance(described, dict) or not all(isinstance(described.get(key), str) for key in ("file", "dtype")):
        return False
    file, dtype, shape = described["file"], described["dtype"], described.get("shape")
    if file not in entries or not file.startswith("array-") or dtype not in _DTYPES:
        return False
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or not all(type(size) is int and size > 0 for size in shape):
        return False
    return bool(prod(shape) * np.dtype(dtype).itemsize == entries[file]["size"])
