"""SDV's single-table synthesizers in our interface: fit and sample in Polars, so that they can be compared by the same card.

SDV comes with the extra ``sdv`` (Business Source Licence 1.1: read it before you use it in production) and is imported by ``fit``, which
takes several seconds.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.sdv.frames import PandasConverter
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError, require_columns

MODELS = {"gaussian_copula": "GaussianCopulaSynthesizer", "ctgan": "CTGANSynthesizer", "tvae": "TVAESynthesizer"}
_TABLE = "table"


class SdvSynthesizer:
    """One of SDV's models in our interface.

    Parameters
    ----------
    model : str
        ``gaussian_copula``, ``ctgan`` or ``tvae``.
    seed : int
        Of fitting, and of samples without a seed of their own. SDV uses global random generators, which are set and restored.
    **settings
        Passed to SDV's class, for instance ``epochs=100``.

    Raises
    ------
    InputError
        No such model, or SDV is not installed.

    Examples
    --------
    >>> copula = SdvSynthesizer("gaussian_copula").fit(train, outcome="died")  # doctest: +SKIP
    >>> copula.sample(1000, where={"died": 1})  # doctest: +SKIP
    """

    def __init__(self, model: str, seed: int = 0, **settings: Any) -> None:
        if model not in MODELS:
            raise InputError(f"model must be one of {sorted(MODELS)}, got {model!r}")
        check_sdv_installed()
        self.model, self.seed, self.settings = model, seed, settings
        self._sdv_model: Any = None
        self._schema: pl.Schema
        self._groups: str | None
        self._converter: PandasConverter

    def fit(self, train: pl.DataFrame | pl.LazyFrame, outcome: str, groups: str | None = None) -> SdvSynthesizer:
        """Fit on all rows; the patients' column is left out, and samples get fresh patients.

        Raises
        ------
        MissingColumns, InputError
        """
        import sdv.single_table
        from sdv.metadata import Metadata

        frame = to_frame(train)
        require_columns([outcome, *([groups] if groups else [])], frame.columns)
        table = frame.drop(groups) if groups else frame
        converter = PandasConverter.fit(table, outcome)
        columns = {name: {"sdtype": sdtype} for name, sdtype in converter.sdtypes.items()}
        metadata = Metadata.load_from_dict({"METADATA_SPEC_VERSION": "V1", "tables": {_TABLE: {"columns": columns}}, "relationships": []})
        with _seeded(self.seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SDV's advice to save the metadata, and deprecations of pandas inside SDV
            sdv_model = getattr(sdv.single_table, MODELS[self.model])(metadata, **self.settings)
            sdv_model.fit({_TABLE: converter.to_pandas(table)})
        self.__dict__.update(_schema=frame.schema, _groups=groups, _converter=converter, _sdv_model=sdv_model)
        return self

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Sample n rows; conditions are met by rejection: SDV samples until enough rows meet them, and stops after 100 attempts.

        Raises
        ------
        InputError
            Not fitted yet, or fewer than n rows met the conditions.
        """
        if self._sdv_model is None:
            raise InputError("the synthesizer is not fitted: call fit first")
        seed = self.seed if seed is None else seed
        with _seeded(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._sdv_model.reset_sampling()
            self._sdv_model._set_random_state(seed)
            table = self._sdv_model.sample(n)[_TABLE] if not where else self._sample_conditional(n, where)
        if len(table) < n:
            raise InputError(
                f"SDV found {len(table)} of {n} rows that meet the condition: it samples until rows meet it, and stopped after 100 attempts"
            )
        synthetic = self._converter.to_polars(table.reset_index(drop=True))
        if self._groups is None:
            return synthetic
        ids = pl.Series(self._groups, np.arange(1, n + 1)).cast(self._schema[self._groups])
        return synthetic.with_columns(ids).select(self._schema.names())

    def _sample_conditional(self, n: int, where: Mapping[str, Any]) -> Any:
        from sdv.sampling import Condition

        require_columns(where, list(self._converter.dtypes))
        values = {name: self._converter.to_pandas_value(name, value) for name, value in where.items()}
        try:
            return self._sdv_model.sample_from_conditions([Condition(num_rows=n, column_values=values)])[_TABLE]
        except ValueError as error:
            raise InputError(f"SDV found no row that meets the condition on {sorted(where)}; check that train has such rows") from error


def check_sdv_installed() -> None:
    """Raise ``InputError`` where SDV is not installed."""
    if find_spec("sdv") is None:
        raise InputError("SDV is not installed: pip install 'nearward[sdv]' (its licence, BUSL-1.1, is not ours)")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators that SDV uses, and restore their state afterwards."""
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
