"""Blocks of columns that are measured together (labs, vitals, a questionnaire), and the blocks that a row or a site lacks.

The schema declares blocks. Where it declares none, columns with missing values in the same rows are suggested as a block, and columns that
share a prefix before one of ``_ . : /``; suggestions should be reviewed by somebody who knows the table.

Shapes: n rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame

ALL = "all blocks"
NO_BLOCKS = (
    "block_dropout needs blocks of columns, and there are none: declare them in the schema (nearward schema writes a file; "
    'give each column measured together the same "block"), or leave block_dropout at 0'
)
_MIN_CORRELATION = 0.9  # of the missing masks of two columns of a block
_MIN_MISSING = 0.01  # share of rows; columns that are missing less often, or present less often, are not compared
_PREFIX = re.compile(r"^([^_.:/]+)[_.:/]")


def with_blocks(schema: Schema, frame: pl.DataFrame) -> Schema:
    """Return the schema with blocks: its own where it declares any, else those that the frame suggests.

    Parameters
    ----------
    schema : Schema
    frame : pl.DataFrame, n conformed rows

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [1.0, 2, 3, 4], "lab_na": [1.0, 2, 3, 4], "lab_k": [1.0, 2, 3, 4]})
    >>> {column.name: column.block for column in with_blocks(Schema.infer(frame), frame).columns}
    {'age': None, 'lab_na': 'lab', 'lab_k': 'lab'}
    """
    if columns_by_block(schema):
        return schema
    block_of = {name: block for block, names in _suggest(frame).items() for name in names}
    return Schema(tuple(replace(column, block=block_of.get(column.name)) for column in schema.columns))


def columns_by_block(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return the columns of each block: features and experts only, in the order of the schema."""
    blocks: dict[str, list[str]] = {}
    for column in schema.columns:
        if column.block is not None and column.role in ("feature", "expert"):
            blocks.setdefault(column.block, []).append(column.name)
    return {name: tuple(columns) for name, columns in blocks.items()}


def availability(frame: pl.DataFrame | pl.LazyFrame, schema: Schema) -> pl.Series:
    """Return each row's missingness pattern: the blocks of which every column is missing.

    As a column beside a risk it is a subgroup: ``evaluate_risk(..., subgroups=["available"])``.

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
    rows = schema.conform(add_missing_blocks(to_frame(frame), schema))
    blocks = columns_by_block(schema)
    if not blocks:
        return pl.Series("available", [ALL] * rows.height, dtype=pl.String)
    missing = rows.select(pl.all_horizontal(pl.col(columns).is_null()).alias(name) for name, columns in blocks.items())
    names = pl.concat_str([pl.when(pl.col(name)).then(pl.lit(name)) for name in blocks], separator=", ", ignore_nulls=True)
    pattern = pl.when(names == "").then(pl.lit(ALL)).otherwise(pl.concat_str(pl.lit("without "), names))
    return missing.select(pattern.alias("available")).to_series()


def missing_blocks(frame: pl.DataFrame, schema: Schema) -> list[str]:
    """Return the blocks without a value in any row of a conformed frame: those that a site does not measure."""
    empty = {name for name in frame.columns if frame.get_column(name).null_count() == frame.height}
    return [block for block, columns in columns_by_block(schema).items() if empty.issuperset(columns)]


def add_missing_blocks(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Add, all missing, the columns of blocks of which a frame has no column; blocks with some columns stay as they are."""
    absent = [columns for columns in columns_by_block(schema).values() if not set(columns) & set(frame.columns)]
    return frame.with_columns(pl.lit(None).alias(name) for columns in absent for name in columns)


def _suggest(frame: pl.DataFrame) -> dict[str, Sequence[str]]:
    """Suggest blocks: columns that are missing together first, then shared prefixes among the remaining columns."""
    blocks: dict[str, Sequence[str]] = {}
    for columns in _missing_together(frame):
        blocks[f"{columns[0]} and {len(columns) - 1} more"] = columns
    in_block = {name for columns in blocks.values() for name in columns}
    prefixes: dict[str, list[str]] = {}
    for name in frame.columns:
        match = _PREFIX.match(name)
        if match and name not in in_block:
            prefixes.setdefault(match[1], []).append(name)
    blocks |= {prefix: names for prefix, names in prefixes.items() if 1 < len(names) < frame.width}
    return blocks


def _missing_together(frame: pl.DataFrame) -> list[list[str]]:
    """Group two or more columns by the correlation of their missing masks, each column with its group's first."""
    missing = {column.name: column.is_null().to_numpy() for column in frame.iter_columns()}
    names = [name for name, mask in missing.items() if _MIN_MISSING <= mask.mean() <= 1 - _MIN_MISSING]
    return group_by_first(names, lambda first, name: bool(np.corrcoef(missing[first], missing[name])[0, 1] >= _MIN_CORRELATION))


def group_by_first(names: Sequence[str], alike: Callable[[str, str], bool]) -> list[list[str]]:
    """Put each name into the first group whose first name it is alike; return the groups of two or more."""
    groups: list[list[str]] = []
    for name in names:
        group = next((group for group in groups if alike(group[0], name)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return [group for group in groups if len(group) > 1]
