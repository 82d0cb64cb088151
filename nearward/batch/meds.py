"""The Medical Event Data Standard: labels as input, the five columns of its evaluation schema as output.

A label asks for the risk of a subject (``subject_id``) at a time (``prediction_time``), and may give the outcome (``boolean_value``). Data
may be used up to and including that time: a label row takes its subject's latest feature row of that time or earlier, never a later one.

References
----------
MEDS 0.4, label schema (Medical-Event-Data-Standard/meds); prediction schema of meds-evaluation 0.0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from nearward.tabular.errors import InputError

SUBJECT, PREDICTION_TIME, LABEL = "subject_id", "prediction_time", "boolean_value"
_TIME = "time"
_ROW, _FOUND = "(row)", "(found)"


def key_columns(labels: pl.DataFrame) -> pl.DataFrame:
    """Return subject, prediction time and outcome in the standard's dtypes; the outcome is null where the labels have none.

    Raises
    ------
    InputError
        A dtype that cannot be cast to the standard's without loss, or a missing subject or prediction time.
    """
    columns = [_cast(labels.get_column(SUBJECT), pl.Int64()), _to_datetime(labels.get_column(PREDICTION_TIME))]
    for column in columns:
        if column.null_count():
            raise InputError(
                f"column {column.name!r} has {column.null_count()} missing values: each label needs a subject and a prediction time"
            )
    if LABEL in labels.columns:
        columns.append(_cast(labels.get_column(LABEL), pl.Boolean()))
    else:
        columns.append(pl.Series(LABEL, [None] * labels.height, dtype=pl.Boolean))
    return pl.DataFrame(columns)


def features_as_of(keys: pl.DataFrame, tables: Sequence[Path], columns: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """Join each label with its subject's latest features up to the prediction time.

    Parameters
    ----------
    keys : pl.DataFrame of q rows, from ``key_columns``
    tables : paths
        Parquet with ``subject_id``; with ``time`` (else ``prediction_time``), where a subject has several rows.
    columns : features to take

    Returns
    -------
    features : pl.DataFrame, q rows
    has_features : (q,) bool; where False, the features are null

    Raises
    ------
    InputError
        Two feature rows of one subject at one time, or several of one subject in tables without a time.
    """
    subjects = keys.get_column(SUBJECT)
    scan = pl.scan_parquet(list(tables), glob=False)
    schema = scan.collect_schema()
    time = next((name for name in (_TIME, PREDICTION_TIME) if name in schema), None)
    subject = pl.col(SUBJECT).cast(pl.Int64)
    requested = subject.is_between(subjects.min(), subjects.max()) & subject.is_in(
        subjects.unique().to_list()
    )  # the range lets Polars skip row groups
    names = [SUBJECT, *([time] if time else []), *columns]
    features = scan.select(names).filter(requested).collect().with_columns(subject, pl.lit(True).alias(_FOUND))
    queries = keys.select(SUBJECT, PREDICTION_TIME).with_row_index(_ROW)
    if time is None:
        _refuse_repeats(features, [SUBJECT], "tables without a 'time' column need one row for each subject")
        joined = queries.join(features, on=SUBJECT, how="left", maintain_order="left")
    else:
        features = features.with_columns(_to_datetime(features.get_column(time)).alias(time)).drop_nulls(time)
        _refuse_repeats(features, [SUBJECT, time], "keep one row for each subject and time")
        features = features.rename({time: "(time)"}).sort("(time)")
        joined = (
            queries.sort(PREDICTION_TIME)
            .join_asof(features, left_on=PREDICTION_TIME, right_on="(time)", by=SUBJECT, strategy="backward", check_sortedness=False)
            .sort(_ROW)
        )
    return joined.select(columns), joined.get_column(_FOUND).fill_null(value=False)


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


def _to_datetime(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if not isinstance(column.dtype, pl.Date | pl.Datetime):
        raise InputError(f"column {column.name!r} must be a date or datetime, got {column.dtype.base_type()}")
    return column.cast(pl.Datetime("us"))


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    fits = column.dtype in (dtype, pl.Null) or (dtype == pl.Int64 and column.dtype.is_integer())
    if not fits:
        raise InputError(f"column {column.name!r} must be {dtype} (MEDS schema), got {column.dtype.base_type()}")
    return column.cast(dtype)


def _refuse_repeats(frame: pl.DataFrame, by: list[str], why: str) -> None:
    repeats = frame.height - frame.select(pl.struct(by).n_unique()).item()
    if repeats:
        raise InputError(f"{repeats} feature rows have the same {' and '.join(by)} as another: {why}")
