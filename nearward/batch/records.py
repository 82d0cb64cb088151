"""The records of a scoring job as the job store keeps them in JSON: options, input tables, and the counts of each shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class JobOptions:
    """What must not change from one run of a job to the next.

    Parameters
    ----------
    model : str
        The model's hash.
    schema : "plain" or "meds"
    threshold : float
        Risk from which on a row counts as flagged.
    needs : tuple of str
        Columns that every table must have.
    reads : tuple of str
        Columns that the model reads: features and expert scores.
    id : str or None
        The column that identifies the rows; None where the tables have none, and rows are identified by table and row number.
    features : tuple of (path, size, modification time)
        Feature tables that label rows are joined with, or files of events; empty where the scored tables hold the features themselves.
    events : tuple of str
        Paths of the events that the labels' features are made of; empty where the model reads features.
    """

    model: str
    schema: str
    threshold: float
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    id: str | None
    features: tuple[tuple[str, int, int], ...] = ()
    events: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> JobOptions:
        """Read the options from their JSON object."""
        features = tuple((str(path), int(size), int(changed)) for path, size, changed in record["features"])
        texts = {name: tuple(map(str, record.get(name, ()))) for name in ("needs", "reads", "events")}
        return cls(**{**record, **texts, "features": features})


@dataclass(frozen=True)
class TableRecord:
    """An input table.

    Parameters
    ----------
    name, path : str
    size, changed : int, optional
        Bytes, and modification time in ns.
    rows : int, optional
    error : str, optional
        Why the table cannot be read.
    """

    name: str
    path: str
    size: int | None = None
    changed: int | None = None
    rows: int = 0
    error: str | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TableRecord:
        """Read a table's record from its JSON object; raise ``TypeError`` where it is damaged."""
        table = cls(**record)
        numbers = (table.rows, *(number for number in (table.size, table.changed) if number is not None))
        if not isinstance(table.name, str) or not isinstance(table.path, str) or not all(type(number) is int for number in numbers):
            raise TypeError("a table's record is damaged")
        return table


@dataclass(frozen=True)
class ShardCounts:
    """Counts over the rows of a shard.

    Parameters
    ----------
    scored, flagged, novel : int, rows
    without_features : int
        Label rows without a feature row at or before their time; they are not scored.
    expected_events : float, sum of the risks
    anomalies : rows by kind and column, see ``nearward.risk_model.data_warnings.count_anomalies``
    bins : rows by column and bin, for drift; empty where the model was saved without bins
    events : counts of events and codes, see ``nearward.event_model.code_drift``; empty where the model reads features
    """

    scored: int
    flagged: int
    novel: int
    without_features: int
    expected_events: float
    anomalies: dict[str, dict[str, int]]
    bins: dict[str, list[int]]
    events: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ShardCounts:
        """Read the counts from their JSON object; raise ``TypeError`` where they are damaged."""
        counts = cls(**record)
        if not isinstance(counts.events, dict):
            raise TypeError("a shard's counts of events are damaged")
        integers = (counts.scored, counts.flagged, counts.novel, counts.without_features)
        by_column = [*counts.anomalies.values(), *([row] for row in counts.bins.values())] if isinstance(counts.bins, dict) else None
        if (
            not all(type(number) is int for number in integers)
            or not isinstance(counts.expected_events, float)
            or by_column is None
            or not isinstance(counts.events, dict)
        ):
            raise TypeError("a shard's counts are damaged")
        return counts
