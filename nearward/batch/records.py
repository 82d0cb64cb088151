"""The records of a scoring job as the job store keeps them in JSON: options, input tables, and the result of each shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# field of ``ShardCounts`` -> its key in the sidecar's JSON, where they differ
_KEYS = {"without_features": "unfound", "novel": "strange", "expected_events": "risk", "anomalies": "odd"}


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
        Feature tables that label rows are joined with; empty where the scored tables hold the features themselves.
    """

    model: str
    schema: str
    threshold: float
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    id: str | None
    features: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> JobOptions:
        """Read the options from their JSON object."""
        features = tuple((str(path), int(size), int(changed)) for path, size, changed in record["features"])
        return cls(**{**record, "needs": tuple(record["needs"]), "reads": tuple(record["reads"]), "features": features})


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
        """Read a table's record from its JSON object."""
        return cls(**{field.name: record[field.name] for field in fields(cls) if field.name in record})

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object, without fields that are unknown."""
        return {key: value for key, value in asdict(self).items() if value is not None}


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
    """

    scored: int
    flagged: int
    novel: int
    without_features: int
    expected_events: float
    anomalies: dict[str, dict[str, int]]
    bins: dict[str, list[int]]


@dataclass(frozen=True)
class ShardResult:
    """The sidecar of a scored shard.

    Parameters
    ----------
    file, part, rows : int, as ``Shard``
    sha256 : str, of the output file
    counts : ShardCounts
    """

    file: int
    part: int
    rows: int
    sha256: str
    counts: ShardCounts

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ShardResult:
        """Read a shard's result from its JSON object."""
        counts = ShardCounts(**{field.name: record[_KEYS.get(field.name, field.name)] for field in fields(ShardCounts)})
        return cls(record["file"], record["part"], record["rows"], record["sha256"], counts)


def counts_to_json(counts: ShardCounts) -> dict[str, Any]:
    """Return the counts under their keys in the sidecar."""
    return {_KEYS.get(name, name): value for name, value in asdict(counts).items()}
