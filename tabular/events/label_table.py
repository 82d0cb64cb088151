"""Labels: the subjects and moments at which a risk is wanted, and maybe the outcome (label schema of MEDS 0.4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.events.reading import SUBJECT, Events, as_time

PREDICTION_TIME, LABEL = "prediction_time", "boolean_value"


def read_labels(source: str | Path | pl.DataFrame | pl.LazyFrame, events: Events, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Return labels in the dtypes of the events, in their order, with all other columns as they are.

    Parameters
    ----------
    source : path or frame of q rows
        ``subject_id``, ``prediction_time``, and maybe ``boolean_value``.
    events : Events
    columns : mapping, optional
        The source's names, where they are other ones: ``{"subject_id": "stay"}``.

    Raises
    ------
    InputError, MissingColumns
        Missing columns or values, other dtypes than the events' subjects and times, an outcome that is not Boolean, a subject with two
        different outcomes at one time.
    """
    labels = source.collect() if isinstance(source, pl.LazyFrame) else source if isinstance(source, pl.DataFrame) else read_table(source)
    require_columns((columns or {}).values(), labels.columns)
    labels = labels.rename({theirs: name for name, theirs in (columns or {}).items()})
    require_columns([SUBJECT, PREDICTION_TIME], labels.columns)
    for name in (SUBJECT, PREDICTION_TIME):
        missing = labels.get_column(name).null_count()
        if missing:
            raise InputError(f"column {name!r} of the labels has {missing} missing values: each label needs a subject and a time")
    given = labels.schema[SUBJECT]
    text = events.frame.collect_schema()[SUBJECT] == pl.String
    if given.is_integer() == text or not (given.is_integer() or given == pl.String or isinstance(given, pl.Categorical | pl.Enum)):
        raise InputError(f"column {SUBJECT!r} is {dtype_name(given)} in the labels and {'text' if text else 'whole numbers'} in the events")
    time = labels.schema[PREDICTION_TIME]
    if (getattr(time, "time_zone", None) is not None) != events.zoned:
        have = (
            "the events have a time zone and the prediction times"
            if events.zoned
            else "the prediction times have a time zone and the events"
        )
        raise InputError(f"{have} have none: give both a zone (.dt.replace_time_zone), or neither")
    labels = labels.with_columns(
        pl.col(SUBJECT).cast(pl.String if text else pl.Int64), as_time(time, PREDICTION_TIME).alias(PREDICTION_TIME)
    )
    return _with_outcome(labels)


def _with_outcome(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the labels with a Boolean outcome, where they have one."""
    if LABEL not in labels.columns:
        return labels
    outcome = labels.get_column(LABEL)
    if not (outcome.dtype in (pl.Boolean, pl.Null) or (outcome.dtype.is_integer() and outcome.drop_nulls().is_in([0, 1]).all())):
        raise InputError(f"column {LABEL!r} must be true or false, got {dtype_name(outcome.dtype)}")
    labels = labels.with_columns(outcome.cast(pl.Boolean))
    different = labels.drop_nulls(LABEL).group_by(SUBJECT, PREDICTION_TIME).agg(pl.col(LABEL).n_unique())
    contradictory = int((different.get_column(LABEL) > 1).sum())
    if contradictory:
        raise InputError(f"{contradictory} subjects and times have both outcomes in the labels: keep one row of each")
    return labels
