"""Drift of codes between training and scoring: how often they occur, and whether their numbers are in another unit."""

from __future__ import annotations

import math

import polars as pl

from nearward.tabular.events.code_vocabulary import Vocabulary
from nearward.tabular.events.event_counts import EventCounts
from nearward.tabular.events.units import MIN_VALUES, is_slip


def compare_codes(vocabulary: Vocabulary, counts: EventCounts) -> pl.DataFrame:
    """Compare codes with the training data.

    Returns
    -------
    pl.DataFrame, one row for each code with columns of its own, the most changed first
        ``code``, ``name``, ``training`` and ``now`` (share of the subjects and of the labels with it), ``factor`` of its numbers (null
        without numbers), and ``slip`` (whether that is close to a power of ten other than 1, from 20 numbers on).
    """
    rows = [(one.code, one.name, one.n_subjects / vocabulary.n_subjects, one.log10) for one in vocabulary.columns]
    training = pl.DataFrame(rows, {"code": pl.String, "name": pl.String, "training": pl.Float64, "usual": pl.Float64}, orient="row")
    joined = training.join(counts.codes, on="code", how="left", maintain_order="left")
    enough = pl.col("values") >= MIN_VALUES
    logarithm = pl.when(enough).then(pl.col("log10") / pl.col("values") - pl.col("usual"))
    share = pl.col("labels").fill_null(0) / max(counts.labels, 1)
    compared = joined.select(
        "code", "name", "training", share.alias("now"), (logarithm * math.log(10)).exp().alias("factor"), is_slip(logarithm).alias("slip")
    )
    change = (pl.col("now") - pl.col("training")).abs()
    return compared.sort(pl.col("slip").fill_null(value=False), change, "code", descending=[True, True, False])
