"""Features of each label from the events before its prediction time: a scikit-learn estimator on Polars frames.

Shapes: q labels, d features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
from sklearn.base import BaseEstimator

from nearward.tabular.data.schema import Schema
from nearward.tabular.events.event_counts import EventCounts
from nearward.tabular.events.reading import Events
from nearward.tabular.persistence.estimators import SavableEstimator

Source = Events | pl.DataFrame | pl.LazyFrame | str | Path
Labels = pl.DataFrame | pl.LazyFrame | str | Path


@dataclass(frozen=True)
class FeatureBlock:
    """Features of some of the labels.

    Parameters
    ----------
    rows : pl.Series, UInt32, positions of the labels
    features : pl.DataFrame, one row for each of them
    counts : EventCounts
    """

    rows: pl.Series
    features: pl.DataFrame
    counts: EventCounts


class EventFeatures(SavableEstimator, BaseEstimator):  # type: ignore[misc]
    """Turn time-stamped events into one row of features for each label."""

    schema_: Schema

    _fitted_attributes: ClassVar[tuple[str, ...]] = ()
    _state_types: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        *,
        spans: Sequence[str | None] = ("6h", "24h", None),
        min_subjects: int = 50,
        max_columns: int = 1000,
        include_prediction_time: bool = False,
        seed: int = 0,
    ) -> None:
        self.spans = spans
        self.min_subjects = min_subjects
        self.max_columns = max_columns
        self.include_prediction_time = include_prediction_time
        self.seed = seed

    def fit(self, events: Source, labels: Labels) -> EventFeatures:
        """Learn which codes become columns, from the labels' subjects and their events before their latest label alone."""
        raise NotImplementedError

    def transform(self, events: Source, labels: Labels) -> pl.DataFrame:
        """Return q rows in the order of the labels."""
        raise NotImplementedError

    def transform_counted(self, events: Source, labels: Labels) -> tuple[pl.DataFrame, EventCounts]:
        """Return ``transform``'s rows and what was counted on the way."""
        raise NotImplementedError

    def iter_transform(self, events: Source, labels: Labels) -> Iterator[FeatureBlock]:
        """Yield the rows by blocks of subjects: for tables that do not fit into memory."""
        raise NotImplementedError

    def code_drift(self, counts: EventCounts) -> pl.DataFrame:
        """Compare how often codes occur, and in which unit their numbers seem to be, with the training data."""
        raise NotImplementedError
