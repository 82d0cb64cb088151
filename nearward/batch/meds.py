"""Tables of the Medical Event Data Standard: labels in, the five columns that its evaluation reads out.

A label says that a subject (``subject_id``) is to be judged as of a moment (``prediction_time``), and may say what came of it
(``boolean_value``). Data may be used up to and including that moment: a label row takes its subject's latest feature row of that time or
earlier, never a later one.

References
----------
MEDS 0.4, label schema (Medical-Event-Data-Standard/meds); prediction schema of meds-evaluation 0.0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from nearward.tabular.errors import InputError

SUBJECT, MOMENT, KNOWN = "subject_id", "prediction_time", "boolean_value"
_TIME = "time"
_ROW = "(row)"


def key_columns(labels: pl.DataFrame) -> pl.DataFrame:
    """Return subject, moment and known outcome in the standard's dtypes; the outcome null where the labels have none.

    Raises
    ------
    InputError
        A dtype that is not the standard's and does not turn into it without loss, or a missing subject or moment.
    """
    columns = [_cast(labels.get_column(SUBJECT), pl.Int64()), _moment(labels.get_column(MOMENT))]
    for column in columns:
        if column.null_count():
            raise InputError(f"column {column.name!r} misses {column.null_count()} values: each label needs a subject and a moment")
    if KNOWN in labels.columns:
        columns.append(_cast(labels.get_column(KNOWN), pl.Boolean()))
    else:
        columns.append(pl.Series(KNOWN, [None] * labels.height, dtype=pl.Boolean))
    return pl.DataFrame(columns)


def features_as_of(keys: pl.DataFrame, tables: Sequence[Path], columns: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """Find what was known of each label's subject at its moment.

    Parameters
    ----------
    keys : pl.DataFrame of q rows, from ``key_columns``
    tables : paths
        Parquet with ``subject_id``; with ``time`` (else ``prediction_time``), where a subject has several rows.
    columns : features to take

    Returns
    -------
    features : pl.DataFrame, q rows
    found : (q,) bool, False where nothing was known yet; the features are null there

    Raises
    ------
    InputError
        Two feature rows of one subject at one time, or several of one subject in tables without a time.
    """
    subjects = keys.get_column(SUBJECT)
    scan = pl.scan_parquet(list(tables), glob=False)
    held = scan.collect_schema()
    time = next((name for name in (_TIME, MOMENT) if name in held), None)
    subject = pl.col(SUBJECT).cast(pl.Int64)
    near = subject.is_between(subjects.min(), subjects.max()) & subject.is_in(subjects.unique().to_list())  # the range skips row groups
    wanted = [SUBJECT, *([time] if time else []), *columns]
    there = scan.select(wanted).filter(near).collect().with_columns(subject, pl.lit(True).alias("(found)"))
    asked = keys.select(SUBJECT, MOMENT).with_row_index(_ROW)
    if time is None:
        _refuse_repeats(there, [SUBJECT], "tables without a 'time' column need one row a subject")
        joined = asked.join(there, on=SUBJECT, how="left", maintain_order="left")
    else:
        there = there.with_columns(_moment(there.get_column(time)).alias(time)).drop_nulls(time)
        _refuse_repeats(there, [SUBJECT, time], "which of them holds cannot be told")
        there = there.rename({time: "(time)"}).sort("(time)")
        ordered = asked.sort(MOMENT)
        joined = ordered.join_asof(there, left_on=MOMENT, right_on="(time)", by=SUBJECT, strategy="backward", check_sortedness=False).sort(
            _ROW
        )
    return joined.select(columns), joined.get_column("(found)").fill_null(value=False)


def predictions(keys: pl.DataFrame, risk: pl.Series, threshold: float) -> pl.DataFrame:
    """Return the five columns of the MEDS evaluation schema, q rows; a null risk stays null.

    Examples
    --------
    >>> from datetime import datetime
    >>> keys = key_columns(pl.DataFrame({"subject_id": [7], "prediction_time": [datetime(2020, 1, 1)], "boolean_value": [True]}))
    >>> predictions(keys, pl.Series([0.3]), 0.2).row(0)
    (7, datetime.datetime(2020, 1, 1, 0, 0), True, True, 0.3)
    """
    risk = risk.cast(pl.Float64)
    return keys.with_columns((risk >= threshold).alias("predicted_boolean_value"), risk.alias("predicted_boolean_probability"))


def _moment(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if not isinstance(column.dtype, pl.Date | pl.Datetime):
        raise InputError(f"column {column.name!r} must hold times, got {column.dtype.base_type()}")
    return column.cast(pl.Datetime("us"))


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    fits = column.dtype in (dtype, pl.Null) or (dtype == pl.Int64 and column.dtype.is_integer())
    if not fits:
        raise InputError(f"column {column.name!r} must be {dtype}, as MEDS has it, got {column.dtype.base_type()}")
    return column.cast(dtype)


def _refuse_repeats(frame: pl.DataFrame, by: list[str], why: str) -> None:
    repeats = frame.height - frame.select(pl.struct(by).n_unique()).item()
    if repeats:
        raise InputError(f"{repeats} feature rows repeat another's {' and '.join(by)}: {why}")
