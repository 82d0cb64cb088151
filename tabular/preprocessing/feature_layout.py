"""Which dense columns belong together: to one source column, and to one block of columns that are measured together.

Whoever hides a cell must hide all that the encoding makes of it: the value, its rank, its missing flag, its levels.

Letters: p encoded columns, s source columns, d number columns, b blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class FeatureLayout:
    """Where each of the p dense columns comes from.

    Parameters
    ----------
    names : tuple of str, the s source columns
    source : (p,), place among ``names``
    absent : (p,), what the dense column reads where its source is missing
    blocks : tuple of str, the b blocks
    block : (p,), place among ``blocks``; -1 for a column of none
    value : tuple of (source, place)
        The dense column that holds a number column's standardised value.
    levels : tuple of (source, begin, end)
        The dense columns that are a category column's levels; none for categories that are read as a frequency.

    Examples
    --------
    >>> import polars as pl
    >>> from nearward.tabular.data.schema import Schema
    >>> frame = pl.DataFrame({"age": [61.0, 70.0, None, 55.0] * 5, "sex": ["f", "m", "f", None] * 5})
    >>> layout = FeatureLayout.of(TableEncoder.fit(Schema.infer(frame), frame), {"sex": "forms"})
    >>> layout.source.tolist(), layout.block.tolist(), layout.absent.tolist()
    ([0, 0, 0, 1, 1, 1], [-1, -1, -1, 0, 0, 0], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    """

    names: tuple[str, ...]
    source: Ints
    absent: Floats
    blocks: tuple[str, ...]
    block: Ints
    value: tuple[tuple[int, int], ...]
    levels: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, encoding: TableEncoder, block_of: Mapping[str, str] | None = None) -> FeatureLayout:
        """Read an encoding; ``block_of`` names the block of each source column that has one."""
        block_of = block_of or {}
        names = tuple(dict.fromkeys(source for _, source in encoding.outputs))
        place = {name: j for j, name in enumerate(names)}
        blocks = tuple(dict.fromkeys(block_of[name] for name in names if name in block_of))
        source = np.array([place[name] for _, name in encoding.outputs], dtype=np.int64)
        absent = np.array([float(output == f"{name}: missing") for output, name in encoding.outputs])
        block = [blocks.index(block_of[name]) if name in block_of else -1 for _, name in encoding.outputs]
        first = {name: int(np.flatnonzero(source == place[name])[0]) for name in names}
        value = tuple((place[column.name], first[column.name]) for column in encoding.number)
        levels = []
        for column in encoding.category:
            if column.one_hot:
                pooled = column.one_hot < len(column.levels)
                levels.append((place[column.name], first[column.name], first[column.name] + column.one_hot + pooled))
        return cls(names, source, absent, blocks, np.array(block, dtype=np.int64), value, tuple(levels))
