"""Labels from a rule: a moment in each stay, an outcome after it, and until when. Censored labels are null, not false."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from nearward.tabular.errors import DataWarning, InputError, did_you_mean
from nearward.tabular.events.label_table import LABEL, PREDICTION_TIME
from nearward.tabular.events.reading import BIRTH, CODE, DEATH, SUBJECT, TIME, Events, code_matches, read_events
from nearward.tabular.events.windowed_events import span_hours

FIRST_EVENT = "first event"
WORDS = {"admission": "HOSPITAL_ADMISSION", "discharge": "HOSPITAL_DISCHARGE", "birth": BIRTH, "death": DEATH}
_CENSORED = 0.1  # share of the moments, from which on censored ones are warned of
_ROW, _ANCHOR, _NEXT, _EARLIER, _END, _DIED, _SEEN = "(row)", "(anchor)", "(next)", "(earlier)", "(end)", "(died)", "(seen)"


def labels(
    events: Events | pl.DataFrame | pl.LazyFrame | str | Path,
    *,
    at: str,
    outcome: str | Sequence[str],
    within: str | None = None,
    until: str | Sequence[str] | None = None,
    recurrent: bool = False,
    followed_until: datetime | None = None,
) -> pl.DataFrame:
    """Make labels: whether an outcome follows each moment.

    A code is matched exactly, or by what stands before ``//`` (``HOSPITAL_ADMISSION`` matches ``HOSPITAL_ADMISSION//EW EMER.``); ``*``
    stands for any text. ``admission``, ``discharge``, ``birth`` and ``death`` are words for the codes of MEDS.

    Parameters
    ----------
    events : Events, path or frame, as ``read_events``
    at : str
        The moment: a code, or "first event", and how long after it: "admission + 24h". Each such event is a moment of its own.
    outcome : code or sequence of codes
    within : str, optional
        How long after the moment the outcome counts: "30d".
    until : code or sequence of codes, optional
        Ends the stay that ``at`` began, such as "discharge": outcomes after it do not count, and moments after it are left out.
    recurrent : bool
        Whether the outcome may come again, as a readmission. Otherwise moments at or after a subject's first outcome are left out.
    followed_until : datetime, optional
        Until when outcomes are known for all subjects, as in a registry; by default until the last event of each.

    Returns
    -------
    pl.DataFrame, by subject and time
        ``subject_id``, ``prediction_time``, ``boolean_value``, ``censored``. Where the subject was followed to the end of ``within`` or to
        ``until``, or died, the value is true or false; where not, it is null and the row is censored. Moments after death are left out.

    Raises
    ------
    InputError
        No event with the code of the moment or the outcome; a moment that lies before its event; neither ``within`` nor ``until``.

    Warns
    -----
    DataWarning
        More than a tenth of the moments are censored: the outcome is then too frequent among the others.

    Examples
    --------
    >>> stays = pl.DataFrame(
    ...     {
    ...         "subject_id": [1, 1, 2, 2, 3],
    ...         "time": [datetime(2020, 1, 1), datetime(2020, 1, 9), datetime(2020, 1, 1), datetime(2020, 3, 1), datetime(2020, 1, 1)],
    ...         "code": ["HOSPITAL_ADMISSION", "MEDS_DEATH", "HOSPITAL_ADMISSION", "LAB", "HOSPITAL_ADMISSION"],
    ...         "numeric_value": [None, None, None, 1.0, None],
    ...     }
    ... )
    >>> labels(stays, at="admission + 24h", outcome="death", within="30d")["boolean_value"].to_list()
    [True, False, None]
    """
    events = read_events(events)
    code, hours = _parse_moment(at)
    if within is None and until is None:
        raise InputError('within or until is needed, such as within="30d" or until="discharge": how long the outcome counts')
    horizon = None if within is None else pl.duration(hours=span_hours(within))
    timed = events.frame.filter(pl.col(TIME).is_not_null()).select(SUBJECT, TIME, CODE)
    anchors = _first_events(timed) if code == FIRST_EVENT else _times(timed, [code], "at")
    queries = anchors.rename({TIME: _ANCHOR}).with_columns((pl.col(_ANCHOR) + pl.duration(hours=hours)).alias(PREDICTION_TIME))
    queries = queries.unique().sort(SUBJECT, PREDICTION_TIME, _ANCHOR).unique([SUBJECT, PREDICTION_TIME], keep="first", maintain_order=True)
    queries = queries.with_row_index(_ROW)
    moment, time = pl.col(PREDICTION_TIME), pl.col(TIME)
    outcomes = _per_moment(
        queries,
        _times(timed, _codes(outcome), "outcome"),
        time.filter(time > moment).min().alias(_NEXT),
        (time <= moment).any().alias(_EARLIER),
    )
    ends = _per_moment(
        queries, _times(timed, _codes(until), "until") if until else anchors.clear(), time.filter(time > pl.col(_ANCHOR)).min().alias(_END)
    )
    deaths = _per_moment(queries, timed.filter(pl.col(CODE) == DEATH).select(SUBJECT, TIME).collect(), time.min().alias(_DIED))
    last = timed.group_by(SUBJECT).agg(time.max().alias(_SEEN)).collect(engine="streaming")
    table = queries.join(last, on=SUBJECT, how="left")
    for part in (outcomes, ends, deaths):
        table = table.join(part, on=_ROW, how="left")
    result = _label(table, horizon, until is not None, recurrent, _naive(followed_until), events.zoned)
    if followed_until is None:
        _warn_of_censoring(result)
    return result


def _label(
    table: pl.DataFrame, horizon: pl.Expr | None, has_until: bool, recurrent: bool, followed_until: datetime | None, zoned: bool
) -> pl.DataFrame:
    """Drop moments without a risk (after death, the stay or the first outcome), and label the others true, false or censored."""
    moment = pl.col(PREDICTION_TIME)
    at_risk = pl.col(_DIED).is_null() | (pl.col(_DIED) > moment)
    if has_until:
        at_risk &= pl.col(_END).is_null() | (pl.col(_END) > moment)
    if not recurrent:
        at_risk &= ~pl.col(_EARLIER).fill_null(value=False)
    ends = [] if horizon is None else [moment + horizon]
    if has_until:
        ends.append(pl.col(_END))
    end = pl.min_horizontal(ends)  # null where the stay has no end yet
    seen = pl.col(_SEEN) if followed_until is None else pl.lit(followed_until, dtype=pl.Datetime("us"))
    happened = pl.col(_NEXT).is_not_null() & (end.is_null() | (pl.col(_NEXT) <= end))
    observed = pl.col(_DIED).is_not_null() | (seen >= end).fill_null(value=False)
    value = pl.when(happened).then(True).when(observed).then(False)
    result = table.filter(at_risk).sort(_ROW).select(SUBJECT, PREDICTION_TIME, value.alias(LABEL))
    if zoned:
        result = result.with_columns(pl.col(PREDICTION_TIME).dt.replace_time_zone("UTC"))
    return result.with_columns(pl.col(LABEL).is_null().alias("censored"))


def _warn_of_censoring(labels: pl.DataFrame) -> None:
    """Warn where so many moments are censored that those with an answer have the outcome too often."""
    rows, censored, positive = labels.height, int(labels.get_column("censored").sum()), int(labels.get_column(LABEL).sum())
    if positive and censored > _CENSORED * rows:
        warnings.warn(
            f"{censored} of {rows} moments are censored: their subjects have no event as late as would be needed to know that the outcome "
            f"did not happen. Where it happened it is known, so its share among the other moments, {positive / (rows - censored):.0%}, is "
            f"too high (at least {positive / rows:.0%} of all have it). Where outcomes are known until some day for all subjects, give it "
            "as followed_until; else shorten within",
            DataWarning,
            stacklevel=3,
        )


def _parse_moment(at: str) -> tuple[str, float]:
    """Return the code of a moment, and the hours after it."""
    match = re.fullmatch(r"\s*(?P<code>.+?)\s*(?:(?P<sign>[+-])\s*(?P<span>\d+[smhdw]))?\s*", at)
    if match is None:
        raise InputError(f'at must be a code, and maybe how long after it, such as "admission + 24h", got at={at!r}')
    if match["sign"] == "-":
        raise InputError(f"at={at!r} lies before its event: at that time nobody knows that it will come, so the moment gives it away")
    return WORDS.get(match["code"], match["code"]), 0.0 if match["span"] is None else span_hours(match["span"])


def _codes(codes: str | Sequence[str]) -> list[str]:
    return [WORDS.get(code, code) for code in ([codes] if isinstance(codes, str) else codes)]


def _first_events(timed: pl.LazyFrame) -> pl.DataFrame:
    return timed.filter(pl.col(CODE) != BIRTH).group_by(SUBJECT).agg(pl.col(TIME).min()).collect(engine="streaming")


def _times(timed: pl.LazyFrame, codes: Sequence[str], name: str) -> pl.DataFrame:
    """Return subjects and times of the events with one of the codes.

    Raises
    ------
    InputError
        There is none.
    """
    matching = timed.filter(code_matches(codes)).select(SUBJECT, TIME).collect(engine="streaming")
    if matching.height == 0:
        known = timed.select(pl.col(CODE).unique()).collect(engine="streaming").get_column(CODE).drop_nulls().to_list()
        raise InputError(f"{name}: no event has a code {' or '.join(map(repr, codes))}. {did_you_mean(codes, known)}".strip())
    return matching


def _per_moment(queries: pl.DataFrame, times: pl.DataFrame, *summaries: pl.Expr) -> pl.DataFrame:
    """Summarise each subject's times for each of its moments."""
    return queries.join(times, on=SUBJECT).group_by(_ROW).agg(summaries)


def _naive(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
