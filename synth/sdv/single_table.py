"""Our synthesizer behind SDV's single-table interface: what is written for SDV's synthesizers takes ours in their place.

SDV is imported when the class is asked for, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import polars as pl

from nearward.synth.sdv.sdv_models import need_sdv
from nearward.tabular.errors import InputError


class Fits(Protocol):
    """A synthesizer of ours, or anything with its two methods."""

    def fit(self, train: pl.DataFrame, outcome: str, groups: str | None = None) -> Any:
        """Learn from a table."""
        ...

    def sample(self, n: int, where: dict[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Draw rows."""
        ...


def sdv_synthesizer(metadata: Any, outcome: str, make: Callable[[], Fits] | None = None, seed: int = 0) -> Any:
    """Return an SDV single-table synthesizer that is ours inside.

    Parameters
    ----------
    metadata : sdv.metadata.Metadata
        Of one table.
    outcome : str
        The rare outcome, which SDV's metadata does not name.
    make : callable, optional
        Makes the synthesizer; ``Synthesizer(seed)`` by default.
    seed : int

    Returns
    -------
    BaseSingleTableSynthesizer
        Its ``fit``, ``sample``, ``sample_from_conditions`` and the rest are SDV's; conditions go to our sampler as they are.

    Raises
    ------
    InputError
        SDV is not installed, or the outcome is not a column.

    Examples
    --------
    >>> model = sdv_synthesizer(metadata, outcome="died")  # doctest: +SKIP
    >>> model.fit({"table": frame}); model.sample(num_rows=1000)["table"]  # doctest: +SKIP
    """
    need_sdv()
    return _sdv_class()(metadata, outcome, make or (lambda: _ours(seed)), seed)


def _ours(seed: int) -> Fits:
    from nearward.synth.synthesizer import Synthesizer  # type: ignore[import-not-found, unused-ignore]

    made: Fits = Synthesizer(seed=seed)
    return made


@cache
def _sdv_class() -> type:
    from sdv.single_table.base import BaseSingleTableSynthesizer

    class NearwardSynthesizer(BaseSingleTableSynthesizer):  # type: ignore[misc]
        """SDV's base class does validation, constraints and batches; learning and drawing are ours, on the columns as they are."""

        def __init__(self, metadata: Any, outcome: str, make: Callable[[], Fits], seed: int) -> None:
            super().__init__(metadata)
            names = list(self._data_processor.metadata.columns)
            if outcome not in names:
                raise InputError(f"the outcome {outcome!r} is not a column of the metadata: {names}")
            self.outcome, self._make, self._seed, self._drawn = outcome, make, seed, 0
            self._model: Any = None

        def _preprocess(self, table_data: Any) -> Any:
            self._data_processor.prepare_for_fitting(table_data)
            keys = self._data_processor._keys
            columns = [name for name in self._data_processor.metadata.columns if name not in keys]
            self._data_processor.update_transformers(dict.fromkeys(columns))  # none: ours reads types, grids and holes by itself
            return super()._preprocess(table_data)

        def _fit(self, processed: Any) -> None:
            frame = pl.DataFrame({name: _series(processed[name]) for name in processed.columns})
            self._model = self._make()
            self._model.fit(frame, outcome=self.outcome)
            self._drawn = 0

        def _sample(self, num_rows: int, conditions: dict[str, Any] | None = None) -> Any:
            self._drawn += 1  # SDV draws in batches: each its own
            frame = self._model.sample(num_rows, where=conditions or None, seed=self._seed + self._drawn)
            return _table(frame)

        def _set_random_state(self, random_state: Any) -> None:
            self._random_state_set = True

        def reset_sampling(self) -> None:
            """Begin the sequence of samples anew."""
            super().reset_sampling()
            self._drawn = 0

        def save(self, filepath: Any) -> None:
            """Refuse: SDV would pickle."""
            raise InputError("SDV saves by pickling, which nearward never does: call .synthesizer.save(folder)")

        @property
        def synthesizer(self) -> Any:
            """The synthesizer inside."""
            return self._model

    return NearwardSynthesizer


def _series(column: Any) -> pl.Series:
    """Read a pandas column without pyarrow: dates by their numbers, text and flags by their values."""
    if column.dtype.kind == "M":
        return pl.Series(column.to_numpy().astype("datetime64[us]"))
    if column.dtype.kind in "iufb":
        return pl.Series(column.to_numpy()).fill_nan(None) if column.dtype.kind == "f" else pl.Series(column.to_numpy())
    missing = column.isna().to_numpy()
    return pl.Series([None if gone else value for gone, value in zip(missing, column.tolist(), strict=True)], strict=False)


def _table(frame: pl.DataFrame) -> Any:
    """Return a pandas frame of the kinds that were read."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column in frame.iter_columns():
        if column.dtype.is_numeric() and (column.dtype.is_float() or column.null_count()):
            columns[column.name] = column.cast(pl.Float64).to_numpy()
        elif column.dtype.is_numeric() or column.dtype.is_temporal() or (column.dtype == pl.Boolean and not column.null_count()):
            columns[column.name] = column.to_numpy()
        else:
            columns[column.name] = pd.Series(column.to_list(), dtype=object)
    return pd.DataFrame(columns)
