"""Timelines of stored patients: the most telling events around each moment of prediction, chosen once when a model is fitted.

How telling an event is: the share of the encoders' gate that the features of its code have, times how unusual the event is. A number is as
unusual as it lies far from the code's usual value, in interquartile ranges; an occurrence by the negative logarithm of the share of
subjects that have its code. A death always comes first. Of each code, the most telling event before the moment is shown, and the most
telling one after it.

Times are relative to the moment; nothing but names of codes, numbers, the texts that are categories of features, and their times is kept,
and no free text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl

from nearward.adaptation.stored_patients import ID
from nearward.tabular.errors import ArtifactError
from nearward.tabular.events.code_columns import CodeColumns, code_of_column
from nearward.tabular.events.label_table import PREDICTION_TIME
from nearward.tabular.events.reading import CODE, DEATH, SUBJECT, TEXT, TIME, UNIT, VALUE, Events

HOURS, EVENT = "hours", "event"
MOST = 10  # events of a timeline
WINDOW = 168.0  # hours before and after the moment
_MOST_UNUSUAL = 10.0  # interquartile ranges; further, a number is likelier to be a slip
_HOURS_AS_DAYS = 48.0
_ROW, _RESULT = "(row)", "(result)"


def code_weights(codes: Sequence[CodeColumns], gate: Mapping[str, float]) -> dict[str, float]:
    """Return each code's share of the gate: the sum over its columns, ``Name`` and ``Name: statistic, span``.

    Parameters
    ----------
    codes : the codes that have columns of their own
    gate : share by column, see ``RiskClassifier.gate``
    """
    names = {one.name for one in codes}
    share: dict[str, float] = {}
    for column, value in gate.items():
        name = column if column in names else code_of_column(column)
        share[name] = share.get(name, 0.0) + value
    return {one.code: share.get(one.name, 0.0) for one in codes}


def choose_timelines(
    events: Events, labels: pl.DataFrame, codes: Sequence[CodeColumns], weights: Mapping[str, float], n_subjects: int
) -> pl.DataFrame:
    """Choose the events of each label's timeline.

    Parameters
    ----------
    events : Events
    labels : pl.DataFrame of n rows, from ``read_labels``
    codes : the codes that have columns of their own
    weights : share of the gate by code
    n_subjects : int, of the training labels

    Returns
    -------
    pl.DataFrame, n rows in the order of the labels
        ``subject_id``, ``hours`` (list: before the moment negative) and ``event`` (list: name, number and unit, or text).
    """
    keys = labels.select(SUBJECT, PREDICTION_TIME).with_row_index(_ROW)
    table, results = _code_table(codes, weights, n_subjects), _results(codes)
    chosen = [_choose(keys, block, table, results) for block in events.blocks(labels.get_column(SUBJECT))]
    empty = pl.DataFrame(schema={_ROW: pl.UInt32, HOURS: pl.List(pl.Float64), EVENT: pl.List(pl.String)})
    timelines = keys.join(pl.concat([empty, *chosen]), on=_ROW, how="left", maintain_order="left")
    lists = [pl.col(name).fill_null(pl.lit([], dtype=timelines.schema[name])) for name in (HOURS, EVENT)]
    return timelines.select(SUBJECT, *lists)


def check_timelines(timelines: pl.DataFrame, records: pl.DataFrame) -> None:
    """Raise ``ArtifactError`` where loaded timelines are not those of stored rows."""
    dtypes = {ID: pl.String, HOURS: pl.List(pl.Float64), EVENT: pl.List(pl.String)}
    fits = timelines.columns == [ID, SUBJECT, HOURS, EVENT] and all(timelines.schema[name] == dtype for name, dtype in dtypes.items())
    if not fits or not timelines.get_column(ID).is_unique().all() or of_stored(timelines, records).height < timelines.height:
        raise ArtifactError("the timelines do not belong to the stored patients: restore the model from a copy, or fit it again")


def of_stored(timelines: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Return the timelines of the rows that are stored: patients may have been removed."""
    return timelines.join(records.select(ID), on=ID, how="semi", maintain_order="left")


