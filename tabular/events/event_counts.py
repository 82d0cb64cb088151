"""What was counted while events became features: events left out and why, and how often each code occurred; mergeable over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import polars as pl

CODE_COUNTS = {
    "code": pl.String,
    "labels": pl.Int64,
    "events": pl.Int64,
    "values": pl.Int64,  # numbers other than 0
    "log10": pl.Float64,  # sum of their log10 of the absolute value
}


@dataclass(frozen=True)
class EventCounts:
    """Counts of labels and events.

    Parameters
    ----------
    labels : int
    duplicate_labels : int
        Labels beyond the first of a subject and time.
    labels_without_events : int
        Their features are those of no events.
    events : int
        Events that are known at a prediction time, once for each label.
    null_codes, invalid_values, missing_values, other_units, unknown_codes, unknown_texts : int
        Among them: without a code (left out); with a number that is NaN or infinite, or one that means unknown (the number is left out);
        with a number in another unit than in training (left out); with a code that training did not have (left out); with a text that is
        none of its column's categories.
    codes : pl.DataFrame
        For each code of training: ``code``, ``labels`` (with it), ``events``, ``values`` (numbers other than 0), ``log10`` (their sum).
    """

    labels: int
    duplicate_labels: int
    labels_without_events: int
    events: int
    null_codes: int
    invalid_values: int
    missing_values: int
    other_units: int
    unknown_codes: int
    unknown_texts: int
    codes: pl.DataFrame

    def summary(self) -> dict[str, int]:
        """Return all counts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "codes"}


def total_counts(parts: Sequence[EventCounts]) -> EventCounts:
    """Return the sum of the counts of different labels."""
    names = [field.name for field in fields(EventCounts) if field.name != "codes"]
    every = pl.concat([part.codes for part in parts]) if parts else pl.DataFrame(schema=CODE_COUNTS)
    codes = every.group_by("code").agg(pl.exclude("code").sum()).sort("code")
    return EventCounts(**{name: sum(getattr(part, name) for part in parts) for name in names}, codes=codes)
