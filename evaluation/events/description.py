"""What a source of events holds: codes, units, times, gaps, and the moments of prediction in them; counted in streams.

Codes that fewer than 10 subjects have are counted together: their names and numbers could identify a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nearward.tabular.events.label_table import LABEL, PREDICTION_TIME, read_labels
from nearward.tabular.events.reading import BIRTH, CODE, SUBJECT, TIME, UNIT, VALUE, Events, read_events
from nearward.tabular.events.units import check_units
from nearward.tabular.events.windowed_events import AGE, ROW, earlier_events

MIN_SUBJECTS = 10
_SAMPLE = 1000  # subjects in which gaps are measured, and the range of numbers
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_PERIODS = 60
_NO_UNITS = ["", "UNK", "start", "end"]  # that codes end in


@dataclass(frozen=True)
class EventsDescription:
    """A description of events; every frame is small. Births count in ``facts`` and ``codes`` alone.

    Parameters
    ----------
    facts : name -> count or time
    codes : pl.DataFrame, one row for each code of at least 10 subjects, the most frequent first
        ``code``, ``description``, ``subjects``, ``events``, ``numbers`` (share of its events with a finite number), ``5 %``, ``50 %`` and
        ``95 %`` (quantiles of these in at most 1,000 subjects), ``units`` (those seen, by frequency), ``hours between`` (median of one
        subject's successive events).
    rare_codes : int, codes of fewer subjects
    slips : pl.DataFrame, codes whose numbers look like another unit in some year, see ``check_units``
    quantiles : pl.DataFrame, 5 % to 95 %: events of a subject, hours that they span, hours between a subject's times
    over_time : pl.DataFrame, ``period`` and ``events``
    by_hour : pl.DataFrame, ``hour`` of the day and ``events``
    labels : name -> count or share; empty without labels
    before_labels : pl.DataFrame, the same quantiles of the history and the latest event before each label; no rows without labels
    """

    facts: dict[str, Any]
    codes: pl.DataFrame
    rare_codes: int
    slips: pl.DataFrame
    quantiles: pl.DataFrame
    over_time: pl.DataFrame
    by_hour: pl.DataFrame
    labels: dict[str, Any]
    before_labels: pl.DataFrame


def describe_events(
    events: Events | pl.DataFrame | pl.LazyFrame | str | Path, labels: pl.DataFrame | str | Path | None = None
) -> EventsDescription:
    """Describe events, and where the labels' moments lie in them.

    Parameters
    ----------
    events : as ``read_events``
    labels : path or frame, optional
        ``subject_id``, ``prediction_time``, and maybe ``boolean_value``.

    Raises
    ------
    InputError
        Events or labels that cannot be used.
    """
    source = read_events(events)
    alive = pl.col(TIME).filter(pl.col(CODE).ne_missing(BIRTH))
    subjects = _collect(source.frame.group_by(SUBJECT).agg(pl.len().alias("events"), (alive.max() - alive.min()).alias("span")))
    drawn = subjects.get_column(SUBJECT).sort().sample(min(_SAMPLE, subjects.height), seed=0)
    sample = source.of_subjects(drawn)
    codes = _codes(source, sample)
    frequent = codes.filter(pl.col("subjects") >= MIN_SUBJECTS, pl.col(CODE).is_not_null())
    named = frequent.get_column(CODE)
    finite = pl.col(VALUE).is_finite()
    facts: dict[str, Any] = _collect(
        source.frame.select(
            pl.len().alias("events"),
            pl.col(TIME).null_count().alias("static facts (without a time)"),
            pl.col(CODE).null_count().alias("events without a code"),
            (~finite).sum().alias("numbers that are NaN or infinite"),
            alive.min().alias("first time, but for births"),
            alive.max().alias("last time"),
        )
    ).row(0, named=True)
    facts = {"files": len(source.parts), "subjects": subjects.height, "codes": codes.get_column(CODE).n_unique(), **facts}
    times = sample.filter(pl.col(CODE).ne_missing(BIRTH)).select(SUBJECT, TIME).drop_nulls().unique().sort(SUBJECT, TIME)
    gaps = times.select(pl.col(TIME).diff().over(SUBJECT)).drop_nulls()
    rows = {
        "events of a subject": subjects.get_column("events"),
        "hours from first to last event": _hours(subjects.get_column("span")),
        "hours between a subject's successive times": _hours(gaps.get_column(TIME)),
    }
    about_labels, before = ({}, {}) if labels is None else _labels(read_labels(labels, source), source)
    slips = check_units(source)
    return EventsDescription(
        facts=facts,
        codes=frequent,
        rare_codes=codes.height - frequent.height,
        slips=slips.filter(pl.col("slip"), pl.col(CODE).is_in(named.implode())),
        quantiles=_quantiles(rows),
        over_time=_over_time(source),
        by_hour=_count(source, pl.col(TIME).dt.hour().alias("hour")).sort("hour"),
        labels=about_labels,
        before_labels=_quantiles(before),
    )


def _codes(source: Events, sample: pl.DataFrame) -> pl.DataFrame:
    """Return one row a code, the one of most subjects first."""
    number = pl.when(pl.col(VALUE).is_finite()).then(pl.col(VALUE))
    codes = _collect(
        source.frame.group_by(CODE).agg(
            pl.col(SUBJECT).n_unique().alias("subjects"),
            pl.len().alias("events"),
            (number.count() / pl.len()).alias("numbers"),
        )
    )
    between = pl.col(TIME).diff().over(SUBJECT, CODE).dt.total_microseconds() / 3.6e9
    successive = sample.drop_nulls(TIME).select(SUBJECT, CODE, TIME).unique().sort(SUBJECT, CODE, TIME)
    gaps = successive.select(CODE, between.alias("between")).group_by(CODE).agg(pl.col("between").median().alias("hours between"))
    ranges = [number.quantile(q, "linear").alias(f"{100 * q:.0f} %") for q in _QUANTILES[::2]]
    numbers = sample.group_by(CODE).agg(ranges)
    described = source.codes.select(CODE, "description")
    joined = codes
    for more in (described, numbers, _units(source), gaps):
        joined = joined.join(more, on=CODE, how="left")
    parts = pl.col(CODE).str.split("//")  # LAB//50813//mmol/L, or LAB//RESULT//50813//mmol/L
    unit = pl.when(parts.list.len() > 2, ~parts.list.last().is_in(_NO_UNITS), pl.col("numbers") > 0).then(parts.list.last())
    joined = joined.with_columns(pl.coalesce("units", unit))
    order = [CODE, "description", "subjects", "events", "numbers", "5 %", "50 %", "95 %", "units", "hours between"]
    return joined.select(order).sort(["subjects", "events", CODE], descending=[True, True, False])


def name_codes(codes: pl.DataFrame) -> pl.Series:
    """Return how each of the codes is printed: by its description, where it has one that no other code has."""
    own = pl.col("description").is_not_null() & pl.col("description").is_unique()
    return codes.select(pl.when(own).then("description").otherwise(CODE).alias(CODE)).to_series()


def _units(source: Events) -> pl.DataFrame:
    """Return the units that each code's numbers have: those in the events, else the one in the code's metadata."""
    if UNIT not in source.frame.collect_schema():
        return source.codes.select(CODE, pl.col(UNIT).alias("units"))
    counted = _collect(source.frame.filter(pl.col(VALUE).is_not_null(), pl.col(UNIT).is_not_null()).group_by(CODE, UNIT).agg(pl.len()))
    text = pl.format("{} ({})", UNIT, "len")
    return counted.sort(["len", UNIT], descending=[True, False]).group_by(CODE, maintain_order=True).agg(text.alias("units").str.join(", "))


def _over_time(source: Events) -> pl.DataFrame:
    """Count events other than births by the shortest of day, month, quarter and year that gives at most 60 periods; by decade beyond."""
    days = _count(source, pl.col(TIME).filter(pl.col(CODE).ne_missing(BIRTH)).dt.date().alias("period"))
    counts = days
    for duration in ("1d", "1mo", "1q", "1y", "10y"):
        counts = days.group_by(pl.col("period").dt.truncate(duration)).agg(pl.col("events").sum()).sort("period")
        if counts.height <= _MOST_PERIODS:
            break
    return counts


def _count(source: Events, key: pl.Expr) -> pl.DataFrame:
    """Count events by a key of their time."""
    return _collect(source.frame.select(key).drop_nulls().group_by(pl.all()).agg(pl.len().alias("events")))


def _labels(labels: pl.DataFrame, source: Events) -> tuple[dict[str, Any], dict[str, pl.Series]]:
    """Return what is known of the labels, and the history before each."""
    keys = labels.select(SUBJECT, PREDICTION_TIME).with_row_index(ROW)
    parts = []
    for block in source.blocks(labels.get_column(SUBJECT)):
        pairs = earlier_events(keys, block, include=False).filter(pl.col(AGE).is_finite(), pl.col(CODE).ne_missing(BIRTH))
        parts.append(pairs.group_by(ROW).agg(pl.col(AGE).min().alias("latest"), pl.col(AGE).max().alias("first"), pl.len().alias("events")))
    seen = pl.concat(parts) if parts else pl.DataFrame(schema={"latest": pl.Float64, "first": pl.Float64, "events": pl.UInt32})
    facts: dict[str, Any] = {
        "labels": labels.height,
        "subjects with labels": labels.get_column(SUBJECT).n_unique(),
        "labels with the subject and time of another": labels.height - keys.select(SUBJECT, PREDICTION_TIME).n_unique(),
        "labels before any event of their subject": labels.height - seen.height,
    }
    if LABEL in labels.columns:
        outcome = labels.get_column(LABEL)
        facts |= {"labels with the outcome": int(outcome.sum() or 0), "labels without an answer (null: censored)": outcome.null_count()}
    rows = {
        "events before a label": seen.get_column("events"),
        "hours from the first event to the label": seen.get_column("first"),
        "hours from the latest event to the label": seen.get_column("latest"),
    }
    return facts, rows


def _hours(durations: pl.Series) -> pl.Series:
    return durations.dt.total_microseconds() / 3.6e9


def _quantiles(rows: dict[str, pl.Series]) -> pl.DataFrame:
    """Return the quantiles of some numbers, one row each."""
    numbers = [(name, *(values.drop_nulls().quantile(q, "linear") for q in _QUANTILES)) for name, values in rows.items()]
    return pl.DataFrame(numbers, {"what": pl.String, **{f"{100 * q:.0f} %": pl.Float64 for q in _QUANTILES}}, orient="row")


def _collect(query: pl.LazyFrame) -> pl.DataFrame:
    return query.collect(engine="streaming")
