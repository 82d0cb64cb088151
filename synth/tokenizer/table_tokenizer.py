"""Tokenizer of a table: one integer token for each value, and back with the same columns, dtypes, order and missing values.

Shapes: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, ColumnTokenizer, NumberTokenizer, fit_column
from nearward.synth.tokenizer.date_differences import Difference, find_differences
from nearward.tabular.data.text_values import ISO_DATE, warn_of_numbers_as_text
from nearward.tabular.errors import DataWarning
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Floats, Ints


@dataclass(frozen=True)
class TableTokenizer:
    """Tokenizers of all columns, in the table's order, and of the differences of dates that are learned beside them.

    Parameters
    ----------
    column_tokenizers : tuple of d tokenizers, those of the differences last
    differences : tuple of Difference

    Examples
    --------
    >>> frame = pl.DataFrame({"age": [50, 60, None] * 5, "sex": ["f", "m", "f"] * 5})
    >>> tokenizer = TableTokenizer.fit(frame)
    >>> tokenizer.encode(frame)[:3].tolist()
    [[1, 1], [2, 2], [0, 1]]
    >>> tokenizer.decode(tokenizer.encode(frame), np.zeros((15, 2)), frame.schema).equals(frame)
    True
    """

    column_tokenizers: tuple[ColumnTokenizer, ...]
    differences: tuple[Difference, ...] = ()

    @classmethod
    def fit(
        cls, frame: pl.DataFrame, outcome: str | None = None, patient_ids: Ints | None = None, categories: Collection[str] = ()
    ) -> TableTokenizer:
        """Fit the tokenizers of all columns.

        Parameters
        ----------
        frame : n rows
        outcome : str, optional
            Every value of this column keeps a token of its own.
        patient_ids : (n,), optional
            Without them each row is a patient.
        categories : collection of str
            Columns of numbers that are codes.
        """
        return cls(
            tuple(fit_column(column, column.name == outcome, patient_ids, column.name in categories) for column in frame.iter_columns())
        )

    def with_differences(self, frame: pl.DataFrame, rules: Rules, patient_ids: Ints | None = None) -> TableTokenizer:
        """Return a tokenizer that also has the differences of the dates of a frame (n rows) that rules order."""
        differences = find_differences(frame, rules)
        further = (NumberTokenizer.fit(one.column(frame), patient_ids=patient_ids) for one in differences)
        return TableTokenizer((*self.column_tokenizers, *further), differences)

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each column (d,)."""
        return [column.size for column in self.column_tokenizers]

    @property
    def ordinal(self) -> list[bool]:
        """Whether the tokens of each column are ordered (d,): bins are, categories are not."""
        return [isinstance(column, NumberTokenizer) for column in self.column_tokenizers]

    @cached_property
    def column_index(self) -> dict[str, int]:
        """Index of each column by its name."""
        return {column.name: j for j, column in enumerate(self.column_tokenizers)}

    def encode(self, frame: pl.DataFrame) -> Ints:
        """Return the tokens of a frame (n, d)."""
        difference = {one.name: one for one in self.differences}
        tokens = [
            column.encode(difference[column.name].column(frame) if column.name in difference else frame.get_column(column.name))
            for column in self.column_tokenizers
        ]
        return np.stack(tokens, axis=1) if tokens else np.zeros((frame.height, 0), dtype=np.int64)

    def decode(self, tokens: Ints, position: Floats, schema: pl.Schema) -> pl.DataFrame:
        """Return tokens (n, d) as a frame, each number at ``position`` (n, d), 0 to 1, of its bin."""
        values = np.full(tokens.shape, np.nan)
        for j, column in enumerate(self.column_tokenizers):
            if isinstance(column, NumberTokenizer):
                values[:, j] = column.values(tokens[:, j], position[:, j])
        return self.to_frame(tokens, values, schema)

    def to_frame(self, tokens: Ints, values: Floats, schema: pl.Schema) -> pl.DataFrame:
        """Return a frame with the dtypes of ``schema``, without differences: categories from ``tokens``, numbers from ``values`` (n, d)."""
        return pl.DataFrame(
            [
                column.to_series(tokens[:, j], schema[column.name])
                if isinstance(column, CategoryTokenizer)
                else column.to_series(values[:, j], schema[column.name])
                for j, column in enumerate(self.column_tokenizers[: len(self.column_tokenizers) - len(self.differences)])
            ]
        )


def warn_of_text(frame: pl.DataFrame) -> None:
    """Warn of text that may be measurements or dates: as categories, nearly all of their values would become RARE."""
    for column in frame.select(pl.col(pl.String)).iter_columns():
        if column.count() > 0 and bool(column.drop_nulls().str.contains(ISO_DATE).all()):
            warnings.warn(
                f"column {column.name!r} is text of dates or times: taken as a category. Turn it into dates first (.str.to_date())",
                DataWarning,
                stacklevel=3,
            )
        warn_of_numbers_as_text(column, stacklevel=4)


def warn_of_identifiers(frame: pl.DataFrame) -> None:
    """Warn of text and whole numbers that differ in every row: identifiers predict nothing, and their range should not be published."""
    for column in frame.iter_columns():
        if (column.dtype.is_integer() or column.dtype == pl.String) and column.len() > 1 and column.n_unique() == column.len():
            warnings.warn(
                f"column {column.name!r} differs in every row: if it identifies rows or patients, drop it, or pass it as groups",
                DataWarning,
                stacklevel=3,
            )
