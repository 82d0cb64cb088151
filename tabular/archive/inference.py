"""The schema of an archive: kinds by the rules of ``Schema.infer`` from a sample of its rows, then levels and ranges from all of them.

The sample is spread over all files. A column without a value in it is looked for in the whole archive. The pass over all rows also checks
that each block conforms to the schema: a text among numbers in the last file is found before anything is learned.

Shapes: n rows, b rows of a block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.tabular.archive.files import Archive
from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.parquet_files import printable
from nearward.tabular.data.schema import MAX_CATEGORIES, Column, Schema
from nearward.tabular.data.text_values import without_marks
from nearward.tabular.errors import InputError
from nearward.tabular.statistics import EXTREME
from nearward.tabular.typing import Bools, Floats, Ints, Progress

SAMPLE_ROWS = 50_000
_RANGES = 4  # of rows of each file


def sample_rows(archive: Archive, rows: int, columns: Sequence[str] | None = None) -> tuple[pl.DataFrame, Ints]:
    """Read about so many rows, or all where there are fewer: short ranges at even distances in every file.

    Returns
    -------
    frame : pl.DataFrame, m rows
    row : (m,), their numbers in the archive
    """
    share, parts, numbers = rows / archive.rows, [], []
    for block in archive.blocks(1 << 62):
        wanted = block.rows if share >= 1 else min(block.rows, max(int(np.ceil(block.rows * share)), 1))
        ranges = min(_RANGES, wanted) if wanted < block.rows else 1
        edges = np.linspace(0, block.rows, ranges + 1).astype(int)
        for i in range(ranges):
            size = wanted // ranges + (i < wanted % ranges)
            offset = int(edges[i] + max(edges[i + 1] - edges[i] - size, 0) // 2)
            part = dataclasses.replace(block, offset=offset, rows=size, first=block.first + offset)
            parts.append(archive.read(part, columns))
            numbers.append(np.arange(part.first, part.first + size))
    return pl.concat(parts), np.concatenate(numbers)


def infer_schema(
    archive: Archive, patient_ids: Ints, ignore: Sequence[str] = (), category: Sequence[str] = (), missing: str | Sequence[str] = ()
) -> Schema:
    """Infer kinds and roles from a sample of the rows; ``read_through`` completes the result.

    Parameters
    ----------
    archive : Archive
    patient_ids : (n,)
    ignore : names of columns that are not looked at
    category : names of columns of numbers that are codes
    missing : texts that are read as missing, as in ``Schema.infer``

    Raises
    ------
    InputError
        As ``Schema.infer``.
    """
    names = [name for name in archive.columns if name not in ignore]
    frame, rows = sample_rows(archive, SAMPLE_ROWS, names)
    frame = frame.with_columns(as_text(frame.get_column(name), name) for name in category if name in names)
    absent = [name for name in names if frame.get_column(name).null_count() == frame.height] if frame.height < archive.rows else []
    patients = pl.Series(patient_ids[rows])
    schema = Schema.infer(frame.drop(absent), missing, patients) if len(absent) < len(names) else Schema(())
    known = {column.name: column for column in schema.columns}
    for name in absent:
        values, value_rows = _values_of(archive, name)
        values = as_text(values, name) if name in category else values
        known[name] = Schema.infer(values.to_frame(), missing, pl.Series(patient_ids[value_rows])).columns[0]
    return Schema(tuple(known.get(name, Column(name, role="ignore")) for name in archive.columns))


def _values_of(archive: Archive, name: str) -> tuple[pl.Series, Ints]:
    """Return up to a sample's size of a rare column's values, with their rows; one missing value where there is none."""
    parts, rows, count = [], [], 0
    for block, frame in archive.read_blocks(SAMPLE_ROWS, [name]):
        series = frame.get_column(name)
        present = np.flatnonzero(series.is_not_null().to_numpy())
        parts.append(series.gather(present))
        rows.append(block.first + present)
        count += len(present)
        if count >= SAMPLE_ROWS:
            break
    if not count:
        return pl.Series(name, [None], dtype=archive.dtypes[name]), np.zeros(1, dtype=np.int64)
    return pl.concat(parts), np.concatenate(rows)


class Extremes:
    """The most extreme patients of a column that is read in blocks, on one side.

    Examples
    --------
    >>> extremes = Extremes()
    >>> for begin in range(0, 40, 10):
    ...     extremes.add(np.arange(begin, begin + 10.0), np.arange(begin, begin + 10) // 2)
    >>> extremes.value  # of the fifth most extreme of 20 patients
    31.0
    """

    def __init__(self) -> None:
        self._values, self._patients = np.empty(0), np.empty(0, dtype=np.int64)

    def add(self, values: Floats, patient_ids: Ints) -> None:
        """Add a block's values (b,), NaN where missing, of patients (b,)."""
        full = len(self._values) == 2 * EXTREME
        near = values > self._values[-1] if full else ~np.isnan(values)
        joined = np.concatenate([self._values, values[near]])
        patients = np.concatenate([self._patients, patient_ids[near]])
        order = np.argsort(-joined, kind="stable")
        first = np.sort(np.unique(patients[order], return_index=True)[1])[: 2 * EXTREME]  # the greatest value of each patient
        self._values, self._patients = joined[order][first], patients[order][first]

    @property
    def value(self) -> float | None:
        """The value of the fifth most extreme patient; None of fewer than ten patients."""
        return float(self._values[EXTREME - 1]) if len(self._values) == 2 * EXTREME else None


@dataclass
class _ColumnFacts:
    """What all rows say about an inferred column."""

    column: Column
    levels: set[str]
    high: Extremes
    negative_low: Extremes

    def add(self, raw: pl.Series, conformed: pl.Series, patient_ids: Ints) -> None:
        if self.column.kind == "number":
            values = conformed.to_numpy()
            self.high.add(values, patient_ids)
            self.negative_low.add(-values, patient_ids)
        elif self.column.kind == "category" and len(self.levels) <= MAX_CATEGORIES:
            self.levels.update(as_text(without_marks(raw, self.column.missing), raw.name).drop_nulls().unique().to_list())

    def completed(self) -> Column:
        if self.column.kind == "number":
            low, high = self.negative_low.value, self.high.value
            return dataclasses.replace(self.column, low=None if low is None else -low, high=high)
        listed = tuple(sorted(self.levels)) if len(self.levels) <= MAX_CATEGORIES else None
        return dataclasses.replace(self.column, categories=listed)


def read_through(
    archive: Archive, schema: Schema, patient_ids: Ints, taught: Bools, block_rows: int, progress: Progress, *, inferred: bool = True
) -> tuple[Schema, pl.DataFrame]:
    """Read all rows once: check that they conform to a schema, complete an inferred one by them, and collect the rows that teach.

    Parameters
    ----------
    archive : Archive
    schema : Schema
    patient_ids : (n,)
    taught : (n,), the rows to collect
    block_rows : int
    progress : called with a message after each file
    inferred : bool
        Whether the schema's levels and ranges are those of a sample, and give way to those of all rows; a schema that a person has edited
        stays as it is.

    Returns
    -------
    schema : Schema
    frame : pl.DataFrame, the collected rows as they are in the archive, without columns that the schema ignores

    Raises
    ------
    InputError
        A file with values that its column cannot have; the message names the file.
    """
    features = [column for column in schema.columns if column.role in ("feature", "expert")]
    open_levels = Schema(tuple(dataclasses.replace(c, categories=None) if inferred and c.kind == "category" else c for c in features))
    facts = [_ColumnFacts(c, set(), Extremes(), Extremes()) for c in features if c.kind != "list"] if inferred else []
    used, collected = [column.name for column in schema.columns if column.role != "ignore"], []
    for block, frame in archive.read_blocks(block_rows, used):
        rows = conform_block(open_levels, archive, block.file, frame)
        for fact in facts:
            fact.add(frame.get_column(fact.column.name), rows.get_column(fact.column.name), patient_ids[block.span])
        collected.append(frame.filter(pl.Series(taught[block.span])))
        if block.first + block.rows == archive.files[block.file].first + archive.files[block.file].rows:
            progress(f"read {block.file + 1} of {len(archive.files)} files")
    completed = {fact.column.name: fact.completed() for fact in facts}
    return Schema(tuple(completed.get(column.name, column) for column in schema.columns)), pl.concat(collected)


def conform_block(schema: Schema, archive: Archive, file: int, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a block of one file as the schema's features; an error names the file."""
    try:
        return schema.conform(frame)
    except InputError as error:
        raise InputError(f"{printable(archive.files[file].path)}: {error}") from error
