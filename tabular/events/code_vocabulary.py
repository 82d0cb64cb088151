"""Which codes become columns, learned in one pass over the events of the labels' subjects before their latest label.

A code that at least ``min_subjects`` subjects have has columns of its own: of numbers, where as many have numbers and these differ, else of
occurrences. Rarer codes count for their parents where these are frequent enough, and otherwise stand in a list of codes. The most frequent
codes are taken first, until the table has ``max_columns`` columns; the others stand in the lists too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.errors import InputError
from nearward.tabular.events.code_columns import CodeColumns, CodeKind, n_columns
from nearward.tabular.events.label_table import PREDICTION_TIME
from nearward.tabular.events.missing_values import UNKNOWN, warn_of_missing
from nearward.tabular.events.reading import BIRTH, CODE, PARENTS, SUBJECT, TEXT, TIME, UNIT, VALUE, Events
from nearward.tabular.events.text_results import choose_texts, tally_texts
from nearward.tabular.events.units import YEAR, warn_of_slips
from nearward.tabular.events.windowed_events import AGE, ROW, earlier_events, finite_values

HOUR, WEEKDAY, SINCE_FIRST, YEARS = "Hour of day", "Day of week", "Hours since first event", "Age"
TIME_COLUMNS = {HOUR: "h", WEEKDAY: None, SINCE_FIRST: "h", YEARS: "years"}  # with their units
_SAMPLE = 10_000  # subjects whose numbers give the usual values of each code
_MIN_RARE = 2  # subjects of a code in a list: one patient's code would identify it
_REPEATED = 0.05  # share of subjects with a number at several times, below which a number is a fact, such as the height
_FOR_SPAN, _FOR_SLOPE = 2, 3  # numbers that a subject usually has in a span, for columns of it and for its slope
_BIRTHS, _NUMBER_AGE = "(births)", "(number age)"
_MAX_PARENTS = 8  # generations


@dataclass(frozen=True)
class Vocabulary:
    """The codes of the training data, and what becomes of each.

    Parameters
    ----------
    columns : tuple of CodeColumns, codes with columns of their own
    members : tuple of str
        Rare codes that count for a parent.
    parents : tuple of int
        The position of that parent in ``columns``, of each member.
    listed : tuple of str
        Codes that stand in a list.
    time_columns : tuple of str
        Those of ``TIME_COLUMNS`` that are not the same for all training labels.
    n_subjects : int
        Subjects of the training labels.
    """

    columns: tuple[CodeColumns, ...]
    members: tuple[str, ...]
    parents: tuple[int, ...]
    listed: tuple[str, ...]
    time_columns: tuple[str, ...]
    n_subjects: int


@dataclass
class _Tallies:
    """Partial results of the blocks of subjects."""

    codes: list[pl.DataFrame] = field(default_factory=list)
    units: list[pl.DataFrame] = field(default_factory=list)
    sample: list[pl.DataFrame] = field(default_factory=list)
    owners: list[pl.DataFrame] = field(default_factory=list)
    ages: list[pl.DataFrame] = field(default_factory=list)
    texts: list[pl.DataFrame] = field(default_factory=list)
    unknown: int = 0  # numbers that mean unknown


def learn_codes(
    events: Events, labels: pl.DataFrame, hours: Sequence[float], *, min_subjects: int, max_columns: int, include: bool, seed: int
) -> Vocabulary:
    """Learn from the events of the labels' subjects that are known at their latest prediction time.

    Parameters
    ----------
    events : Events
    labels : pl.DataFrame, from ``read_labels``
    hours : lengths of the spans, the shortest first
    min_subjects, max_columns, include, seed : as ``EventFeatures``
    """
    latest = labels.group_by(SUBJECT).agg(pl.col(PREDICTION_TIME).max()).sort(SUBJECT).with_row_index(ROW)
    drawn = np.random.default_rng(seed).permutation(latest.height)[:_SAMPLE]
    tallies = _Tallies()
    with_parents = events.codes.filter(pl.col(PARENTS).list.len() > 0).get_column(CODE)
    for block in events.blocks(latest.get_column(SUBJECT)):
        _tally(tallies, latest, block, hours, include, pl.Series(drawn, dtype=pl.UInt32), with_parents)
    if not tallies.codes:
        raise InputError("none of the labels' subjects has events: subject_id must be the same in both")
    sample = pl.concat(tallies.sample)
    codes = _usual_values(_merge(tallies, hours), sample, events)
    time_columns = _time_columns(labels, pl.concat(tallies.ages))
    children = pl.concat(tallies.owners)
    warn_of_slips(sample)
    if not tallies.unknown:
        warn_of_missing(sample, named=UNKNOWN in events.frame.collect_schema())
    texts = choose_texts(tallies.texts, min_subjects)
    return _choose(codes, texts, children, events.codes, hours, min_subjects, max_columns, time_columns, latest.height)


def _time_columns(labels: pl.DataFrame, ages: pl.DataFrame) -> tuple[str, ...]:
    """Return the columns of time that are not the same for all labels."""
    time = labels.get_column(PREDICTION_TIME)
    births, others = (ages.filter(pl.col(_BIRTHS) == value).get_column(AGE) for value in (True, False))
    different = {
        HOUR: time.dt.time().n_unique() > 1,
        WEEKDAY: time.dt.weekday().n_unique() > 1,
        SINCE_FIRST: others.n_unique() > 1,
        YEARS: births.n_unique() > 1,
    }
    return tuple(name for name, holds in different.items() if holds)


def _tally(
    tallies: _Tallies, latest: pl.DataFrame, block: pl.DataFrame, hours: Sequence[float], include: bool, drawn: pl.Series, kin: pl.Series
) -> None:
    """Add a block of subjects."""
    pairs = earlier_events(latest, block, include=include, more=(UNIT, UNKNOWN, TEXT))
    birth = pl.col(CODE).eq_missing(BIRTH)
    timed = pairs.filter(pl.col(AGE).is_finite())
    tallies.ages.append(timed.group_by(ROW, birth.alias(_BIRTHS)).agg(pl.col(AGE).max()).select(_BIRTHS, AGE))
    pairs = pairs.filter(pl.col(CODE).is_not_null() & ~birth)
    pairs = pairs.with_columns(finite_values().alias(VALUE)).with_columns(
        pl.when(pl.col(VALUE).is_not_null()).then(pl.col(AGE)).alias(_NUMBER_AGE)
    )
    within = {
        f"{name}_{i}": (pl.col(age) <= span).fill_null(value=False).cast(pl.UInt32)
        for name, age in (("events", AGE), ("values", _NUMBER_AGE))
        for i, span in enumerate(hours)
    }
    subjects = (
        pairs.with_columns(**within)
        .group_by(ROW, CODE)
        .agg(
            pl.len().alias("events"),
            pl.col(AGE).min().alias("newest"),
            pl.col(_NUMBER_AGE).min().alias("newest_number"),
            pl.col(_NUMBER_AGE).max().alias("oldest_number"),
            pl.col(VALUE).min().alias("low"),
            pl.col(VALUE).max().alias("high"),
            pl.col(*within).sum(),
        )
    )
    tallies.codes.append(
        subjects.group_by(CODE).agg(
            pl.len().alias("subjects"),
            pl.col("events").sum(),
            pl.col("newest_number").count().alias("number_subjects"),
            pl.col("newest").is_finite().sum().alias("timed_subjects"),
            (pl.col("newest_number") < pl.col("oldest_number")).sum().alias("repeated"),
            pl.col("low").min(),
            pl.col("high").max(),
            pl.col(*within).sum(),
            *[(pl.col(f"values_{i}") > 0).sum().alias(f"numbers_{i}") for i in range(len(hours))],
            *[(pl.col(f"events_{i}") > 0).sum().alias(f"occurrences_{i}") for i in range(len(hours))],
        )
    )
    if UNKNOWN in pairs.columns:
        tallies.unknown += int(pairs.get_column(UNKNOWN).sum())
    if TEXT in pairs.columns:
        tallies.texts.append(tally_texts(pairs))
    if UNIT in pairs.columns:
        tallies.units.append(pairs.filter(pl.col(VALUE).is_not_null()).group_by(CODE, UNIT).len())
    drawn_pairs = pairs.filter(pl.col(ROW).is_in(drawn.implode()), pl.col(VALUE).is_not_null())
    tallies.sample.append(drawn_pairs.select(pl.col(ROW).alias(SUBJECT), CODE, pl.col(TIME).dt.year().alias(YEAR), VALUE))
    tallies.owners.append(subjects.select(ROW, CODE).filter(pl.col(CODE).is_in(kin.implode())))


def _merge(tallies: _Tallies, hours: Sequence[float]) -> pl.DataFrame:
    """Return one row a code: the sums over blocks, and its most frequent unit."""
    counts = ["subjects", "events", "number_subjects", "timed_subjects", "repeated"]
    counts += [f"{name}_{i}" for name in ("events", "values", "numbers", "occurrences") for i in range(len(hours))]
    every = pl.concat(tallies.codes)
    codes = every.group_by(CODE).agg(pl.col(counts).cast(pl.Int64).sum(), pl.col("low").min(), pl.col("high").max())
    if not tallies.units:
        return codes.with_columns(pl.lit(None, dtype=pl.String).alias("usual_unit"))
    units = pl.concat(tallies.units).drop_nulls(UNIT).group_by(CODE, UNIT).agg(pl.col("len").sum())
    usual = units.sort(["len", UNIT], descending=[True, False]).group_by(CODE, maintain_order=True).agg(pl.col(UNIT).first())
    return codes.join(usual.rename({UNIT: "usual_unit"}), on=CODE, how="left")


def _usual_values(codes: pl.DataFrame, sample: pl.DataFrame, events: Events) -> pl.DataFrame:
    """Add each code's median, spread and mean logarithm in the sample, and its description and unit."""
    value = pl.col(VALUE)
    size = value.filter(value != 0).abs().log10().sort().mean()
    usual = sample.group_by(CODE).agg(
        value.median().alias("median"),
        (value.quantile(0.75) - value.quantile(0.25)).alias("spread"),
        size.alias("log10"),
    )
    metadata = events.codes.select(CODE, "description", UNIT)
    return codes.join(usual, on=CODE, how="left").join(metadata, on=CODE, how="left").sort(["subjects", CODE], descending=[True, False])


