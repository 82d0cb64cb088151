"""Outcomes that arrive after the scores: joined to the output of one or more jobs by the columns that identify its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from nearward.batch.meds import PREDICTION_TIME, SUBJECT
from nearward.tabular.errors import InputError, list_names, require_columns

RISK = "risk"  # column of the joined frame
RUN = "run"  # column of the outcomes that names the run which scored a row
_MEDS_RISK = "predicted_boolean_probability"


def join_outcomes(runs: Mapping[str, Path], outcomes: pl.DataFrame, outcome: str) -> list[pl.DataFrame]:
    """Return the risks of each run with the outcome of each row; null where it is not known.

    Parameters
    ----------
    runs : mapping
        Folders that ``nearward score`` wrote, by the names of the runs.
    outcomes : pl.DataFrame
        The outcome, and the columns that identify a row in the scores: the id; without ids the table and the row number (``file``,
        ``row``); of MEDS labels ``subject_id`` and ``prediction_time``. Where a row of several runs has an outcome in each, also ``run``.
    outcome : str
        Column of the outcome.

    Returns
    -------
    frames of the outcome and ``risk``; of MEDS labels with ``subject_id``, as subjects have several rows

    Raises
    ------
    MissingColumns, InputError
        Columns are missing, several outcomes have the same id, a folder has no scores, or it is not said which run an outcome belongs to.
    """
    scores = {name: _read_scores(folder) for name, folder in runs.items()}
    if len(runs) > 1 and {"file", "row"} <= set(outcomes.columns) and RUN not in outcomes.columns:
        _refuse_shared_files(scores.values())
    return [_join(name, frame, outcomes, outcome) for name, frame in scores.items()]


def _read_scores(folder: Path) -> pl.DataFrame:
    """Return the columns that identify the rows of a run, and their risk as the last one."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{folder} has no scores. Give folders that nearward score wrote")
    header = list(pl.read_parquet_schema(parts[0]))
    if _MEDS_RISK in header:
        keys, risk = [SUBJECT, PREDICTION_TIME], _MEDS_RISK
    else:
        keys, risk = (["file", "row"] if header[1] == "row" else [header[1]]), RISK
    scores = pl.concat([pl.read_parquet(part, columns=[*keys, risk], glob=False) for part in parts])
    return scores.select(*keys, pl.col(risk).alias(RISK))


def _keys(scores: pl.DataFrame) -> list[str]:
    return scores.columns[:-1]


def _refuse_shared_files(scores: Iterable[pl.DataFrame]) -> None:
    """Refuse runs without ids of tables with the same name: an outcome that names a file and a row would be joined to a row of each."""
    files = Counter[str]()
    for frame in scores:
        files.update(frame.get_column("file").unique() if _keys(frame) == ["file", "row"] else [])
    if shared := sorted(file for file, times in files.items() if times > 1):
        raise InputError(
            f"several runs scored tables of the same name, {list_names(shared)}, without ids: file and row do not say of which run an "
            f"outcome is. Add a column {RUN!r} with the run's folder to the outcomes, or fit with --id"
        )


def _join(run: str, scores: pl.DataFrame, outcomes: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """Return the outcome and the risk of each row of a run."""
    keys = _keys(scores)
    if outcome in (*keys, RISK, RUN):
        raise InputError(f"the outcome must be a column of its own, got --outcome {outcome}")
    if keys == ["file", "row"] and not set(keys) <= set(outcomes.columns):
        raise InputError(
            "the model was fitted without ids, so that its scores name a row by file and row: the outcomes need these two columns, as they "
            "are in the scores. Fit with --id, and outcomes are joined by it"
        )
    require_columns([*keys, outcome], outcomes.columns)
    names_runs = RUN in outcomes.columns and RUN not in keys
    if names_runs:
        outcomes = outcomes.filter(pl.col(RUN).cast(pl.String).str.strip_suffix("/") == run)
    known = outcomes.select(*(pl.col(key).cast(scores.schema[key], strict=False) for key in keys), outcome).drop_nulls()
    repeats = known.height - known.select(keys).n_unique()
    if repeats:
        more = "" if names_runs else f", or, where each is of another run, add a column {RUN!r} with the run's folder"
        raise InputError(f"{repeats} rows of the outcomes have the same {' and '.join(keys)} as another: keep one row for each{more}")
    joined = scores.join(known, on=keys, how="left", maintain_order="left")
    if joined.height and joined.get_column(outcome).null_count() == joined.height:
        columns = " and ".join([*keys, *([RUN] if names_runs else [])])
        raise InputError(f"no row of run {run} has an outcome: do the outcomes have the {columns} of the scores?")
    return joined.select(*([SUBJECT] if SUBJECT in keys else []), outcome, RISK)
