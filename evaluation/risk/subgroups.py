"""The same numbers within parts of the rows, as far as they may be shown."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from nearward.evaluation.risk.disclosure_control import withheld
from nearward.evaluation.risk.inputs import Sample
from nearward.evaluation.risk.metrics import Use
from nearward.evaluation.risk.resampled_metrics import Result, measure
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints

MISSING = "(missing)"
REST = "few events, together"
_MOST_LEVELS = 30
_STRATA = (0, 10, 30, 100, 300)


@dataclass(frozen=True)
class Part:
    """Rows with one level of a column.

    Parameters
    ----------
    column, level : str
    rows, events : int, or None where withheld
    results : metric's key -> Estimate or why there is none; empty where withheld
    """

    column: str
    level: str
    rows: int | None
    events: int | None
    results: dict[str, Result] = field(default_factory=dict)


def judge_parts(sample: Sample, column: pl.Series, use: Use, resamples: int, seed: int) -> list[Part]:
    """Judge the only risk of a sample within each level of a column.

    Parameters
    ----------
    sample : Sample of n rows and one risk
    column : n values, at most 30 different ones
    use : Use
    resamples, seed : int

    Raises
    ------
    InputError
        More than 30 levels.
    """
    names, place = _levels(column)
    rows = np.bincount(place, minlength=len(names))
    events = np.bincount(place, weights=sample.outcome, minlength=len(names)).astype(np.int64)
    whose = [_patients(sample.patient[chosen], place[chosen], len(names)) for chosen in (sample.outcome >= 0, sample.outcome == 1)]
    rows_hidden, hidden = withheld(rows, events, whose)
    parts = []
    for at, name in enumerate(names):
        if hidden[at]:
            parts.append(Part(column.name, name, None if rows_hidden[at] else int(rows[at]), None))
            continue
        measured = measure([sample.part(place == at)], use, resamples, seed)
        parts.append(Part(column.name, name, int(rows[at]), int(events[at]), measured.results(next(iter(sample.risks)))))
    return parts


def event_strata(column: pl.Series, sample: Sample) -> pl.Series:
    """Name for each row (n,) how many events its level of ``column`` has, in steps: sites with few events apart from those with many.

    Strata that would have to be withheld are put together as the rest: their names say how many events there are.
    """
    names, place = _levels(column, most=None)
    events = np.bincount(place, weights=sample.outcome, minlength=len(names)).astype(np.int64)
    step = (np.searchsorted(_STRATA, events, side="right") - 1)[place]  # (n,)
    counts = [np.bincount(step[chosen], minlength=len(_STRATA)) for chosen in (sample.outcome >= 0, sample.outcome == 1)]
    whose = [_patients(sample.patient[chosen], step[chosen], len(_STRATA)) for chosen in (sample.outcome >= 0, sample.outcome == 1)]
    there = counts[0] > 0
    hidden = np.zeros(len(_STRATA), dtype=bool)
    hidden[there] = withheld(counts[0][there], counts[1][there], [count[there] for count in whose])[1]
    ends = [*(f"{low} to {high - 1}" for low, high in itertools.pairwise(_STRATA)), f"{_STRATA[-1]} or more"]
    labels = [REST if hidden[at] else f"{ends[at]} events" for at in range(len(_STRATA))]
    kinds = list(dict.fromkeys(sorted(labels, key=lambda label: label != REST)))
    return pl.Series(column.name, pl.Series(labels).gather(step), dtype=pl.Enum(kinds))


def _patients(patient: Ints, place: Ints, parts: int) -> Ints:
    """Count the different patients in each part (parts,)."""
    both = np.unique(np.stack([place, patient]), axis=1)
    return np.bincount(both[0], minlength=parts)


def _levels(column: pl.Series, most: int | None = _MOST_LEVELS) -> tuple[list[str], Ints]:
    """Names of the levels, in order, and each row's place among them; missing values are a level, the last."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    levels = column.unique().drop_nulls().sort()
    if most is not None and len(levels) > most:
        raise InputError(
            f"column {column.name!r} has {len(levels)} different values, at most {most} make subgroups: cut it into bands first"
        )
    names = [str(level) for level in levels.to_list()]
    place = column.rank("dense").cast(pl.Int64) - 1
    if place.null_count():
        place = place.fill_null(len(names))
        names.append(MISSING)
    return names, place.to_numpy().astype(np.int64)
