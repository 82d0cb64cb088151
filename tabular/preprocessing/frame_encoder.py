"""How a method reads a frame: checked against a schema, encoded, standardised. Fitted once, kept as arrays and text.

Letters: n rows, p encoded columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.table_encoder import Numbers, TableEncoder
from nearward.tabular.typing import Floats, Ints

_FURTHEST = 8.0  # standard deviations: a slip of units is far, but must not be all that a network learns
_SMALLEST = 0.1  # a column that hardly varies is not blown up until its only other value is infinitely far
_CLUSTERS = 4  # column blocks at most, where the schema declares none


@dataclass(frozen=True)
class FrameEncoder:
    """The fitted reading.

    Parameters
    ----------
    schema : str, as JSON
    encoding : Encoding
    centre, scale : (p,), of the encoded columns of the rows it was fitted on
    columns : names of the fitted frame's columns, which an array's are; of a reading saved without them, the schema's
    """

    schema: str
    encoding: TableEncoder
    centre: Floats
    scale: Floats
    columns: tuple[str, ...] = ()

    @classmethod
    def fit(cls, frame: pl.DataFrame, schema: Schema | None) -> FrameEncoder:
        """Fit on the rows of ``frame``; without a schema it is inferred from them.

        Raises
        ------
        InputError
            No feature is left, or what ``Schema.conform`` refuses.
        """
        schema = Schema.infer(frame) if schema is None else schema
        rows = schema.conform(frame)
        if rows.width == 0:
            raise InputError("no feature is left: 0 feature(s) (shape=(n, 0)) while a minimum of 1 is required.")
        encoding = TableEncoder.fit(schema, rows)
        x = encoding.dense(encoding.numbers(rows))
        return cls(schema.to_json(), encoding, x.mean(axis=0), np.maximum(x.std(axis=0), _SMALLEST), tuple(frame.columns))

    def conform(self, X: Any) -> pl.DataFrame:
        """Return a frame's (or array's) features as the schema knows them; errors as ``Schema.conform``."""
        schema = Schema.from_json(self.schema)
        return schema.conform(to_frame(X, self.columns or [column.name for column in schema.columns]))

    def numbers(self, X: Any) -> Numbers:
        """Return values, ranks and codes of n rows."""
        return self.encoding.numbers(self.conform(X))

    def dense(self, X: Any) -> Floats:
        """Return the standardised encoded columns (n, p)."""
        x = self.encoding.dense(self.numbers(X))
        return np.asarray(((x - self.centre) / self.scale).clip(-_FURTHEST, _FURTHEST))

    def blocks(self, x: Floats) -> Ints:
        """Return the block of each encoded column (p,): declared in the schema, else columns that move together.

        Parameters
        ----------
        x : (n, p), standardised rows
        """
        schema, sources = Schema.from_json(self.schema), [source for _, source in self.encoding.outputs]
        named = list(dict.fromkeys(schema[source].block or "" for source in sources))
        if len(named) > 1:
            return np.array([named.index(schema[source].block or "") for source in sources], dtype=np.int64)
        different = list(dict.fromkeys(sources))
        first = [sources.index(source) for source in different]  # a column's leading encoding stands for it
        if len(different) <= 2:
            return np.array([different.index(source) for source in sources], dtype=np.int64)
        place = dict(zip(different, _clusters(x[:, first]).tolist(), strict=True))
        return np.array([place[source] for source in sources], dtype=np.int64)


def _clusters(x: Floats) -> Ints:
    """Cluster columns by how closely they are correlated (n, c) -> (c,), numbers from 0."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    apart = 1 - np.abs(z.T @ z / len(z)).clip(0, 1)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), "average")
    return np.asarray(fcluster(tree, min(_CLUSTERS, len(apart) // 2), "maxclust"), dtype=np.int64) - 1
