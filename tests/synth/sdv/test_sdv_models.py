"""SDV's models in our interface and ours in SDV's; tables converted to pandas and back."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from nearward.synth.sdv.frames import PandasConverter
from nearward.synth.sdv.sdv_models import SdvSynthesizer
from nearward.tabular.errors import InputError, MissingColumns

TABLE = pl.DataFrame(
    {
        "age": [61.5, None, 70.0, 55.25],
        "visits": [11, 12, 13, 14],
        "grade": pl.Series([1, 2, None, 1], dtype=pl.Int8),
        "ward": pl.Series(["ICU", None, "x", "ICU"], dtype=pl.Categorical),
        "smoker": [True, None, False, True],
        "died": [0, 1, 0, 0],
    }
)


def test_a_table_is_converted_and_back():
    pytest.importorskip("pandas", reason="comes with the extra sdv")
    table = TABLE.with_columns(seen=pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, 4), eager=True))
    converter = PandasConverter.fit(table, "died")
    assert converter.sdtypes["died"] == converter.sdtypes["grade"] == converter.sdtypes["smoker"] == "categorical"
    assert converter.sdtypes["seen"] == "datetime"
    converted = converter.to_pandas(table)
    assert converted["visits"].dtype == np.int64 or converter.sdtypes["visits"] == "categorical"
    assert converter.to_polars(converted).equals(table)
    assert converter.to_polars(converted).schema == table.schema


def test_dtypes_without_an_sdtype_are_errors():
    with pytest.raises(InputError, match="no sdtype"):
        PandasConverter.fit(pl.DataFrame({"a": [[1]]}))


def test_the_error_without_sdv_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nearward.synth.sdv.sdv_models.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"nearward\[sdv\]"):
        SdvSynthesizer("tvae")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "settings"), [("gaussian_copula", {}), ("tvae", {"epochs": 2}), ("ctgan", {"epochs": 2})])
def test_sdv_models_fit_and_sample_like_ours(ward, model, settings):
    pytest.importorskip("sdv", reason="the extra sdv is not installed")
    train = ward(600, 1).with_columns(patient=pl.Series(np.arange(600)))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    synthesizer = SdvSynthesizer(model, seed=3, **settings).fit(train, outcome="died", groups="patient")
    synthetic = synthesizer.sample(200)
    assert synthetic.schema == train.schema
    assert synthetic["patient"].n_unique() == 200
    assert synthetic.equals(synthesizer.sample(200))
    assert not synthetic.equals(synthesizer.sample(200, seed=4))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    if model == "gaussian_copula":
        assert (synthesizer.sample(50, where={"died": 1})["died"] == 1).all()
    with pytest.raises(MissingColumns):
        synthesizer.sample(5, where={"nothing": 1})


class Bootstrap:
    """A synthesizer that samples rows of train."""

    def fit(self, train, outcome, groups=None):
        self.train, self.outcome = train, outcome
        return self

    def sample(self, n, where=None, seed=None):
        table = self.train
        for name, value in (where or {}).items():
            table = table.filter(pl.col(name) == value)
        return table.sample(n, with_replacement=True, seed=seed)


@pytest.mark.slow
def test_ours_in_sdvs_interface(ward):
    pytest.importorskip("sdv", reason="the extra sdv is not installed")
    from sdv.metadata import Metadata
    from sdv.sampling import Condition
    from sdv.single_table.base import BaseSingleTableSynthesizer

    from nearward.synth.sdv.metadata import Tables, to_sdv
    from nearward.synth.sdv.single_table import _to_pandas, sdv_synthesizer
    from nearward.tabular.data.schema import Schema

    train = ward(400, 1)
    metadata = Metadata.load_from_dict(to_sdv(Tables({"ward": Schema.infer(train)})))
    real = _to_pandas(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sdv_synthesizer(metadata, "died", Bootstrap)
        assert isinstance(model, BaseSingleTableSynthesizer)
        model.fit({"ward": real})
        synthetic = model.sample(num_rows=300)["ward"]
        model.reset_sampling()
        repeated = model.sample(num_rows=300)["ward"]
        events = model.sample_from_conditions([Condition(num_rows=40, column_values={"ward": "ICU"})])["ward"]
    assert list(synthetic.columns) == train.columns
    assert synthetic.equals(repeated)
    assert set(synthetic["unit"].dropna()) <= set(real["unit"])
    assert synthetic["lactate"].isna().mean() == pytest.approx(0.25, abs=0.1)
    assert (events["ward"] == "ICU").all()
    assert len(events) == 40
    assert model.synthesizer.outcome == "died"
    with pytest.raises(InputError, match="pickling"):
        model.save("x.pkl")
    with pytest.raises(InputError, match="not a column"):
        sdv_synthesizer(metadata, "nothing", Bootstrap)