def _choose(
    codes: pl.DataFrame,
    texts: dict[str, tuple[str, ...]],
    owners: pl.DataFrame,
    metadata: pl.DataFrame,
    hours: Sequence[float],
    min_subjects: int,
    max_columns: int,
    time_columns: tuple[str, ...],
    n_subjects: int,
) -> Vocabulary:
    """Choose the codes with columns of their own, roll rare ones up to their parents, and list the others."""
    frequent = codes.filter(pl.col("subjects") >= min_subjects)
    own = [_columns_of(row, hours, min_subjects, texts.get(row[CODE], ())) for row in frequent.iter_rows(named=True)]
    rare = codes.filter(pl.col("subjects") < min_subjects).get_column(CODE)
    children = _roll_up(rare, owners, metadata, own, min_subjects)
    sizes = children.group_by("parent").agg(pl.col("subjects").first()).rows()
    descriptions = dict(metadata.drop_nulls("description").select(CODE, "description").iter_rows())
    present = {one.code for one in own}
    every = tuple(range(len(hours)))
    groups = [CodeColumns(code, descriptions.get(code) or code, "code", every, size) for code, size in sizes if code not in present]
    columns: list[CodeColumns] = []
    names = set(time_columns)
    remaining = max_columns
    for one in sorted([*own, *groups], key=lambda one: (n_columns(one) > 1, -one.n_subjects, one.code)):
        if n_columns(one) <= remaining:
            remaining -= n_columns(one)
            columns.append(one if one.name not in names else one.named(f"{one.name} ({one.code})"))
            names.add(one.name)
    position = {one.code: i for i, one in enumerate(columns)}
    members = [(code, position[parent]) for code, parent in children.select(CODE, "parent").iter_rows() if parent in position]
    shared = codes.filter(pl.col("subjects") >= _MIN_RARE).get_column(CODE)
    listed = sorted({*shared} - {code for code, _ in members} - position.keys())
    codes_of, parents_of = tuple(code for code, _ in members), tuple(parent for _, parent in members)
    return Vocabulary(tuple(columns), codes_of, parents_of, tuple(listed), time_columns, n_subjects)


