"""Which encoded features belong together: to one source column, and to one block of columns that are measured together.

Masking a cell of the table means masking all features that encode it: the value, its rank, its missing flag, its categories.

Shapes: p encoded features, s source columns, b blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class FeatureLayout:
    """Origin of each of the p encoded features.

    Parameters
    ----------
    columns : tuple of str, the s source columns
    source : (p,), index into ``columns``
    missing_value : (p,), the feature's value where its source column is missing
    block_names : tuple of str, the b blocks
    block : (p,), index into ``block_names``; -1 for a feature of no block
    numeric : tuple of (source, feature)
        The feature that is a number column's standardised value.
    one_hot : tuple of (source, begin, end)
        The features that are a category column's categories; none for frequency encoded columns.

    Examples
    --------
    >>> import polars as pl
    >>> from nearward.tabular.data.schema import Schema
    >>> frame = pl.DataFrame({"age": [61.0, 70.0, None, 55.0] * 5, "sex": ["f", "m", "f", None] * 5})
    >>> layout = FeatureLayout.from_encoder(TableEncoder.fit(Schema.infer(frame), frame), {"sex": "forms"})
    >>> layout.source.tolist(), layout.block.tolist(), layout.missing_value.tolist()
    ([0, 0, 0, 1, 1, 1], [-1, -1, -1, 0, 0, 0], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    """

    columns: tuple[str, ...]
    source: Ints
    missing_value: Floats
    block_names: tuple[str, ...]
    block: Ints
    numeric: tuple[tuple[int, int], ...]
    one_hot: tuple[tuple[int, int, int], ...]

    @property
    def rank(self) -> tuple[int, ...]:
        """The features that are number columns' mid-ranks: each follows its column's standardised value."""
        return tuple(feature + 1 for _, feature in self.numeric)

    @classmethod
    def from_encoder(cls, encoder: TableEncoder, block_of: Mapping[str, str] | None = None) -> FeatureLayout:
        """Lay out an encoder's features; ``block_of`` names the block of each source column that has one."""
        block_of = block_of or {}
        sources = encoder.source_columns
        columns = tuple(dict.fromkeys(sources))
        index = {name: j for j, name in enumerate(columns)}
        begins: dict[str, int] = {}
        for j, name in enumerate(sources):
            begins.setdefault(name, j)
        blocks = tuple(dict.fromkeys(block_of[name] for name in columns if name in block_of))
        source = np.array([index[name] for name in sources], dtype=np.int64)
        missing_value = np.array(
            [float(feature == f"{name}: missing") for feature, name in zip(encoder.feature_names, sources, strict=True)]
        )
        block = [blocks.index(block_of[name]) if name in block_of else -1 for name in sources]
        numeric = tuple((index[column.name], begins[column.name]) for column in encoder.numeric)
        one_hot = []
        for column in encoder.categorical:
            if column.n_one_hot:
                begin = begins[column.name]
                one_hot.append((index[column.name], begin, begin + column.n_one_hot + column.has_pool))
        return cls(columns, source, missing_value, blocks, np.array(block, dtype=np.int64), numeric, tuple(one_hot))
