"""Conversion of Polars tables to the pandas tables of SDV, in three sdtypes, and back to the same dtypes.

Pandas is installed with SDV and imported in this package only; pyarrow is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import InputError

CATEGORICAL, NUMERICAL, DATETIME = "categorical", "numerical", "datetime"
_MAX_CATEGORIES = 10  # whole numbers with at most so many values are categorical: flags, grades and counts, which a Gaussian would blur


@dataclass(frozen=True)
class PandasConverter:
    """Conversion of one table's columns.

    Parameters
    ----------
    dtypes : dict of column -> Polars dtype
    sdtypes : dict of column -> str
        ``categorical``, ``numerical`` or ``datetime``.

    Examples
    --------
    >>> converter = PandasConverter.fit(pl.DataFrame({"age": [61.5, None], "died": [0, 1]}), outcome="died")
    >>> converter.sdtypes
    {'age': 'numerical', 'died': 'categorical'}
    """

    dtypes: dict[str, pl.DataType]
    sdtypes: dict[str, str]

    @classmethod
    def fit(cls, frame: pl.DataFrame, outcome: str | None = None) -> PandasConverter:
        """Choose the sdtype of each column of a table; the outcome is categorical.

        Raises
        ------
        InputError
            A column of a dtype that SDV has no sdtype for.
        """
        return cls(dict(frame.schema), {column.name: _sdtype(column, column.name == outcome) for column in frame.iter_columns()})

    def to_pandas(self, frame: pl.DataFrame) -> Any:
        """Return a pandas frame: text with None, floats with NaN (whole numbers stay whole where none is missing), dates."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for column in frame.iter_columns():
            if self.sdtypes[column.name] == CATEGORICAL:
                columns[column.name] = pd.Series(as_text(column, column.name).to_list(), dtype=object)
            elif self.sdtypes[column.name] == DATETIME:
                columns[column.name] = pd.Series(column.cast(pl.Datetime("ns")).to_numpy())
            elif column.dtype.is_integer() and not column.null_count():
                columns[column.name] = pd.Series(column.to_numpy().astype(np.int64))
            else:
                columns[column.name] = pd.Series(column.cast(pl.Float64).to_numpy())
        return pd.DataFrame(columns)

    def to_polars(self, table: Any) -> pl.DataFrame:
        """Return a Polars frame with the dtypes and the order of the fitted table."""
        return pl.DataFrame([self._to_series(name, table[name]) for name in self.dtypes])

    def to_pandas_value(self, name: str, value: Any) -> Any:
        """Return the value of a condition as it is in the pandas column."""
        if self.sdtypes[name] != CATEGORICAL:
            return value
        return as_text(pl.Series(name, [value]).cast(self.dtypes[name]), name)[0]

    def _to_series(self, name: str, column: Any) -> pl.Series:
        dtype = self.dtypes[name]
        if self.sdtypes[name] == CATEGORICAL:
            missing = column.isna().to_numpy()
            text = pl.Series(
                name, [None if null else str(value) for null, value in zip(missing, column.tolist(), strict=True)], dtype=pl.String
            )
            return (text == "true").alias(name) if dtype == pl.Boolean else text.cast(dtype)
        if self.sdtypes[name] == DATETIME:
            return pl.Series(name, column.to_numpy().astype("datetime64[ns]")).cast(dtype)
        numbers = pl.Series(name, column.to_numpy(dtype=np.float64, na_value=np.nan)).fill_nan(None)
        return (numbers.round() if dtype.is_integer() else numbers).cast(dtype)


def _sdtype(column: pl.Series, outcome: bool) -> str:
    dtype = column.dtype
    if isinstance(dtype, pl.Date | pl.Datetime):
        return DATETIME
    if outcome or dtype == pl.Boolean or is_text(dtype):
        return CATEGORICAL
    if dtype.is_numeric():
        return CATEGORICAL if dtype.is_integer() and column.n_unique() <= _MAX_CATEGORIES else NUMERICAL
    raise InputError(
        f"column {column.name!r} has dtype {dtype.base_type()}, for which SDV has no sdtype: drop it, or make it a number or text"
    )
