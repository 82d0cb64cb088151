"""Features of each label from the events before its prediction time: a scikit-learn estimator on Polars frames.

Shapes: q labels, d features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.validation import seed_of
from nearward.tabular.errors import InputError
from nearward.tabular.events.code_columns import CodeColumns
from nearward.tabular.events.code_vocabulary import Vocabulary, learn_codes
from nearward.tabular.events.event_counts import EventCounts, compare_codes, total_counts
from nearward.tabular.events.feature_table import FeatureTable
from nearward.tabular.events.label_table import PREDICTION_TIME, read_labels
from nearward.tabular.events.missing_values import Missing, without_missing
from nearward.tabular.events.reading import SUBJECT, Events, read_events
from nearward.tabular.events.windowed_events import check_spans
from nearward.tabular.frame_output import FrameOutput, frame_output
from nearward.tabular.persistence.estimators import SavableEstimator

Source = Events | pl.DataFrame | pl.LazyFrame | str | Path
Labels = pl.DataFrame | pl.LazyFrame | str | Path

_ROW = "(position)"
_BLOCK_LABELS = 16_384


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


class EventFeatures(FrameOutput, SavableEstimator, BaseEstimator):  # type: ignore[misc]
    """Turn time-stamped events into one row of features for each label.

    Every feature rests on events before the prediction time alone. The time of an event should be the time at which it was known: for a
    laboratory value the time of its result, not of its draw.

    Parameters
    ----------
    spans : sequence of str or None
        Lengths of the windows that end at the prediction time: "90m", "6h", "7d"; None for all earlier events.
    min_subjects : int
        Codes of fewer training subjects have no columns of their own: they count for their parents, or stand in a list of codes.
    max_columns : int
        At most so many columns of codes. Where more are possible, each code has its last number, then those of its longest span, then those
        of all spans, the most frequent codes first.
    include_prediction_time : bool
        Whether events at the very prediction time are known.
    missing : sequence of float, or mapping of codes to one or several, optional
        Numbers that mean unknown, of all codes or by code: ``[-1]``, ``{"Height": -1, "LAB//*": -99}``. Codes are named exactly, by what
        stands before ``//``, or with ``*`` for any text.
    seed : int
        Draws the subjects whose numbers give the usual values, where there are more than 10,000.

    Attributes
    ----------
    schema_ : Schema
        Kind, unit and block of each feature.
    vocabulary_ : Vocabulary
        The codes of the training data, and what becomes of each.

    Notes
    -----
    A number has ``last`` (the mean of equally late ones), ``from usual`` (the distance of the last one to the median of the training data,
    in interquartile ranges), ``hours since``, and for each span ``min``, ``max``, ``mean``, ``count``, and where subjects usually have
    three numbers or more ``slope`` (least squares, per hour); for the longest span also ``first``. A span in which subjects usually have a
    single number has no columns: ``last`` and ``hours since`` tell it. A number that a subject has once, such as the height, is one column.
    An occurrence has ``seen``, ``hours since``, and ``count`` for each span; and ``last text``, a category, where it has few different
    texts. A label without earlier events has counts of 0, empty lists, and null elsewhere.

    Examples
    --------
    >>> from datetime import datetime
    >>> day = [datetime(2020, 1, 1, hour) for hour in (1, 3, 5, 9)]
    >>> labs = pl.DataFrame({"subject_id": [1, 1, 1, 2], "time": day, "code": ["Lactate"] * 4, "numeric_value": [1.0, 2.0, 3.0, 2.0]})
    >>> labels = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [day[3], day[3]]})
    >>> features = EventFeatures(spans=("6h", None), min_subjects=1).fit(labs, labels)
    >>> features.transform(labs, labels)["Lactate: last", "Lactate: slope", "Lactate: count, 6h"].rows()
    [(3.0, 0.5, 2.0), (None, None, 0.0)]
    """

    schema_: Schema
    vocabulary_: Vocabulary

    _fitted_attributes: ClassVar[tuple[str, ...]] = ("vocabulary_",)
    _state_types: ClassVar[tuple[type, ...]] = (Vocabulary, CodeColumns)

    def __init__(
        self,
        *,
        spans: Sequence[str | None] = ("6h", "24h", None),
        min_subjects: int = 50,
        max_columns: int = 1000,
        include_prediction_time: bool = False,
        missing: Missing | None = None,
        seed: int = 0,
    ) -> None:
        self.spans = spans
        self.min_subjects = min_subjects
        self.max_columns = max_columns
        self.include_prediction_time = include_prediction_time
        self.missing = missing
        self.seed = seed

    def fit(self, events: Source, labels: Labels) -> EventFeatures:
        """Learn the codes from the labels' subjects, and from their events before their latest label alone.

        Parameters
        ----------
        events : Events, path or frame, as ``read_events``
        labels : path or frame of q rows
            ``subject_id`` and ``prediction_time``; other columns are not used.

        Raises
        ------
        InputError, MissingColumns
            Events or labels that cannot be used; no code with enough subjects.
        """
        hours = check_spans(self.spans)
        for name in ("min_subjects", "max_columns"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number from 1, got {name}={value!r}")
        events = without_missing(read_events(events), self.missing)
        labels = read_labels(labels, events)
        if labels.height == 0:
            raise InputError("the labels have 0 rows; at least 1 is required")
        self.vocabulary_ = learn_codes(
            events,
            labels,
            list(hours.values()),
            min_subjects=self.min_subjects,
            max_columns=self.max_columns,
            include=self.include_prediction_time,
            seed=seed_of(self.seed),
        )
        if not self.vocabulary_.columns and not self.vocabulary_.listed:
            raise InputError(
                f"no code occurs before the prediction time in min_subjects={self.min_subjects} of {self.vocabulary_.n_subjects} subjects: "
                "lower it (--min-subjects), or check the times of the labels"
            )
        self.schema_ = self._table.schema
        return self

    @property
    def _table(self) -> FeatureTable:
        return FeatureTable(self.vocabulary_, tuple(check_spans(self.spans)), self.include_prediction_time)

    def _set_state(self, state: dict[str, Any]) -> None:
        super()._set_state(state)
        self.schema_ = self._table.schema

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the d features."""
        check_is_fitted(self, "vocabulary_")
        return np.array([column.name for column in self.schema_.columns], dtype=object)

    @frame_output
    def transform(self, events: Source, labels: Labels) -> pl.DataFrame:
        """Return q rows of d features, in the order of the labels.

        Raises
        ------
        NotFittedError
        InputError, MissingColumns
            Events or labels that cannot be used.
        """
        return self.transform_counted(events, labels)[0]

    def transform_counted(self, events: Source, labels: Labels) -> tuple[pl.DataFrame, EventCounts]:
        """Return ``transform``'s rows, and what was counted on the way."""
        blocks = list(self.iter_transform(events, labels))
        rows = pl.concat([block.rows for block in blocks])
        return pl.concat([block.features for block in blocks])[rows.arg_sort()], total_counts([block.counts for block in blocks])

    def iter_transform(self, events: Source, labels: Labels) -> Iterator[FeatureBlock]:
        """Yield the rows by blocks of subjects, for tables that do not fit into memory.

        At least one block is yielded; each label is in one of them. ``read_events`` beforehand, where it is called more than once.
        """
        check_is_fitted(self, "vocabulary_")
        table = self._table
        events = without_missing(read_events(events), self.missing)
        queries = read_labels(labels, events).select(SUBJECT, PREDICTION_TIME).with_row_index(_ROW)
        remaining = queries
        for block in events.blocks(queries.get_column(SUBJECT)):
            here = queries.join(block.select(SUBJECT).unique(), on=SUBJECT, how="semi", maintain_order="left")
            remaining = remaining.join(here.select(_ROW), on=_ROW, how="anti", maintain_order="left")
            yield FeatureBlock(here.get_column(_ROW), *table.compute(here.drop(_ROW), block))
        none = events.frame.head(0).collect()
        if remaining.height or queries.height == 0:
            for part in remaining.iter_slices(_BLOCK_LABELS) if remaining.height else [remaining]:
                yield FeatureBlock(part.get_column(_ROW), *table.compute(part.drop(_ROW), none))

    def code_drift(self, counts: EventCounts) -> pl.DataFrame:
        """Compare how often codes occur, and in which unit their numbers seem to be, with the training data."""
        check_is_fitted(self, "vocabulary_")
        return compare_codes(self.vocabulary_, counts)
