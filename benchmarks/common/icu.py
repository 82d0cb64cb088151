"""The ICU stays of PhysioNet's challenge of 2012 as one wide table: 4,000 stays, about 340 columns, death in hospital."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from benchmarks.common.paths import DATA
from nearward.datasets import Cohort

EVENTS = DATA.parent / "events" / "icu2012"
_STATIC = ["Age", "Gender", "Height", "ICUType"]
_LATE_FROM = 36  # hours after admission; the outcome is predicted at 48


def icu_cohort(folder: Path = EVENTS) -> Cohort:
    """Read the stays' events (MEDS); one row a stay: first, last, least, greatest, mean and number of each code's values within 48 hours,
    and last, least and greatest of the last twelve.
    """
    labels = pl.read_parquet(folder / "labels" / "in_hospital_death.parquet").select("subject_id", "boolean_value")
    events = pl.read_parquet(folder / "data" / "*.parquet", glob=True).filter(pl.col("numeric_value") != -1)  # -1 means unknown
    hour = (pl.col("time") - pl.datetime(2000, 1, 1)).dt.total_minutes() / 60
    events = events.with_columns(hour.alias("hour")).sort("subject_id", "code", "hour")
    value = pl.col("numeric_value")
    late = {"last": value.last(), "min": value.min(), "max": value.max()}
    whole = {"first": value.first(), **late, "mean": value.mean(), "count": value.len().cast(pl.Float64)}
    series = events.filter(~pl.col("code").is_in(_STATIC))
    tables = [
        _wide(events.filter(pl.col("code").is_in(_STATIC)), {"first": value.first()}, ""),
        _wide(series, whole, ""),
        _wide(series.filter(pl.col("hour") >= _LATE_FROM), late, ", late"),
    ]
    frame = labels
    for table in tables:
        frame = frame.join(table, on="subject_id", how="left")
    frame = frame.sort("subject_id").with_columns(pl.col("ICUType: first").cast(pl.Int64).cast(pl.String))
    features = frame.drop("subject_id", "boolean_value")
    known = [c for c in features.columns if features[c].count() > 5 and features[c].n_unique() > 1]
    outcome = frame.get_column("boolean_value").cast(pl.Int64).to_numpy()
    return Cohort("icu2012", features.select(known), outcome, None, "PhysioNet/CinC Challenge 2012, set A", event="in-hospital death")


def _wide(events: pl.DataFrame, statistics: dict[str, pl.Expr], suffix: str) -> pl.DataFrame:
    """Return one row a stay with each statistic of each code."""
    long = events.group_by("subject_id", "code", maintain_order=True).agg(**statistics)
    wide = long.pivot(on="code", index="subject_id", values=list(statistics))
    names = {f"{name}_{code}": f"{code}: {name}{suffix}" for name in statistics for code in long["code"].unique()}
    if len(statistics) == 1:
        (name,) = statistics
        names = {code: f"{code}: {name}{suffix}" for code in long["code"].unique()}
    return wide.rename(names, strict=False)
