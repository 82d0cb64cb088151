"""The page of a description of events; its words are in ``evaluation/templates/events.html.jinja``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from nearward.evaluation.events import figures
from nearward.evaluation.events.description import MIN_SUBJECTS, EventsDescription, name_codes
from nearward.evaluation.html_page import THIN_SPACE, render
from nearward.evaluation.provenance import Provenance

_MOST_CODES = 100  # in the table
_LONG_NAME = 32  # characters, of a code that is printed


def events_page(description: EventsDescription, name: str, provenance: Provenance | None = None) -> str:
    """Return the page of a description, with its provenance: by default the time and the versions."""
    facts = description.facts
    return render(
        "events.html.jinja",
        provenance,
        name=name,
        facts=facts,
        counted=facts_table(facts, THIN_SPACE),
        codes=_codes_table(description.codes.head(_MOST_CODES)),
        n_codes=description.codes.height,
        rare_codes=description.rare_codes,
        min_subjects=MIN_SUBJECTS,
        slips=description.slips,
        quantiles=description.quantiles,
        labels=facts_table(description.labels, THIN_SPACE),
        before_labels=description.before_labels,
        frequent=figures.most_frequent_codes(description.codes) if description.codes.height else None,
        over_time=figures.events_over_time(description.over_time) if description.over_time.height else None,
        by_hour=figures.events_by_hour(description.by_hour) if description.by_hour.height else None,
    )


def facts_table(facts: Mapping[str, Any], separator: str = ",") -> pl.DataFrame:
    """Return facts as a table; ``separator`` stands between the thousands of a count."""
    rows = [(name, _fact_text(value, separator)) for name, value in facts.items()]
    return pl.DataFrame(rows, {"what": pl.String, "value": pl.String}, orient="row")


def codes_in_short(codes: pl.DataFrame) -> pl.DataFrame:
    """Return codes as they are printed in 80 columns: the description in place of the code where one is its own.

    Parameters
    ----------
    codes : pl.DataFrame, of an ``EventsDescription``

    Returns
    -------
    pl.DataFrame : ``code``, ``subjects``, ``events``, ``numeric, %`` (of the events), quantiles of the numbers in one column, ``units``,
        and ``gap, h`` (median hours between one subject's successive events)
    """
    quantiles = [pl.col(name).round_sig_figs(3).map_elements("{:g}".format, pl.String) for name in ("5 %", "50 %", "95 %")]
    name = pl.col("code")
    short = pl.when(name.str.len_chars() > _LONG_NAME).then(name.str.head(_LONG_NAME - 1) + "…").otherwise(name)
    return codes.with_columns(name_codes(codes)).select(
        short.alias("code"),
        "subjects",
        "events",
        (100 * pl.col("numbers")).round().cast(pl.Int64).alias("numeric, %"),
        pl.concat_str(quantiles, separator=" / ").alias("5 / 50 / 95 %"),
        "units",
        pl.col("hours between").alias("gap, h"),
    )


def _fact_text(value: int | datetime | str | None, separator: str) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,}".replace(",", separator) if isinstance(value, int) else "" if value is None else value


def _codes_table(codes: pl.DataFrame) -> pl.DataFrame:
    """Return codes as they are shown: shares in percent, and no column without any value."""
    percent = (100 * pl.col("numbers")).round().cast(pl.Int64)
    shown = codes.with_columns(percent.alias("numbers")).rename({"numbers": "numbers, %"})
    return shown.drop(name for name in shown.columns if shown.height and shown.get_column(name).null_count() == shown.height)
