"""New rows as a model reads them: a site's own names of columns, columns that it lacks, and rows that are stored already.

Shapes: n local rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from nearward.adaptation.stored_patients import OUTCOME
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, InputError, list_names, require_columns
from nearward.tabular.preprocessing.feature_blocks import columns_by_block
from nearward.tabular.typing import Ints

NOT_HERE = "not measured at this site"
_COPIED = 0.5  # share of new rows that are stored, from which on they are refused
_FEWEST_COPIES = 3
_FEWEST_VALUES = 10  # of a median


def local_frame(frame: pl.DataFrame, schema: Schema, columns: Mapping[str, str]) -> tuple[pl.DataFrame, Schema, tuple[str, ...]]:
    """Rename a site's columns, and declare those that it lacks as a block of their own, which may be absent from then on.

    Parameters
    ----------
    frame : n rows
    schema : Schema, the model's
    columns : the site's name -> the model's

    Returns
    -------
    frame : with the model's names
    schema : Schema
    lacking : names of the columns that the site lacks

    Raises
    ------
    InputError
        A name that the site or the model does not have, or that two columns would share.
    """
    require_columns(columns, frame.columns)
    require_columns(columns.values(), [column.name for column in schema.columns])
    taken = sorted({name for name in columns.values() if name in frame.columns and name not in columns})
    if taken or len(set(columns.values())) < len(columns):
        raise InputError(f"columns maps to names that are taken: {taken or sorted(columns.values())}. Drop or rename one of them")
    frame = frame.rename(dict(columns))
    lacking = tuple(name for name in schema.named("feature", "expert") if name not in frame.columns)
    if not lacking:
        return frame, schema, lacking
    if len(lacking) == len(schema.named("feature", "expert")):
        raise InputError("the site has none of the model's columns: name them (columns=, --rename THEIRS=OURS)")
    blocks = {block: names for block, names in columns_by_block(schema).items() if set(names) <= set(lacking)}
    in_blocks = {name for names in blocks.values() for name in names}
    for block, names in blocks.items():
        warnings.warn(
            f"the site lacks the block {block!r}: {list_names(names)}. Risks rest on the other columns", DataWarning, stacklevel=4
        )
    if single := [name for name in lacking if name not in in_blocks]:
        warnings.warn(
            f"the site lacks the columns {list_names(single)}: risks rest on the others. If it names them otherwise, say so (columns=, "
            "--rename)",
            DataWarning,
            stacklevel=4,
        )
    local = tuple(replace(column, block=NOT_HERE) if column.name in single else column for column in schema.columns)
    return frame, Schema(local), lacking


def warn_of_other_units(records: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Warn of columns whose median at the site lies outside the middle 90 % of the stored values: a unit that few values give away.

    Parameters
    ----------
    records : stored rows
    rows : conformed, n local rows
    """
    shifted = []
    for name, dtype in rows.schema.items():
        if not dtype.is_numeric() or name not in records.columns:
            continue
        stored, here = records.get_column(name).drop_nulls(), rows.get_column(name).drop_nulls()
        if min(len(stored), len(here)) >= _FEWEST_VALUES and not stored.quantile(0.05) <= here.median() <= stored.quantile(0.95):  # type: ignore[operator]
            shifted.append(name)
    if shifted:
        warnings.warn(
            f"columns whose median at the site lies outside the middle 90 % of the training values: {list_names(shifted)}. In another "
            "unit, or coded otherwise? Convert these columns, or drop them",
            DataWarning,
            stacklevel=4,
        )


def refuse_stored_rows(records: pl.DataFrame, rows: pl.DataFrame, outcome: Ints, name: str, why: str) -> None:
    """Refuse new rows half of which are identical to stored rows, in all columns and the outcome; warn of fewer.

    Coarse tables have identical rows by chance: as many as stored rows have a twin among the stored ones, or new rows among the new.

    Parameters
    ----------
    records : stored rows, with their outcomes
    rows : n new rows, conformed
    outcome : (n,)
    name : str
        What the stored rows are called.
    why : str
        What is wrong with rows that are stored.

    Raises
    ------
    InputError
        Says how many.
    """
    names = [name for name, dtype in rows.schema.items() if not dtype.is_nested()]
    if records.width == 0 or not names:
        return
    stored = records.select(*names, OUTCOME)
    new = rows.select(names).with_columns(pl.Series(OUTCOME, outcome).cast(stored.schema[OUTCOME]))
    copies = new.join(stored.unique(), on=stored.columns, how="semi", nulls_equal=True).height
    by_chance = new.height * max(float(part.is_duplicated().mean()) for part in (stored, new))  # type: ignore[arg-type]
    if copies < _FEWEST_COPIES or copies <= 2 * by_chance:
        return
    message = f"{copies} of {new.height} rows are identical to {name}, in all columns and the outcome: {why}. Leave them out"
    if copies > _COPIED * new.height:
        raise InputError(message)
    warnings.warn(message, DataWarning, stacklevel=4)
