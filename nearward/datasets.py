"""Cohorts as a table file with a JSON sidecar that names the target, the id and patient columns, and columns that leak the outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nearward.tabular.data.table_io import read_table
from nearward.tabular.data.validation import describe_event, validate_groups, validate_target
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.typing import Ints


@dataclass(frozen=True)
class Cohort:
    """A prediction task on real patients.

    Parameters
    ----------
    name : str
        The file's stem; ``stem@task`` for another target of the same file.
    features : pl.DataFrame, n rows
        Without the target, the id and patient columns, and columns that leak the outcome.
    outcome : (n,), 0 or 1
    groups : (n,), patient numbers from 0, or None where every row is a patient of its own
    title : str
    event : str
        The column and the value that is the event.
    """

    name: str
    features: pl.DataFrame
    outcome: Ints
    groups: Ints | None
    title: str
    event: str


def read_cohort(table: str | Path, sidecar: str | Path | None = None, task: str | None = None) -> Cohort:
    """Read a cohort from its table and its sidecar.

    The sidecar is JSON with ``target`` and ``positive``, and may have ``id_columns``, ``group_column``, ``leak_columns``,
    ``title``, and ``extra_targets``: ``{name: {"column": …, "positive": …, "leak_columns": […]}}``.

    Parameters
    ----------
    table : path
    sidecar : path, optional
        By default the table's path with the suffix ``.json``.
    task : str, optional
        One of the sidecar's ``extra_targets``; its ``target`` by default.

    Raises
    ------
    InputError, MissingColumns
        A sidecar that cannot be read, or that names columns or tasks which do not exist.
    """
    table = Path(table)
    sidecar = table.with_suffix(".json") if sidecar is None else Path(sidecar)
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8"))
        target = {"column": about["target"], "positive": about["positive"]} if task is None else about["extra_targets"][task]
        column, positive = target["column"], target["positive"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{sidecar} is not a cohort's sidecar: {type(error).__name__} ({error})") from error
    frame = read_table(table)
    group_column = about.get("group_column")
    leaks = target.get("leak_columns", about.get("leak_columns", []))
    excluded = [column, *about.get("id_columns", []), *leaks, *([group_column] if group_column else [])]
    require_columns(excluded, frame.columns)
    frame = frame.filter(pl.col(column).is_not_null())
    groups = None if group_column is None else validate_groups(frame.get_column(group_column), frame.height)
    target_rows = validate_target(frame.get_column(column), positive=positive, max_classes=None, name=f"column {column!r}")
    return Cohort(
        name=table.stem if task is None else f"{table.stem}@{task}",
        features=frame.drop(set(excluded)),
        outcome=target_rows.outcome,
        groups=groups,
        title=str(about.get("title", table.stem)),
        event=f"{column} is {describe_event(target_rows.event)}",
    )
