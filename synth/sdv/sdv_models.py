"""SDV's single-table synthesizers behind our interface: fit and sample in Polars, so that the same card judges them.

SDV comes with the extra ``sdv`` (Business Source Licence 1.1: read it before you use it in production) and is imported here alone, when a
model is made; that takes several seconds.
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

from nearward.synth.sdv.frames import Bridge
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError, MissingColumns

MODELS = {"gaussian_copula": "GaussianCopulaSynthesizer", "ctgan": "CTGANSynthesizer", "tvae": "TVAESynthesizer"}
_TABLE = "table"


class SdvSynthesizer:
    """One of SDV's models as a synthesizer of ours.

    Parameters
    ----------
    model : str
        ``gaussian_copula``, ``ctgan`` or ``tvae``.
    seed : int
        Of fitting, and of samples that name none. SDV draws from global generators: they are set, and put back afterwards.
    **settings
        Handed to SDV's class, for instance ``epochs=100``.

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
            raise InputError(f"no model {model!r} of SDV here: choose one of {sorted(MODELS)}")
        need_sdv()
        self.model, self.seed, self.settings = model, seed, settings
        self._fitted: Any = None

    def fit(self, train: pl.DataFrame | pl.LazyFrame, outcome: str, groups: str | None = None) -> SdvSynthesizer:
        """Fit on all rows; the patients' column is left out, and samples get fresh patients.

        Raises
        ------
        MissingColumns, InputError
        """
        import sdv.single_table
        from sdv.metadata import Metadata

        frame = to_frame(train)
        asked = [outcome, *([groups] if groups else [])]
        missing = [name for name in asked if name not in frame.columns]
        if missing:
            raise MissingColumns(missing, frame.columns)
        self._columns, self._group, self._group_dtype = frame.columns, groups, frame.schema[groups] if groups else None
        table = frame.drop(groups) if groups else frame
        self._bridge = Bridge.of(table, outcome)
        columns = {name: {"sdtype": sdtype} for name, sdtype in self._bridge.sdtypes.items()}
        metadata = Metadata.load_from_dict({"METADATA_SPEC_VERSION": "V1", "tables": {_TABLE: {"columns": columns}}, "relationships": []})
        with _seeded(self.seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SDV's advice to save the metadata, and of pandas' coming changes inside SDV
            self._fitted = getattr(sdv.single_table, MODELS[self.model])(metadata, **self.settings)
            self._fitted.fit({_TABLE: self._bridge.to_pandas(table)})
        return self

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Sample n rows; conditions are met by drawing until enough rows meet them, which SDV gives up after 100 tries.

        Raises
        ------
        InputError
            Not fitted yet, or fewer rows than asked for met the condition.
        """
        if self._fitted is None:
            raise InputError("fit the synthesizer before you sample from it")
        seed = self.seed if seed is None else seed
        with _seeded(seed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._fitted.reset_sampling()
            self._fitted._set_random_state(seed)
            table = self._fitted.sample(n)[_TABLE] if not where else self._conditioned(n, where)
        if len(table) < n:
            raise InputError(
                f"SDV made {len(table)} of {n} rows that meet the condition: it draws at random until rows meet it, and gave up"
            )
        made = self._bridge.to_polars(table.reset_index(drop=True))
        if self._group is None:
            return made
        fresh = pl.Series(self._group, np.arange(1, n + 1)).cast(self._group_dtype or pl.Int64)
        return made.with_columns(fresh).select(self._columns)

    def _conditioned(self, n: int, where: Mapping[str, Any]) -> Any:
        from sdv.sampling import Condition

        missing = [name for name in where if name not in self._bridge.dtypes]
        if missing:
            raise MissingColumns(missing, list(self._bridge.dtypes))
        wanted = {name: self._bridge.value(name, value) for name, value in where.items()}
        try:
            return self._fitted.sample_from_conditions([Condition(num_rows=n, column_values=wanted)])[_TABLE]
        except ValueError as error:
            raise InputError(f"SDV made no row with the condition on {sorted(where)}: is there such a row in train?") from error


def need_sdv() -> None:
    """Refuse where SDV is not installed.

    Raises
    ------
    InputError
    """
    if find_spec("sdv") is None:
        raise InputError("SDV is not installed: pip install 'nearward[sdv]' (its licence, BUSL-1.1, is not ours)")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the global generators that SDV draws from, and put them back as they were."""
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
