"""A table as whole numbers, one token a cell, and back: same columns, dtypes and order, missing values where they were.

Letters: n rows, d columns.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, ColumnTokenizer, NumberTokenizer, fit_column
from nearward.tabular.errors import DataWarning
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class TableTokenizer:
    """Tokens of all columns, in the table's order.

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [50, 60, None] * 5, "sex": ["f", "m", "f"] * 5})
    >>> tokens = TableTokenizer.fit(frame)
    >>> tokens.encode(frame)[:3].tolist()
    [[1, 1], [2, 2], [0, 1]]
    >>> tokens.decode(tokens.encode(frame), np.zeros((15, 2)), frame.schema).equals(frame)
    True
    """

    columns: tuple[ColumnTokenizer, ...]

    @classmethod
    def fit(cls, frame: pl.DataFrame, protect: str | None = None, patient: Ints | None = None) -> TableTokenizer:
        """Cut all columns of a frame into tokens.

        Parameters
        ----------
        frame : n rows
        protect : str, optional
            The outcome: every value of it keeps a token of its own.
        patient : (n,), optional
            Patient numbers; without them each row is a patient.
        """
        return cls(tuple(fit_column(column, column.name == protect, patient) for column in frame.iter_columns()))

    @property
    def sizes(self) -> list[int]:
        """Tokens of each column (d,)."""
        return [column.size for column in self.columns]

    @cached_property
    def place(self) -> dict[str, int]:
        """Number of each column."""
        return {column.name: j for j, column in enumerate(self.columns)}

    def encode(self, frame: pl.DataFrame) -> Ints:
        """Return the tokens of a frame (n, d)."""
        coded = [column.encode(frame.get_column(column.name)) for column in self.columns]
        return np.stack(coded, axis=1) if coded else np.zeros((frame.height, 0), dtype=np.int64)

    def values(self, tokens: Ints, inside: Floats) -> Floats:
        """Return a number for each cell of a number column, NaN elsewhere (n, d); ``inside`` (n, d) says where in the cell."""
        values = np.full(tokens.shape, np.nan)
        for j, column in enumerate(self.columns):
            if isinstance(column, NumberTokenizer):
                values[:, j] = column.values(tokens[:, j], inside[:, j])
        return values

    def write(self, tokens: Ints, values: Floats, schema: pl.Schema) -> pl.DataFrame:
        """Return tokens and numbers (n, d) as a frame with the dtypes of ``schema``."""
        return pl.DataFrame(
            [
                column.write(tokens[:, j], schema[column.name])
                if isinstance(column, CategoryTokenizer)
                else column.write(values[:, j], schema[column.name])
                for j, column in enumerate(self.columns)
            ]
        )

    def decode(self, tokens: Ints, inside: Floats, schema: pl.Schema) -> pl.DataFrame:
        """Return tokens (n, d) as a frame, each number at ``inside`` (n, d) of its cell."""
        return self.write(tokens, self.values(tokens, inside), schema)


def warn_of_names(frame: pl.DataFrame) -> None:
    """Warn of text and whole numbers that differ in every row: what names a row tells nothing, and its range should not leave."""
    for column in frame.iter_columns():
        if (column.dtype.is_integer() or column.dtype == pl.String) and column.len() > 1 and column.n_unique() == column.len():
            warnings.warn(
                f"column {column.name!r} differs in every row: if it names rows or patients, drop it, or name it as groups",
                DataWarning,
                stacklevel=4,
            )
