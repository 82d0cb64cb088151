"""Which codes become columns, learned in one pass over the events of the labels' subjects before their latest label.

A code that at least ``min_subjects`` subjects have has columns of its own: of numbers, where as many have numbers and these differ, else of
occurrences. Rarer codes count for their parents where these are frequent enough, and otherwise stand in a list of codes.

Where all of that exceeds ``max_columns`` columns, numbers have fewer: each code its last one, then those of the longest span, then those of
all spans, the most frequent codes first. Codes for which even the first do not fit stand in the lists too.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.events.code_columns import CodeColumns, CodeKind, n_columns
from nearward.tabular.events.code_tallies import CodeTallies
from nearward.tabular.events.label_table import PREDICTION_TIME
from nearward.tabular.events.missing_values import UNKNOWN, warn_of_missing
from nearward.tabular.events.reading import CODE, PARENTS, SUBJECT, UNIT, VALUE, Events
from nearward.tabular.events.text_results import choose_texts
from nearward.tabular.events.units import warn_of_slips
from nearward.tabular.events.windowed_events import ROW

HOUR, WEEKDAY, SINCE_FIRST, YEARS = "Hour of day", "Day of week", "Hours since first event", "Age"
TIME_COLUMNS = {HOUR: "h", WEEKDAY: None, SINCE_FIRST: "h", YEARS: "years"}  # with their units
_SAMPLE = 10_000  # subjects whose numbers give the usual values of each code
_MIN_RARE = 2  # subjects of a code in a list: one patient's code would identify it
_REPEATED = 0.05  # share of subjects with a number at several times, below which a number is a fact, such as the height
_FOR_SPAN, _FOR_SLOPE = 2, 3  # numbers that a subject usually has in a span, for columns of it, and for its slope
_MAX_PARENTS = 8  # generations
_MOST_NAMED = 5


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
    sampled = pl.Series(np.random.default_rng(seed).permutation(latest.height)[:_SAMPLE], dtype=pl.UInt32)
    children = events.codes.filter(pl.col(PARENTS).list.len() > 0).get_column(CODE)
    tallies = CodeTallies(latest, hours, include, sampled, children)
    for block in events.blocks(latest.get_column(SUBJECT)):
        tallies.add(block)
    if tallies.is_empty:
        raise InputError("none of the labels' subjects has events: subject_id must be the same in both")
    codes = tallies.codes()
    numbers = tallies.numbers(codes)
    warn_of_slips(numbers)
    if not tallies.unknown:
        warn_of_missing(numbers, named=UNKNOWN in events.frame.collect_schema())
    codes = _usual_values(codes, numbers, events)
    texts = choose_texts(tallies.texts, min_subjects)
    frequent = codes.filter(pl.col("subjects") >= min_subjects)
    own = [_columns_of(row, len(hours), min_subjects, texts.get(row[CODE], ())) for row in frequent.iter_rows(named=True)]
    rare = codes.filter(pl.col("subjects") < min_subjects).get_column(CODE)
    parents = _roll_up(rare, tallies.subjects_of_children(), events.codes, own, min_subjects)
    time_columns = _time_columns(labels, tallies)
    columns = _most_frequent([*own, *_of_parents(parents, own, events.codes, len(hours))], max_columns, time_columns)
    position = {one.code: i for i, one in enumerate(columns)}
    _warn_of_lost_numbers([one for one in own if one.code not in position], max_columns)
    members = [(code, position[parent]) for code, parent in parents.select(CODE, "parent").iter_rows() if parent in position]
    shared = codes.filter(pl.col("subjects") >= _MIN_RARE).get_column(CODE)
    return Vocabulary(
        columns=columns,
        members=tuple(code for code, _ in members),
        parents=tuple(parent for _, parent in members),
        listed=tuple(sorted({*shared} - {code for code, _ in members} - position.keys())),
        time_columns=time_columns,
        n_subjects=latest.height,
    )


def _time_columns(labels: pl.DataFrame, tallies: CodeTallies) -> tuple[str, ...]:
    """Return the columns of time that are not the same for all labels."""
    time = labels.get_column(PREDICTION_TIME)
    different = {
        HOUR: time.dt.time().n_unique() > 1,
        WEEKDAY: time.dt.weekday().n_unique() > 1,
        SINCE_FIRST: tallies.ages(births=False).n_unique() > 1,
        YEARS: tallies.ages(births=True).n_unique() > 1,
    }
    return tuple(name for name, holds in different.items() if holds)


def _usual_values(codes: pl.DataFrame, numbers: pl.DataFrame, events: Events) -> pl.DataFrame:
    """Add the median, spread and mean logarithm of each code's numbers, and its description and unit."""
    value = pl.col(VALUE)
    size = value.filter(value != 0).abs().log10().sort().mean()
    usual = numbers.group_by(CODE).agg(
        value.median().alias("median"),
        (value.quantile(0.75) - value.quantile(0.25)).alias("spread"),
        size.alias("log10"),
    )
    metadata = events.codes.select(CODE, "description", UNIT)
    return codes.join(usual, on=CODE, how="left").join(metadata, on=CODE, how="left").sort(["subjects", CODE], descending=[True, False])


