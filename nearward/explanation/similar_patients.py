"""The similar patients of each row as a table: weight, outcome, distance, and the features that differ most."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from nearward.explanation.cell_text import cell_text
from nearward.retrieval.neighbors.voting import Context
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Ints

_FEATURES_SHOWN = 4


class RetrievalModel(Protocol):
    """The parts of a fitted model that find similar patients."""

    @property
    def table_encoder(self) -> TableEncoder:
        """Encoder of conformed rows."""

    def context(self, frame: pl.DataFrame) -> Context:
        """Return the similar patients of a conformed frame's rows."""

    def gate(self, frame: pl.DataFrame) -> dict[str, float]:
        """Return each column's share of the encoders' mean gate."""


def similar_rows(
    model: RetrievalModel, rows: pl.DataFrame, ids: pl.Series, records: pl.DataFrame, id_column: str, k: int | None
) -> pl.DataFrame:
    """Return the k context patients with the largest weights for each conformed row, one row per patient."""
    context = model.context(rows)
    present = context.present
    shown = int(present.sum(axis=1).max()) if k is None else k
    order = np.argsort(np.where(present, -context.weight, np.inf), axis=1, kind="stable")[:, :shown]  # (q, k)
    query, rank = np.nonzero(np.take_along_axis(present, order, axis=1))
    column = order[query, rank]
    stored = context.row[query, column]
    columns = [
        ids.gather(query),
        pl.Series("rank", rank + 1),
        pl.Series("weight", context.weight[query, column]),
        pl.Series("outcome", context.outcome[query, column].astype(np.int64)),
        pl.Series("distance", np.sqrt(context.sq_distance[query, column])),
        pl.Series("floored", context.floored[query, column]),
    ]
    if records.width > 0:  # a model may be saved without them
        columns.insert(2, records.get_column(id_column).gather(stored).alias("patient"))
        columns.append(pl.Series("differs", _differences(model, rows, records, query, stored), dtype=pl.String))
    return pl.DataFrame(columns)


def _differences(model: RetrievalModel, rows: pl.DataFrame, records: pl.DataFrame, query: Ints, stored: Ints) -> list[str]:
    """Describe, for each pair of a query row and a stored row, the features with the largest gate-weighted squared differences."""
    encoding = model.table_encoder
    queries = encoding.transform(rows)
    unique, index = np.unique(stored, return_inverse=True)
    patients = encoding.transform(records[unique])
    names = list(dict.fromkeys(encoding.source_columns))
    source = np.array([names.index(name) for name in encoding.source_columns])
    gate = model.gate(rows)
    difference = np.zeros((len(query), len(names)))
    for j in range(len(source)):
        difference[:, source[j]] += (queries[query, j] - patients[index, j]) ** 2
    difference *= np.array([gate[name] for name in names])
    descriptions = []
    for q, s, by_feature in zip(query.tolist(), stored.tolist(), difference, strict=True):
        largest = [names[j] for j in np.argsort(-by_feature, kind="stable")[:_FEATURES_SHOWN] if by_feature[j] > 1e-12]
        descriptions.append("; ".join(f"{name}: {cell_text(rows[q, name])} → {cell_text(records[s, name])}" for name in largest))
    return descriptions
