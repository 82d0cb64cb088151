"""Similar patients as a table: who voted, with what weight and outcome, and what sets them apart from the patient asked about."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.risk_model.binary import FittedRisk

_FEATURES_SHOWN = 4


def similar_rows(
    model: FittedRisk, rows: pl.DataFrame, ids: pl.Series, records: pl.DataFrame, id_column: str, k: int | None
) -> pl.DataFrame:
    """Return the k weightiest context patients of each conformed row, one row a patient."""
    context = model.context(rows)
    there = context.row >= 0
    wanted = int(there.sum(axis=1).max()) if k is None else k
    order = np.argsort(np.where(there, -context.weight, np.inf), axis=1, kind="stable")[:, :wanted]  # (q, k)
    query, place = np.nonzero(np.take_along_axis(there, order, axis=1))
    column = order[query, place]
    stored = context.row[query, column]
    return pl.DataFrame(
        [
            ids.gather(query),
            pl.Series("rank", place + 1),
            records.get_column(id_column).gather(stored).alias("patient"),
            pl.Series("weight", context.weight[query, column]),
            pl.Series("outcome", context.outcome[query, column].astype(np.int64)),
            pl.Series("distance", np.sqrt(context.squared[query, column])),
            pl.Series("floored", context.floored[query, column]),
            pl.Series("differs", _differences(model, rows, records, query, stored), dtype=pl.String),
        ]
    )


def _differences(
    model: FittedRisk, rows: pl.DataFrame, records: pl.DataFrame, query: NDArray[np.int64], stored: NDArray[np.int64]
) -> list[str]:
    """Name the features that are furthest apart in the encoding, by how much the gate heeds them."""
    encoding = model.encoding
    asked = encoding.transform(rows)
    voters, place = np.unique(stored, return_inverse=True)
    known = encoding.transform(records[voters])
    names = list(dict.fromkeys(encoding.source_columns))
    source = np.array([names.index(name) for name in encoding.source_columns])
    gate = model.gate(rows)
    apart = np.zeros((len(query), len(names)))
    for j in range(len(source)):
        apart[:, source[j]] += (asked[query, j] - known[place, j]) ** 2
    apart *= np.array([gate[name] for name in names])
    out = []
    for q, s, far in zip(query.tolist(), stored.tolist(), apart, strict=True):
        shown = [names[j] for j in np.argsort(-far, kind="stable")[:_FEATURES_SHOWN] if far[j] > 1e-12]
        out.append("; ".join(f"{name}: {_short(rows[q, name])} → {_short(records[s, name])}" for name in shown))
    return out


def _short(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