def _of_parents(parents: pl.DataFrame, own: Sequence[CodeColumns], metadata: pl.DataFrame, n_spans: int) -> list[CodeColumns]:
    """Return the columns of parents that are not events themselves."""
    descriptions = dict(metadata.drop_nulls("description").select(CODE, "description").iter_rows())
    present = {one.code for one in own}
    sizes = parents.group_by("parent").agg(pl.col("subjects").first()).rows()
    spans = tuple(range(n_spans))
    return [CodeColumns(code, descriptions.get(code) or code, "code", spans, size) for code, size in sizes if code not in present]


def _most_frequent(codes: Sequence[CodeColumns], max_columns: int, time_columns: Sequence[str]) -> tuple[CodeColumns, ...]:
    """Return the codes of most subjects that fit into ``max_columns``, single columns first; each name once.

    Where not all columns fit, every code has few before the most frequent codes have all of theirs.
    """
    order = sorted(codes, key=lambda one: (n_columns(one) > 1, -one.n_subjects, one.code))
    chosen: dict[str, CodeColumns] = {}
    remaining = max_columns
    for level in range(3):
        for one in order:
            if level and one.code not in chosen:
                continue
            larger = _with_fewer_spans(one, level)
            added = n_columns(larger) - (n_columns(chosen[one.code]) if level else 0)
            if added <= remaining:
                remaining -= added
                chosen[one.code] = larger
    columns: list[CodeColumns] = []
    names = set(time_columns)
    for one in chosen.values():
        columns.append(one if one.name not in names else one.named(f"{one.name} ({one.code})"))
        names.add(one.name)
    return tuple(columns)


def _with_fewer_spans(code: CodeColumns, level: int) -> CodeColumns:
    """Return a code without the columns of spans (level 0), with those of the longest span but for the slope (1), or with all (2)."""
    return code if level == 2 else dataclasses.replace(code, spans=code.spans[-1:] if level else (), slopes=())


def _warn_of_lost_numbers(codes: Sequence[CodeColumns], max_columns: int) -> None:
    """Warn of frequent codes that stand in lists for lack of columns, where they have numbers: these are not read then."""
    names = [one.name for one in codes if one.kind in ("number", "fact")]
    if names:
        shown = ", ".join(map(repr, names[:_MOST_NAMED])) + (", …" if len(names) > _MOST_NAMED else "")
        warnings.warn(
            f"the numbers of {len(names)} frequent codes are no features, since max_columns={max_columns} columns are taken by more "
            f"frequent ones: {shown}. Raise max_columns (--max-columns), or leave out spans (--spans)",
            DataWarning,
            stacklevel=4,
        )


def _columns_of(row: dict[str, Any], n_spans: int, min_subjects: int, texts: tuple[str, ...]) -> CodeColumns:
    """Decide which columns one frequent code has."""
    numbers = row["number_subjects"] >= min_subjects and row["low"] < row["high"]
    repeated = row["repeated"] >= _REPEATED * row["number_subjects"]
    kind: CodeKind = ("number" if repeated else "fact") if numbers else "code"
    counted, total = ("numbers", "values") if numbers else ("occurrences", "events")
    spans = []
    for i in range(n_spans):
        as_next = i + 1 < n_spans and row[f"{total}_{i}"] == row[f"{total}_{i + 1}"]
        if row[f"{counted}_{i}"] >= min_subjects and not as_next:
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


def _roll_up(
    rare: pl.Series, subjects: pl.DataFrame, metadata: pl.DataFrame, own: Sequence[CodeColumns], min_subjects: int
) -> pl.DataFrame:
    """Return the nearest frequent parent of each rare code that has one: ``code``, ``parent``, ``subjects`` (of all its rare codes).

    A parent is frequent where enough subjects have one of its rare codes, or where it is itself a code with columns of occurrences.
    """
    rolled = []
    kind_of = pl.DataFrame([(one.code, one.kind) for one in own], {"parent": pl.String, "kind": pl.String}, orient="row")
    parents = metadata.select(PARENTS, pl.col(CODE).alias("(child)")).explode(PARENTS).drop_nulls()
    ancestors = rare.to_frame(CODE).with_columns(pl.col(CODE).alias("(child)"))
    for _ in range(_MAX_PARENTS):
        ancestors = ancestors.join(parents, on="(child)").select(CODE, pl.col(PARENTS).alias("(child)")).unique()
        if ancestors.height == 0:
            break
        sizes = ancestors.join(subjects, on=CODE).group_by("(child)").agg(pl.col(ROW).n_unique().cast(pl.Int64).alias("subjects"))
        candidates = ancestors.rename({"(child)": "parent"}).join(sizes.rename({"(child)": "parent"}), on="parent")
        candidates = candidates.join(kind_of, on="parent", how="left")
        frequent = (pl.col("kind") == "code") | (pl.col("kind").is_null() & (pl.col("subjects") >= min_subjects))
        accepted = candidates.filter(frequent).select(CODE, "parent", "subjects")
        rolled.append(accepted)
        ancestors = ancestors.join(accepted, on=CODE, how="anti")
    schema = {CODE: pl.String, "parent": pl.String, "subjects": pl.Int64}
    return pl.concat([pl.DataFrame(schema=schema), *rolled]).sort(CODE, "parent")
