"""From any frame to standardised features: checked against a schema, encoded, standardised; fitted once, stored as arrays and text.

Shapes: n rows, p encoded features, c columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.typing import Floats, Ints

_MAX_Z = 8.0  # standard deviations: a slip of units is far, but must not be all that a network learns
_MIN_SCALE = 0.1  # so that a column that hardly varies is not blown up until its only other value is infinitely far
_MAX_CLUSTERS = 4  # blocks at most, where the schema declares none


@dataclass(frozen=True)
class FrameEncoder:
    """Fitted schema, table encoder and standardisation.

    Parameters
    ----------
    schema : str, as JSON
    table_encoder : TableEncoder
    mean, scale : (p,), of the encoded features of the rows it was fitted on
    columns : names of the fitted frame's columns, which are those of an array; by default the schema's
    """

    schema: str
    table_encoder: TableEncoder
    mean: Floats
    scale: Floats
    columns: tuple[str, ...] = ()

    @classmethod
    def fit(cls, frame: pl.DataFrame, schema: Schema | None) -> FrameEncoder:
        """Fit on the rows of ``frame``; without a schema it is inferred from them.

        Raises
        ------
        InputError
            No feature is left; errors of ``Schema.conform``.
        """
        schema = Schema.infer(frame) if schema is None else schema
        rows = schema.conform(frame)
        if rows.width == 0:
            raise InputError("no feature is left: 0 feature(s) (shape=(n, 0)) while a minimum of 1 is required.")
        table_encoder = TableEncoder.fit(schema, rows)
        x = table_encoder.transform(rows)
        return cls(schema.to_json(), table_encoder, x.mean(axis=0), np.maximum(x.std(axis=0), _MIN_SCALE), tuple(frame.columns))

    def conform(self, X: Any) -> pl.DataFrame:
        """Return a frame's (or array's) features conformed to the schema; errors as ``Schema.conform``."""
        schema = Schema.from_json(self.schema)
        return schema.conform(to_frame(X, self.columns or [column.name for column in schema.columns]))

    def encode(self, X: Any) -> EncodedTable:
        """Return values, ranks and codes of n rows."""
        return self.table_encoder.encode(self.conform(X))

    def transform(self, X: Any) -> Floats:
        """Return the standardised features (n, p)."""
        x = self.table_encoder.to_matrix(self.encode(X))
        return np.asarray(((x - self.mean) / self.scale).clip(-_MAX_Z, _MAX_Z))

    def feature_blocks(self, x: Floats) -> Ints:
        """Return the block of each feature (p,): declared in the schema, else clusters of correlated columns.

        Parameters
        ----------
        x : (n, p), standardised features
        """
        schema, sources = Schema.from_json(self.schema), self.table_encoder.source_columns
        declared = [schema[source].block or "" for source in sources]
        if len(set(declared)) > 1:
            return _codes(declared)
        columns = list(dict.fromkeys(sources))
        if len(columns) <= 2:
            return _codes(sources)
        index = {source: j for j, source in reversed(list(enumerate(sources)))}
        first = [index[column] for column in columns]  # a column's first feature stands for it
        cluster = dict(zip(columns, _clusters(x[:, first]).tolist(), strict=True))
        return np.array([cluster[source] for source in sources], dtype=np.int64)


def _codes(names: list[str]) -> Ints:
    unique = list(dict.fromkeys(names))
    return np.array([unique.index(name) for name in names], dtype=np.int64)


def _clusters(x: Floats) -> Ints:
    """Cluster columns by their absolute correlation (n, c) -> (c,), numbers from 0."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    deviation = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    distance = 1 - np.abs(z.T @ z / len(z)).clip(0, 1)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average")
    return np.asarray(fcluster(tree, min(_MAX_CLUSTERS, len(distance) // 2), "maxclust"), dtype=np.int64) - 1
