"""Splits of internal–external validation: which rows a model is fitted on, and which it is judged on.

By site each site is left out once. By time a model is fitted before each cut and judged from it to the next. By both it is fitted before
the cut on the other sites, and judged at a site from the cut on. Rows of a patient whom a model is judged on are never among those that it
is fitted on.

Shapes: ``n`` rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Bools, Ints


@dataclass(frozen=True)
class Split:
    """One fit and its judgement.

    Parameters
    ----------
    name : str
        The site, or the period.
    train, test : (n,)
    removed : int
        Rows left out of ``train`` because their patient is in ``test``.
    """

    name: str
    train: Bools
    test: Bools
    removed: int


def make_splits(site: pl.Series | None, time: pl.Series | None, cuts: Sequence[Any], patient_ids: Ints) -> list[Split]:
    """Return the splits by site, by time, or by both.

    Parameters
    ----------
    site : (n,), categories in order, or None
    time : (n,), numbers, dates or datetimes, none missing; or None
    cuts : values of ``time``; with a site exactly one
    patient_ids : (n,), numbers from 0

    Raises
    ------
    InputError
        One site only; no cut with a time, or a cut without; nothing before or after a cut.
    """
    if site is None and time is None:
        raise InputError(
            "site or time is needed: name the column of sites (site=), or that of times with the date to split at (time=, cut=)"
        )
    if (time is None) != (len(cuts) == 0):
        raise InputError(f"time and cut belong together, got {'cut' if time is None else 'time'} alone")
    everything = np.ones(len(patient_ids), dtype=bool)
    periods = [("", everything, everything)] if time is None else _periods(time, cuts)
    if site is None:
        return [_split(name, before, after, patient_ids) for name, before, after in periods]
    if len(periods) > 1:
        raise InputError(f"with a site one cut is possible, got {len(periods)}")
    names = [str(name) for name in site.unique().sort().to_list()]
    if len(names) < 2:
        raise InputError(f"site {site.name!r} has the same value in every row: at least 2 sites are needed to leave one out")
    _, before, after = periods[0]
    here = [np.asarray((site == name).to_numpy(), dtype=bool) for name in names]
    return [_split(name, before & ~at_site, after & at_site, patient_ids) for name, at_site in zip(names, here, strict=True)]


def _periods(time: pl.Series, cuts: Sequence[Any]) -> list[tuple[str, Bools, Bools]]:
    """Name, rows before, and rows within each period that begins at a cut."""
    values = sorted({_as_time(cut, time) for cut in cuts})
    periods = []
    for start, end in itertools.pairwise([*values, None]):
        before, within = time < start, time >= start
        name = f"from {start}"
        if end is not None:
            within &= time < end
            name += f" to before {end}"
        if not before.any() or not within.any():
            raise InputError(f"no row of time {time.name!r} lies {'within the period' if before.any() else 'before the cut'} {name}")
        periods.append((name, before.to_numpy(), within.to_numpy()))
    return periods


def read_times(time: pl.Series) -> pl.Series:
    """Return times as dates, datetimes or numbers; text is read as ISO 8601.

    Raises
    ------
    InputError
        Anything else.
    """
    if time.dtype == pl.String:
        with suppress(pl.exceptions.PolarsError):
            time = time.str.to_datetime(strict=True)
    if not (time.dtype.is_numeric() or isinstance(time.dtype, pl.Date | pl.Datetime)):
        raise InputError(f"time {time.name!r} must be numbers, dates or datetimes, got {time.dtype.base_type()}: write it as 2024-03-01")
    return time


def _as_time(cut: Any, time: pl.Series) -> Any:
    """Return a cut as a value that compares with the times."""
    try:
        if time.dtype.is_numeric():
            number = float(cut)
            return int(number) if number.is_integer() else number
        if isinstance(cut, str):
            cut = datetime.fromisoformat(cut)
        if time.dtype == pl.Date:
            return cut.date() if isinstance(cut, datetime) else cut
        if isinstance(cut, date) and not isinstance(cut, datetime):
            cut = datetime(cut.year, cut.month, cut.day)
        zone = getattr(time.dtype, "time_zone", None)
        return cut if zone is None or cut.tzinfo is not None else pl.Series([cut]).dt.replace_time_zone(zone)[0]
    except (TypeError, ValueError) as error:
        raise InputError(f"cut must be a value of the times, such as 2024-03-01, got cut={cut!r}") from error


def _split(name: str, train: Bools, test: Bools, patient_ids: Ints) -> Split:
    shared = train & np.isin(patient_ids, patient_ids[test])
    return Split(name, train & ~shared, test, int(shared.sum()))
