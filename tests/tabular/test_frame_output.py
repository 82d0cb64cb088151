"""Pandas out where it is asked for."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import InputError
from nearward.tabular.frame_output import to_pandas

pandas = pytest.importorskip("pandas")


def stays() -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    ill = np.arange(200) % 4 == 0
    return pl.DataFrame({"lactate": rng.normal(size=200) + 2 * ill, "ward": ["ICU", "A"] * 100, "noise": rng.normal(size=200)}), ill


def test_a_transformer_returns_pandas_with_the_index_of_x_and_numbers_as_numbers() -> None:
    rows, ill = stays()
    theirs = pandas.DataFrame({name: rows[name].to_numpy() for name in rows.columns}, index=range(1000, 1200))
    selection = nw.StableColumns(share=0.6, wrong=3).fit(rows, ill)
    expected = selection.transform(rows)
    assert isinstance(selection.transform(theirs), pl.DataFrame)
    out = selection.set_output(transform="pandas").transform(theirs)
    assert isinstance(out, pandas.DataFrame)
    assert out.index.equals(theirs.index)
    assert out["lactate"].dtype == float
    assert pl.DataFrame({name: out[name].to_numpy() for name in out.columns}).equals(expected)
    assert selection.set_output(transform=None) is selection
    assert isinstance(selection.transform(rows), pandas.DataFrame)
    assert isinstance(selection.set_output(transform="default").transform(theirs), pl.DataFrame)


def test_what_a_model_returns(fitted, clinic, tmp_path) -> None:
    rows = clinic[0][:3]
    expected = fitted.predict_frame(rows)
    fitted.set_output(transform="pandas")
    try:
        scores, similar = fitted.predict_frame(rows), fitted.similar(rows, k=2)
        nw.patient_sheet(fitted, rows[:1], tmp_path / "sheet.html", permutations=4)  # reads what the model returns
    finally:
        fitted.set_output(transform="default")
    assert scores["risk"].tolist() == expected["risk"].to_list()
    assert list(scores.columns) == expected.columns
    assert len(similar) == 6
    assert (tmp_path / "sheet.html").is_file()


def test_gaps_lists_and_dates_become_what_pandas_has_for_them() -> None:
    frame = pl.DataFrame({"n": [1, None], "text": ["a", None], "codes": [["I10"], []], "day": pl.Series([0, 1]).cast(pl.Date)})
    out = to_pandas(frame)
    assert np.isnan(out["n"][1])
    assert out["text"][1] is None
    assert out["codes"].tolist() == [["I10"], []]
    assert str(out["day"].dtype).startswith("datetime64")
    with pytest.raises(InputError, match="transform must be one of"):
        nw.StableColumns().set_output(transform="arrow")  # type: ignore[arg-type]