def _columns_of(row: dict[str, Any], hours: Sequence[float], min_subjects: int, texts: tuple[str, ...]) -> CodeColumns:
    """Decide what becomes of one frequent code."""
    numbers = row["number_subjects"] >= min_subjects and row["low"] < row["high"]
    repeated = row["repeated"] >= _REPEATED * row["number_subjects"]
    kind: CodeKind = ("number" if repeated else "fact") if numbers else "code"
    counted, total = ("numbers", "values") if numbers else ("occurrences", "events")
    spans = []
    for i in range(len(hours)):
        same = i + 1 < len(hours) and row[f"{total}_{i}"] == row[f"{total}_{i + 1}"]
        if row[f"{counted}_{i}"] >= min_subjects and not same:
            spans.append(i)
    common = {"code": row[CODE], "name": row["description"] or row[CODE], "kind": kind, "n_subjects": row["subjects"]}
    if not numbers:
        once = row["events"] == row["subjects"]  # counts say nothing beyond whether, and how long ago
        return CodeColumns(**{**common, "kind": kind if row["timed_subjects"] else "flag"}, spans=() if once else tuple(spans), texts=texts)
    a_subject = {i: row[f"values_{i}"] / row[f"numbers_{i}"] for i in spans}
    spans = [i for i in spans if a_subject[i] >= _FOR_SPAN or i == spans[-1]]  # of a single value last and hours since tell all
    slopes = tuple(i for i in spans if a_subject[i] >= _FOR_SLOPE)
    spread = row["spread"] or row["high"] - row["low"]
    common["n_subjects"] = row["number_subjects"]
    unit = row["usual_unit"] or row[UNIT] or _unit_of(row[CODE])
    usual = {"centre": row["median"] or 0.0, "spread": spread, "log10": row["log10"]}
    return CodeColumns(**common, spans=tuple(spans), slopes=slopes, unit=unit, checked_unit=row["usual_unit"], **usual)


