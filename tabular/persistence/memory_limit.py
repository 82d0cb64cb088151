"""The memory that a model's files take once they are read, compared with this machine's before they are."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from nearward.tabular.errors import ArtifactError
from nearward.tabular.operating_system import machine_memory


def read_records(path: Path, source: Path | io.BytesIO) -> pl.DataFrame:
    """Read the stored patients; a table that would expand beyond this machine's memory is refused first.

    ``source`` is the file ``path`` itself, or its content.
    Texts are measured column by column, in pieces: a page that is small on disk can hold gigabytes of one repeated letter.
    """
    scan = pl.scan_parquet(source)
    schema = scan.collect_schema()
    if any(dtype.is_nested() and not _is_flat_list(dtype) for dtype in schema.values()):
        raise ArtifactError(f"{path} holds structs or nested lists: restore the model from a copy, or fit it again")
    size = 8 * len(schema) * int(scan.select(pl.len()).collect().item())  # bytes, at least
    check_memory(path, size)
    for name, dtype in schema.items():
        for length in _lengths(pl.col(name), dtype):
            size += int(scan.select(length.cast(pl.Int64).sum()).collect(engine="streaming").item())
            check_memory(path, size)
    return pl.read_parquet(source)


def _is_flat_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and not dtype.inner.is_nested()


def _lengths(values: pl.Expr, dtype: pl.DataType) -> list[pl.Expr]:
    """Bytes of a column's lists and texts, beyond 8 a value."""
    if isinstance(dtype, pl.List):
        return [8 * values.list.len(), *_lengths(values.explode(), dtype.inner)]  # type: ignore[arg-type]
    return [values.str.len_bytes()] if dtype == pl.String else [values.bin.size()] if dtype == pl.Binary else []


def check_memory(path: Path, size: int) -> None:
    """Raise ``ArtifactError`` where a file of ``size`` bytes, read, does not fit into this machine's memory."""
    if size > machine_memory():
        raise ArtifactError(
            f"{path} needs {size / 1e9:.1f} GB of memory, this machine has {machine_memory() / 1e9:.1f}: load it on a larger one"
        )
