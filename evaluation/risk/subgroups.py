"""Metrics within subgroups, strata of the number of events, and periods of the calendar, with small counts suppressed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import polars as pl

from nearward.evaluation.risk.disclosure_control import Suppression, counts_by_category, suppress_jointly, suppress_small_counts
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.results import Subgroup
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints

MISSING = "(missing)"
REST = "few events, together"
_MAX_CATEGORIES = 30
_STRATA = (0, 10, 30, 100, 300)  # events from which on a stratum begins
_PERIODS = {"1mo": "%Y-%m", "1q": "%Y Q", "1y": "%Y"}  # duration in Polars -> how its periods are named
_EVENTS_OF_PERIOD = 30  # on average, at least: an AUROC's interval is then about .2 wide


def evaluate_subgroups(
    sample: RiskSample,
    column: pl.Series,
    operating_point: OperatingPoint,
    resamples: int,
    seed: int,
    suppression: Suppression | None = None,
) -> list[Subgroup]:
    """Evaluate the only risk of a sample within each category of a column.

    Parameters
    ----------
    sample : RiskSample of n rows and one risk
    column : n values, at most 30 different ones
    operating_point : OperatingPoint
    resamples, seed : int
    suppression : of each category, see ``suppress_in_columns``; by default that of this column alone

    Raises
    ------
    InputError
        More than 30 categories.
    """
    categories, category = number_categories(column)
    (rows, events), patients = counts_by_category(sample, category, len(categories))
    rows_suppressed, suppressed = suppression or suppress_small_counts(rows, events, patients)
    subgroups = []
    for index, name in enumerate(categories):
        if suppressed[index]:
            subgroups.append(Subgroup(column.name, name, None if rows_suppressed[index] else int(rows[index]), None))
            continue
        metrics = bootstrap_metrics([sample.subset(category == index)], operating_point, resamples, seed)
        subgroups.append(Subgroup(column.name, name, int(rows[index]), int(events[index]), metrics.results(next(iter(sample.risks)))))
    return subgroups


def suppress_in_columns(sample: RiskSample, columns: Sequence[pl.Series]) -> list[Suppression]:
    """Suppress small counts jointly in all columns that one report shows, in the order of their categories."""
    return suppress_jointly(sample, [(category, len(names)) for names, category in (number_categories(one, limit=None) for one in columns)])


def event_strata(column: pl.Series, sample: RiskSample) -> pl.Series:
    """Return for each row (n,) the stratum of its category of ``column`` by number of events: sites with few events, with many.

    Strata that would have to be suppressed are pooled: their names would reveal how many events there are.
    """
    categories, category = number_categories(column, limit=None)
    events_of_category = np.bincount(category, weights=sample.outcome, minlength=len(categories)).astype(np.int64)
    stratum = (np.searchsorted(_STRATA, events_of_category, side="right") - 1)[category]  # (n,)
    (rows, events), patients = counts_by_category(sample, stratum, len(_STRATA))
    present = rows > 0
    suppressed = np.zeros(len(_STRATA), dtype=bool)
    suppressed[present] = suppress_small_counts(rows[present], events[present], [count[present] for count in patients])[1]
    ranges = [*(f"{low} to {high - 1}" for low, high in itertools.pairwise(_STRATA)), f"{_STRATA[-1]} or more"]
    labels = [REST if suppressed[index] else f"{ranges[index]} events" for index in range(len(_STRATA))]
    order = list(dict.fromkeys(sorted(labels, key=lambda label: label != REST)))
    return pl.Series(column.name, pl.Series(labels).gather(stratum), dtype=pl.Enum(order))


def calendar_periods(time: pl.Series, sample: RiskSample) -> pl.Series:
    """Return for each row (n,) its month, quarter or year: the shortest with 30 events on average and at most 30 periods, else the year.

    Parameters
    ----------
    time : (n,), dates or datetimes; null where unknown
    sample : RiskSample of n rows

    Raises
    ------
    InputError
        The column holds no times.
    """
    if time.dtype == pl.String:
        with suppress(pl.exceptions.ComputeError):
            time = time.str.to_datetime()
    if not isinstance(time.dtype, pl.Date | pl.Datetime):
        raise InputError(f"time {time.name!r} must be a date or datetime, got {time.dtype.base_type()}: write it as 2024-03-01")
    starts = [time.dt.truncate(duration) for duration in _PERIODS]
    sizes = [start.n_unique() for start in starts]
    chosen = next((i for i, n in enumerate(sizes) if n <= _MAX_CATEGORIES and sample.events >= _EVENTS_OF_PERIOD * n), -1)
    name, start = list(_PERIODS.values())[chosen], starts[chosen]
    label = start.dt.strftime(name)
    return label + start.dt.quarter().cast(pl.String) if name.endswith("Q") else label


def number_categories(column: pl.Series, limit: int | None = _MAX_CATEGORIES) -> tuple[list[str], Ints]:
    """Names of the categories, in order, and each row's category; missing values are a category, the last."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    values = column.unique().drop_nulls().sort()
    if limit is not None and len(values) > limit:
        raise InputError(
            f"column {column.name!r} has {len(values)} different values, at most {limit} make subgroups: cut it into bands first"
        )
    names = [str(value) for value in values.to_list()]
    category = column.rank("dense").cast(pl.Int64) - 1
    if category.null_count():
        category = category.fill_null(len(names))
        names.append(MISSING)
    return names, category.to_numpy().astype(np.int64)
