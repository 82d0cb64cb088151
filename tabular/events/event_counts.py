"""What was counted while events became features: events left out and why, and how often each code occurred, against training.

Counts of different labels add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import polars as pl

from nearward.tabular.events.code_vocabulary import Vocabulary
from nearward.tabular.events.units import MIN_VALUES, is_slip

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


def compare_codes(vocabulary: Vocabulary, counts: EventCounts) -> pl.DataFrame:
    """Compare codes with the training data.

    Returns
    -------
    pl.DataFrame, one row for each code with columns of its own, the most changed first
        ``code``, ``name``, ``training`` and ``now`` (share of the subjects and of the labels with it), ``factor`` of its numbers (null
        without numbers), and ``slip`` (whether that looks like another unit, from 20 numbers on; see ``is_slip``).
    """
    rows = [(one.code, one.name, one.n_subjects / vocabulary.n_subjects, one.log10) for one in vocabulary.columns]
    training = pl.DataFrame(rows, {"code": pl.String, "name": pl.String, "training": pl.Float64, "usual": pl.Float64}, orient="row")
    joined = training.join(counts.codes, on="code", how="left", maintain_order="left")
    enough = pl.col("values") >= MIN_VALUES
    logarithm = pl.when(enough).then(pl.col("log10") / pl.col("values") - pl.col("usual"))
    share = pl.col("labels").fill_null(0) / max(counts.labels, 1)
    compared = joined.select(
        "code",
        "name",
        "training",
        share.alias("now"),
        (logarithm * math.log(10)).exp().alias("factor"),
        is_slip(logarithm, pl.col("labels")).alias("slip"),
    )
    change = (pl.col("now") - pl.col("training")).abs()
    return compared.sort(pl.col("slip").fill_null(value=False), change, "code", descending=[True, True, False])
