"""Our synthesizer in SDV's single-table interface: code written for SDV's synthesizers can use ours instead.

SDV is imported when a synthesizer is created, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import polars as pl

from nearward.synth.sdv.sdv_models import check_sdv_installed
from nearward.tabular.errors import InputError


def sdv_synthesizer(metadata: Any, outcome: str, make: Callable[[], Any] | None = None, seed: int = 0) -> Any:
    """Return an SDV single-table synthesizer that uses ours.

    Parameters
    ----------
    metadata : sdv.metadata.Metadata
        Of one table.
    outcome : str
        Column of the rare outcome, which SDV's metadata has no key for.
    make : callable, optional
        Returns an unfitted synthesizer, or any object with its methods ``fit`` and ``sample``; ``Synthesizer(seed)`` by default.
    seed : int

    Returns
    -------
    BaseSingleTableSynthesizer
        Its ``fit``, ``sample``, ``sample_from_conditions`` and other methods are SDV's; conditions are passed to our sampler unchanged.

    Raises
    ------
    InputError
        SDV is not installed, or the outcome is not a column.

    Examples
    --------
    >>> model = sdv_synthesizer(metadata, outcome="died")  # doctest: +SKIP
    >>> model.fit({"table": frame}); model.sample(num_rows=1000)["table"]  # doctest: +SKIP
    """
    check_sdv_installed()
    if make is None:
        from nearward.synth.synthesizer import Synthesizer

        make = partial(Synthesizer, seed)
    return _sdv_class()(metadata, outcome, make, seed)


@cache
def _sdv_class() -> type:
    from sdv.single_table.base import BaseSingleTableSynthesizer

    class NearwardSynthesizer(BaseSingleTableSynthesizer):  # type: ignore[misc]
        """SDV's base class does validation, constraints and batches; ours fits and samples, on the columns as they are."""

        def __init__(self, metadata: Any, outcome: str, make: Callable[[], Any], seed: int) -> None:
            super().__init__(metadata)
            names = list(self._data_processor.metadata.columns)
            if outcome not in names:
                raise InputError(f"the outcome {outcome!r} is not a column of the metadata: {names}")
            self.outcome, self._make, self._seed, self._batches = outcome, make, seed, 0
            self._model: Any = None

        def _preprocess(self, table_data: Any) -> Any:
            self._data_processor.prepare_for_fitting(table_data)
            keys = self._data_processor._keys
            columns = [name for name in self._data_processor.metadata.columns if name not in keys]
            self._data_processor.update_transformers(dict.fromkeys(columns))  # none: our tokenizer handles dtypes, grids and missing values
            return super()._preprocess(table_data)

        def _fit(self, processed: Any) -> None:
            frame = pl.DataFrame({name: _to_series(processed[name]) for name in processed.columns})
            self._model = self._make()
            self._model.fit(frame, outcome=self.outcome)
            self._batches = 0

        def _sample(self, num_rows: int, conditions: dict[str, Any] | None = None) -> Any:
            self._batches += 1  # SDV samples in batches: each has a seed of its own
            frame = self._model.sample(num_rows, where=conditions or None, seed=self._seed + self._batches)
            return _to_pandas(frame)

        def _set_random_state(self, random_state: Any) -> None:
            self._random_state_set = True

        def reset_sampling(self) -> None:
            """Restart the sequence of seeds."""
            super().reset_sampling()
            self._batches = 0

        def save(self, filepath: Any) -> None:
            """Raise an error: SDV would pickle."""
            raise InputError("SDV saves by pickling, which nearward does not do: call .synthesizer.save(folder)")

        @property
        def synthesizer(self) -> Any:
            """Our synthesizer."""
            return self._model

    return NearwardSynthesizer


def _to_series(column: Any) -> pl.Series:
    """Return a pandas column as a Polars series, without pyarrow."""
    if column.dtype.kind == "M":
        return pl.Series(column.to_numpy().astype("datetime64[us]"))
    if column.dtype.kind in "iufb":
        return pl.Series(column.to_numpy()).fill_nan(None) if column.dtype.kind == "f" else pl.Series(column.to_numpy())
    missing = column.isna().to_numpy()
    return pl.Series([None if null else value for null, value in zip(missing, column.tolist(), strict=True)], strict=False)


def _to_pandas(frame: pl.DataFrame) -> Any:
    """Return a pandas frame with the dtypes that ``_to_series`` reads."""
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
