"""Outcomes that arrive after the scores: joined to a job's output by the column that identifies its rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from nearward.batch.meds import PREDICTION_TIME, SUBJECT
from nearward.tabular.errors import InputError, require_columns

RISK = "risk"  # column of the joined frame
_MEDS_RISK = "predicted_boolean_probability"


def join_outcomes(folder: Path, outcomes: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """Return the risks of a job with the outcome of each row; null where it is not known.

    Parameters
    ----------
    folder : path
        Folder that ``nearward score`` wrote.
    outcomes : pl.DataFrame
        The outcome, and the columns that identify a row in the scores: the id; without ids the table and the row number (``file``,
        ``row``); of MEDS labels ``subject_id`` and ``prediction_time``.
    outcome : str
        Column of the outcome.

    Returns
    -------
    frame of the outcome and ``risk``; of MEDS labels with ``subject_id``, as subjects have several rows

    Raises
    ------
    MissingColumns, InputError
        Columns are missing, several outcomes have the same id, or the folder has no scores.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{folder} has no scores. Give folders that nearward score wrote")
    header = list(pl.read_parquet_schema(parts[0]))
    if _MEDS_RISK in header:
        keys, risk = [SUBJECT, PREDICTION_TIME], _MEDS_RISK
    else:
        keys, risk = (["file", "row"] if header[1] == "row" else [header[1]]), RISK
    scores = pl.concat([pl.read_parquet(part, columns=[*keys, risk], glob=False) for part in parts])
    if outcome in (*keys, RISK):
        raise InputError(f"the outcome must be a column of its own, got --outcome {outcome}")
    if keys == ["file", "row"] and not set(keys) <= set(outcomes.columns):
        raise InputError(
            "the model was fitted without ids, so that its scores name a row by file and row: the outcomes need these two columns, as they "
            "are in the scores. Fit with --id, and outcomes are joined by it"
        )
    require_columns([*keys, outcome], outcomes.columns)
    known = outcomes.select(*(pl.col(key).cast(scores.schema[key], strict=False) for key in keys), outcome).drop_nulls()
    repeats = known.height - known.select(keys).n_unique()
    if repeats:
        raise InputError(f"{repeats} rows of the outcomes have the same {' and '.join(keys)} as another: keep one row for each")
    joined = scores.select(*keys, pl.col(risk).alias(RISK)).join(known, on=keys, how="left")
    if joined.height and joined.get_column(outcome).null_count() == joined.height:
        raise InputError(f"no row of {folder} has an outcome: do the outcomes have the {' and '.join(keys)} of the scores?")
    return joined.select(*([SUBJECT] if SUBJECT in keys else []), outcome, RISK)
