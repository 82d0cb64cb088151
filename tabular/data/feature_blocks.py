"""Blocks of columns that are measured together: labs, vitals, a questionnaire. Which there are, and which a patient or a site lacks.

A block is what the schema says it is. Where it says nothing, columns that miss their values in the same rows are taken for a block,
and columns that share a prefix before one of ``_ . : /``: a guess, to be shown to somebody who knows the table.

Letters: n rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame

ALL = "all blocks"
NO_BLOCKS = (
    "block_dropout needs blocks of columns, and none were found: name them in the schema (nearward schema writes a file; "
    'give each column measured together the same "block"), or leave block_dropout at 0'
)
_TOGETHER = 0.9  # correlation of two columns' gaps from which on they are one block's
_SELDOM = 0.01  # gaps in fewer rows than this, or in all but so few, tell nothing
_PREFIX = re.compile(r"^([^_.:/]+)[_.:/]")


def with_blocks(schema: Schema, frame: pl.DataFrame) -> Schema:
    """Return the schema with blocks: its own where it names any, else those that the frame suggests.

    Parameters
    ----------
    schema : Schema
    frame : pl.DataFrame, n rows, as ``schema.conform`` gives them

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [1.0, 2, 3, 4], "lab_na": [1.0, 2, 3, 4], "lab_k": [1.0, 2, 3, 4]})
    >>> {column.name: column.block for column in with_blocks(Schema.infer(frame), frame).columns}
    {'age': None, 'lab_na': 'lab', 'lab_k': 'lab'}
    """
    if blocks_of(schema):
        return schema
    found = {name: block for block, names in _suggested(frame).items() for name in names}
    return Schema(tuple(replace(column, block=found.get(column.name)) for column in schema.columns))


def blocks_of(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return the columns of each block: features and experts only, in the order of the schema."""
    blocks: dict[str, list[str]] = {}
    for column in schema.columns:
        if column.block is not None and column.role in ("feature", "expert"):
            blocks.setdefault(column.block, []).append(column.name)
    return {name: tuple(columns) for name, columns in blocks.items()}


def availability(frame: pl.DataFrame | pl.LazyFrame, schema: Schema) -> pl.Series:
    """Name each row's pattern: which blocks it lacks, every column of them missing.

    Put it beside a risk, and ``evaluate_risk(..., subgroups=["available"])`` judges the risk pattern by pattern.

    Parameters
    ----------
    frame : n rows
    schema : Schema, with blocks

    Returns
    -------
    pl.Series, "available", n texts: ``all blocks`` or ``without labs, vitals``

    Raises
    ------
    MissingColumns
        The frame lacks columns, other than all of a block.

    Examples
    --------
    >>> from nearward.tabular.data.schema import Column
    >>> schema = Schema((Column("age"), Column("na", block="labs"), Column("k", block="labs")))
    >>> availability(pl.DataFrame({"age": [60, 70], "na": [140.0, None], "k": [None, None]}), schema).to_list()
    ['all blocks', 'without labs']
    """
    rows = schema.conform(fill_lacking(to_frame(frame), schema))
    blocks = blocks_of(schema)
    gone = {name: rows.select(pl.all_horizontal(pl.col(columns).is_null())).to_series() for name, columns in blocks.items()}
    lacks = pl.DataFrame([series.alias(name) for name, series in gone.items()])
    if not gone:
        return pl.Series("available", [ALL] * rows.height, dtype=pl.String)
    named = [pl.when(pl.col(name)).then(pl.lit(name)) for name in gone]
    text = pl.concat_str(named, separator=", ", ignore_nulls=True)
    pattern = pl.when(text == "").then(pl.lit(ALL)).otherwise(pl.concat_str(pl.lit("without "), text))
    return lacks.select(pattern.alias("available")).to_series()


def lacking(frame: pl.DataFrame, schema: Schema) -> list[str]:
    """Return the blocks that no row of a conformed frame has any value of: a site that does not measure them."""
    empty = {name for name in frame.columns if frame.get_column(name).null_count() == frame.height}
    return [block for block, columns in blocks_of(schema).items() if empty.issuperset(columns)]


def fill_lacking(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Add the columns of blocks that a frame has no column of, all missing; part of a block is no reason to guess."""
    absent = [columns for columns in blocks_of(schema).values() if not set(columns) & set(frame.columns)]
    return frame.with_columns(pl.lit(None).alias(name) for columns in absent for name in columns)


def _suggested(frame: pl.DataFrame) -> dict[str, Sequence[str]]:
    """Suggest blocks: shared gaps first, then shared prefixes among the columns that are left."""
    blocks: dict[str, Sequence[str]] = {}
    for columns in _gaps_together(frame):
        blocks[f"{columns[0]} and {len(columns) - 1} more"] = columns
    taken = {name for columns in blocks.values() for name in columns}
    prefixes: dict[str, list[str]] = {}
    for name in frame.columns:
        match = _PREFIX.match(name)
        if match and name not in taken:
            prefixes.setdefault(match[1], []).append(name)
    blocks |= {prefix: names for prefix, names in prefixes.items() if 1 < len(names) < frame.width}
    return blocks


def _gaps_together(frame: pl.DataFrame) -> list[list[str]]:
    """Return groups of two or more columns whose gaps go together, each column with its group's first."""
    gaps = {column.name: column.is_null().to_numpy() for column in frame.iter_columns()}
    groups: list[list[str]] = []
    for name, gap in gaps.items():
        if not _SELDOM <= gap.mean() <= 1 - _SELDOM:
            continue
        home = next((group for group in groups if _correlation(gaps[group[0]], gap) >= _TOGETHER), None)
        if home is None:
            groups.append([name])
        else:
            home.append(name)
    return [group for group in groups if len(group) > 1]


def _correlation(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(np.corrcoef(one, other)[0, 1])