def _unit_of(code: str) -> str | None:
    """Return the unit in a code such as ``LAB//50813//mmol/L``."""
    parts = code.split("//")
    return parts[2] if len(parts) == 3 and parts[2] not in ("", "UNK") else None


def _roll_up(rare: pl.Series, owners: pl.DataFrame, metadata: pl.DataFrame, own: Sequence[CodeColumns], min_subjects: int) -> pl.DataFrame:
    """Return the nearest frequent parent of each rare code that has one: ``code``, ``parent``, ``subjects`` (of all its rare codes).

    A parent is frequent where enough subjects have one of its rare codes, or where it is itself a code with columns of occurrences.
    """
    found = []
    kind_of = pl.DataFrame([(one.code, one.kind) for one in own], {"parent": pl.String, "kind": pl.String}, orient="row")
    parents = metadata.select(PARENTS, pl.col(CODE).alias("(child)")).explode(PARENTS).drop_nulls()
    ancestors = rare.to_frame(CODE).with_columns(pl.col(CODE).alias("(child)"))
    for _ in range(_MAX_PARENTS):
        ancestors = ancestors.join(parents, on="(child)").select(CODE, pl.col(PARENTS).alias("(child)")).unique()
        if ancestors.height == 0:
            break
        sizes = ancestors.join(owners, on=CODE).group_by("(child)").agg(pl.col(ROW).n_unique().cast(pl.Int64).alias("subjects"))
        candidates = ancestors.rename({"(child)": "parent"}).join(sizes.rename({"(child)": "parent"}), on="parent")
        candidates = candidates.join(kind_of, on="parent", how="left")
        frequent = (pl.col("kind") == "code") | (pl.col("kind").is_null() & (pl.col("subjects") >= min_subjects))
        accepted = candidates.filter(frequent).select(CODE, "parent", "subjects")
        found.append(accepted)
        ancestors = ancestors.join(accepted, on=CODE, how="anti")
    schema = {CODE: pl.String, "parent": pl.String, "subjects": pl.Int64}
    return pl.concat([pl.DataFrame(schema=schema), *found]).sort(CODE, "parent")
