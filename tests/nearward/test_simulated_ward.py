"""The made-up ward is what its docstring says, and its true risks are those that drew the outcome."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import InputError


@pytest.fixture(scope="module")
def simulated() -> nw.datasets.SimulatedWard:
    return nw.datasets.ward(20_000, seed=3)


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = nw.datasets.ward(300, seed=5), nw.datasets.ward(300, seed=5)
    assert first.table.equals(second.table)
    assert first.true_risk.equals(second.true_risk)
    assert not first.table.equals(nw.datasets.ward(300, seed=6).table)
    assert nw.datasets.ward(1).table.height == 1
    with pytest.raises(InputError, match="got n=0"):
        nw.datasets.ward(0)


def test_outcomes_are_drawn_with_the_true_risks(simulated: nw.datasets.SimulatedWard) -> None:
    risk, died = simulated.true_risk.to_numpy(), simulated.table["died"].to_numpy()
    assert 0.03 < died.mean() < 0.05
    for low, high in ((0.0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 1.0)):
        band = (risk >= low) & (risk < high)
        expected, spread = risk[band].sum(), np.sqrt((risk[band] * (1 - risk[band])).sum())
        assert abs(died[band].sum() - expected) < 4 * spread


def test_it_has_what_a_ward_has(simulated: nw.datasets.SimulatedWard) -> None:
    table = simulated.table
    assert "true_risk" not in table.columns
    assert table["stay"].is_unique().all()
    assert table["patient"].n_unique() < 0.75 * table.height
    assert table.group_by("patient").agg(pl.col("hospital", "sex").n_unique()).select(pl.col("hospital", "sex").max()).row(0) == (1, 1)
    assert table["diagnoses"].dtype == pl.List(pl.String)
    assert set(table["admission_type_id"].unique()) == {1, 2, 3, 5, 8}
    assert table["haemoglobin"].is_null().equals(table["platelets"].is_null())


def test_gaps_depend_on_the_patient_and_the_hospital(simulated: nw.datasets.SimulatedWard) -> None:
    frame = simulated.table.with_columns(simulated.true_risk)
    measured, absent = (frame.filter(pl.col("lactate").is_null() == gap)["true_risk"].mean() for gap in (False, True))
    assert measured > 1.3 * absent
    gaps = dict(frame.group_by("hospital").agg(pl.col("albumin").is_null().mean()).iter_rows())
    assert gaps["south"] > gaps["north"] + 0.2
