"""Rows that a command is asked about: of a table, or labels with their events where the model reads events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearward.cli.terminal.console import find_row

if TYPE_CHECKING:
    import polars as pl

    from nearward.event_model.event_risk import EventRisk
    from nearward.risk_model.classifier import RiskClassifier


@dataclass(frozen=True)
class Queries:
    """A model, and the rows that it is asked about.

    Parameters
    ----------
    model : RiskClassifier or EventRisk
    data : tuple
        What its methods are called with: rows; or events and labels.
    rows : pl.DataFrame
        The rows of the table, or of the labels.
    label : str or None
        Name of the row where one is wanted and nothing in it names it: its number, or subject and time.
    """

    model: Any
    data: tuple[Any, ...]
    rows: pl.DataFrame
    label: str | None

    @property
    def classifier(self) -> RiskClassifier:
        """The risk model."""
        from nearward.event_model.event_risk import EventRisk

        classifier: RiskClassifier = self.model.model_ if isinstance(self.model, EventRisk) else self.model
        return classifier

    @property
    def key_columns(self) -> int:
        """The number of columns by which the model's results name a row: its id; or its subject and time."""
        return len(self.data)

    def features(self) -> pl.DataFrame:
        """Return the rows as the risk model reads them."""
        from nearward.event_model.event_risk import EventRisk

        return self.model.transform_counted(*self.data)[1] if isinstance(self.model, EventRisk) else self.rows


def read_queries(model: Path, table: Path, labels: Path | None, row: str | None) -> Queries:
    """Load a model, and read the rows that it is asked about.

    Parameters
    ----------
    model : folder
    table : table; events where the model reads them
    labels : file of subjects and moments, of a model of events
    row : id or number of one row, as ``find_row``; None for all

    Raises
    ------
    InputError
        Labels are missing, or given for a model of tables; no such row.
    """
    from nearward.tabular.data.table_io import read_table

    loaded = load_for(model, labels)
    ids: tuple[str, ...] = ()
    if labels is not None:
        frame = read_table(labels)
    else:
        frame, ids = read_table(table, loaded.schema_), loaded.schema_.named("id")
    label = None
    if row is not None:
        number = find_row(row, frame, ids)
        frame = frame[number : number + 1]
        label = None if ids else f"row {number}"
    return Queries(loaded, (frame,) if labels is None else (table, frame), frame, label)


def load_for(model: Path, labels: Path | None) -> RiskClassifier | EventRisk:
    """Load a model of events where there are labels, and one of tables where there are none.

    Raises
    ------
    InputError
        The model is of the other kind.
    """
    from nearward.event_model.event_risk import EventRisk
    from nearward.loading import load
    from nearward.tabular.errors import InputError

    loaded = load(model)
    if isinstance(loaded, EventRisk) and labels is None:
        raise InputError(f"{model} holds a model of events: --labels must name the subjects and moments of prediction")
    if labels is not None and not isinstance(loaded, EventRisk):
        raise InputError(f"{model} holds a model of tables: --labels goes with a model of events")
    return loaded
