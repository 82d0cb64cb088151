"""Data to try things on: made-up wards as a table and as events, and cohorts as a table file with a JSON sidecar.

The sidecar names the target, the id and patient columns, and columns that leak the outcome.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.simulated_ward import SimulatedWard, ward
from nearward.tabular.data.table_io import read_table
from nearward.tabular.data.validation import describe_event, validate_groups, validate_target
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.typing import Ints

__all__ = ["Cohort", "SimulatedWard", "read_cohort", "ward", "ward_events"]


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


def ward_events(subjects: int = 600, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make up events of patients on a ward, and a label for each two days after admission, with known truth.

    The risk rests on the slope of ``Creatinine`` and on age: levels of creatinine differ far more between patients than within one.
    ``PALLIATIVE_CARE`` is entered for most patients with the outcome, but after the prediction time: a feature of it would be a leak.

    Parameters
    ----------
    subjects : int
    seed : int

    Returns
    -------
    events : pl.DataFrame, ``subject_id``, ``time``, ``code``, ``numeric_value``
        Sex and birth, admission, creatinine (mg/dL) and heart rate every few hours, diagnoses, of which a few are common and many rare.
    labels : pl.DataFrame, ``subjects`` rows, ``subject_id``, ``prediction_time``, ``boolean_value``

    Examples
    --------
    >>> events, labels = ward_events(300, seed=1)
    >>> 0.1 < labels["boolean_value"].mean() < 0.4
    True
    """
    rng = np.random.default_rng(seed)
    age, slope = rng.normal(65, 12, subjects), rng.normal(0, 1, subjects)
    logit = 2.2 * slope + 0.04 * (age - 65) - 2.4
    outcome = rng.random(subjects) < 1 / (1 + np.exp(-logit))
    hours = rng.integers(0, 24 * 300, subjects).astype(float)  # of the admission
    parts: list[tuple[Any, Any, str | list[str], Any]] = []
    ids = np.arange(1, subjects + 1)

    def add(person: Any, after: Any, code: str | list[str], value: Any = None) -> None:
        """Add events some hours after admission."""
        parts.append((ids[person], hours[person] + after, code, np.full(len(person), np.nan) if value is None else value))

    every = np.arange(subjects)
    add(every, -age * 24 * 365.25, "MEDS_BIRTH")
    add(every, 0.0, "HOSPITAL_ADMISSION//URGENT")
    level = np.exp(rng.normal(0.3, 0.6, subjects))
    person, after = np.repeat(every, 12), rng.uniform(0, 47.9, 12 * subjects)
    rise = 0.006 * slope[person] * (after - 24)
    add(person, after, "Creatinine", (level[person] * np.exp(rise + rng.normal(0, 0.05, len(person)))).round(3))
    add(person, rng.uniform(0, 47.9, len(person)), "Heart rate", rng.normal(85, 14, len(person)).round())
    kinds = np.minimum(rng.zipf(1.5, 3 * subjects), 400)
    add(np.repeat(every, 3), 1.0, [f"DIAGNOSIS//D{kind:03d}" for kind in kinds])
    coded = np.flatnonzero(outcome & (rng.random(subjects) < 0.9))
    add(coded, rng.uniform(48.1, 96, len(coded)), "PALLIATIVE_CARE")
    add(every, rng.uniform(49, 300, subjects), "HOSPITAL_DISCHARGE")
    start = datetime(2020, 1, 1)
    tables = [
        pl.DataFrame({"subject_id": subject, "hours": hour, "code": code, "numeric_value": value}, strict=False)
        for subject, hour, code, value in parts
    ]
    time = (pl.lit(start) + pl.duration(microseconds=(pl.col("hours") * 3.6e9).round().cast(pl.Int64))).alias("time")
    sex = pl.DataFrame({"subject_id": ids, "code": np.where(rng.random(subjects) < 0.5, "SEX//F", "SEX//M")})
    timed = pl.concat(tables).select("subject_id", time.cast(pl.Datetime("us")), "code", pl.col("numeric_value").fill_nan(None))
    events = (
        pl.concat([sex, timed], how="diagonal").select("subject_id", "time", "code", "numeric_value").sort("subject_id", "time", "code")
    )
    moments = [start + timedelta(hours=48 + hour) for hour in hours]
    return events, pl.DataFrame({"subject_id": ids, "prediction_time": moments, "boolean_value": outcome})