def format_timelines(timelines: pl.DataFrame) -> list[str | None]:
    """Return timelines as text, None where there is none.

    Examples
    --------
    >>> format_timelines(pl.DataFrame({"hours": [[-60.0, -1.5, 3.0]], "event": [["Lactate 8.2", "Urine 5 mL", "MEDS_DEATH"]]}))
    ['−2.5 d Lactate 8.2; −1.5 h Urine 5 mL; +3 h MEDS_DEATH']
    """
    return [
        None if hours is None else "; ".join(f"{_format_hours(time)} {event}" for time, event in zip(hours, events, strict=True))
        for hours, events in timelines.select(HOURS, EVENT).iter_rows()
    ]


def _format_hours(hours: float) -> str:
    in_days = abs(hours) >= _HOURS_AS_DAYS
    size = abs(hours) / 24 if in_days else abs(hours)
    return f"{'−' if hours < 0 else '+'}{size:.1f}".removesuffix(".0") + (" d" if in_days else " h")


def _code_table(codes: Sequence[CodeColumns], weights: Mapping[str, float], n_subjects: int) -> pl.DataFrame:
    """Return one row a code: what an event of it weighs, and how its numbers are compared."""
    rows = []
    for one in codes:
        occurs = -math.log(min(max(one.n_subjects / max(n_subjects, 1), 1e-9), 1.0))
        rows.append((one.code, one.name, one.unit, one.kind == "code", weights.get(one.code, 0.0), occurs, one.centre, one.spread))
    if DEATH not in {one.code for one in codes}:
        rows.append((DEATH, DEATH, None, True, 0.0, 0.0, 0.0, 1.0))
    schema = {CODE: pl.String, "name": pl.String, "usual_unit": pl.String, "occurrence": pl.Boolean}
    return pl.DataFrame(rows, {**schema, **dict.fromkeys(("weight", "surprise", "centre", "spread"), pl.Float64)}, orient="row")


def _results(codes: Sequence[CodeColumns]) -> pl.DataFrame:
    """Return the texts that are shown: those that are categories of a code."""
    rows = [(one.code, text, text) for one in codes for text in one.texts]
    return pl.DataFrame(rows, {CODE: pl.String, TEXT: pl.String, _RESULT: pl.String}, orient="row")


def _choose(keys: pl.DataFrame, block: pl.DataFrame, table: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """Choose the events of the labels in a block: ``(row)``, ``hours``, ``event``."""
    hours = (pl.col(TIME) - pl.col(PREDICTION_TIME)).dt.total_microseconds() / 3.6e9
    pairs = keys.join(block.drop_nulls(TIME), on=SUBJECT).with_columns(hours.alias(HOURS)).filter(pl.col(HOURS).abs() <= WINDOW)
    text = pl.col(TEXT).str.strip_chars() if TEXT in block.columns else pl.lit(None, dtype=pl.String).alias(TEXT)
    pairs = pairs.join(table, on=CODE).with_columns(text).join(results, on=[CODE, TEXT], how="left")
    if UNIT in pairs.columns:
        pairs = pairs.filter(pl.col(UNIT).is_null() | pl.col("usual_unit").is_null() | (pl.col(UNIT) == pl.col("usual_unit")))
    distance = ((pl.col(VALUE) - pl.col("centre")) / pl.col("spread")).abs().clip(0, _MOST_UNUSUAL)
    unusual = pl.when(pl.col("occurrence")).then(pl.col("surprise")).when(pl.col(VALUE).is_finite()).then(distance)
    telling = pl.when(pl.col(CODE) == DEATH).then(math.inf).otherwise(pl.col("weight") * unusual)
    order = [_ROW, "telling", pl.col(HOURS).abs(), CODE, VALUE, _RESULT]
    ranked = pairs.with_columns(telling.alias("telling"), (pl.col(HOURS) > 0).alias("after")).filter(pl.col("telling") > 0)
    ranked = ranked.sort(order, descending=[False, True, *[False] * 4], nulls_last=True)
    ranked = ranked.unique([_ROW, CODE, "after"], keep="first", maintain_order=True).group_by(_ROW, maintain_order=True).head(MOST)
    number = pl.when(pl.col("occurrence").not_()).then(" " + pl.col(VALUE).round_sig_figs(4).map_elements(_format_number, pl.String))
    unit = pl.when(pl.col("occurrence").not_()).then(" " + pl.col("usual_unit"))
    shown = pl.col("name") + number.fill_null("") + unit.fill_null("") + (" " + pl.col(_RESULT)).fill_null("")
    return ranked.sort(_ROW, HOURS, "name").group_by(_ROW, maintain_order=True).agg(HOURS, shown.alias(EVENT))


def _format_number(value: float) -> str:
    return f"{value:.4g}"
