"""Slips of units between years and sites."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import DataWarning, InputError


def events(factor: float, n: int = 60) -> pl.DataFrame:
    """Creatinine of n subjects in two years, in the second one in another unit; heart rates, which stay."""
    rng = np.random.default_rng(0)
    subject = np.arange(n)
    year = [datetime(2020 + who % 2, 5, 1) for who in subject]
    creatinine = np.exp(rng.normal(0, 0.3, n)) * np.where(subject % 2, factor, 1)
    parts = [("Creatinine", creatinine), ("Heart rate", rng.normal(80, 10, n))]
    frames = [pl.DataFrame({"subject_id": subject, "time": year, "code": code, "numeric_value": value}) for code, value in parts]
    return pl.concat(frames)


def test_a_slip_by_a_thousand_is_found_between_years_and_sites() -> None:
    found = nw.check_units(events(1000))
    assert found.filter("slip").select("code", "group").rows() == [("Creatinine", "2021")]
    assert found["factor"][0] == pytest.approx(1000, rel=0.2)
    sites = pl.DataFrame({"subject_id": range(60), "site": ["north", "south"] * 30})
    assert nw.check_units(events(0.1), by=sites).filter("slip")["factor"].to_list() == [pytest.approx(10, rel=0.2)]


def test_factors_other_than_powers_of_ten_need_more_subjects() -> None:
    assert nw.check_units(events(18, 100)).filter("slip").select("code", "group").rows() == [("Creatinine", "2021")]
    assert not nw.check_units(events(3.0))["slip"].any()  # 30 subjects in each year
    assert not nw.check_units(events(2.0, 100))["slip"].any()


def test_fitting_warns_of_a_slip() -> None:
    labels = pl.DataFrame({"subject_id": range(60), "prediction_time": datetime(2030, 1, 1)})
    with pytest.warns(DataWarning, match="differ between years as after a change of unit.*'Creatinine' in 2021"):
        nw.EventFeatures().fit(events(100), labels)


def test_few_subjects_are_not_compared() -> None:
    assert nw.check_units(events(1000).filter(pl.col("subject_id") < 20)).height == 0
    with pytest.raises(InputError, match='by must be "year"'):
        nw.check_units(events(1), by="month")  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [10, 1 / 18])
def test_drift_of_codes_between_training_and_scoring(factor: float) -> None:
    labels = pl.DataFrame({"subject_id": range(60), "prediction_time": datetime(2030, 1, 1)})
    features = nw.EventFeatures().fit(events(1), labels)
    later = events(1).with_columns(
        pl.when(pl.col("code") == "Creatinine").then(pl.col("numeric_value") * factor).otherwise(pl.col("numeric_value"))
    )
    later = later.filter((pl.col("code") == "Creatinine") | (pl.col("subject_id") < 30))
    drift = features.code_drift(features.transform_counted(later, labels)[1])
    assert drift["code"].to_list() == ["Creatinine", "Heart rate"]
    assert drift["slip"].to_list() == [True, False]
    assert drift["now"].to_list() == [1.0, 0.5]
    assert drift["factor"].to_list() == pytest.approx([factor, 1], rel=0.1)
    assert not features.code_drift(features.transform_counted(events(1), labels)[1])["slip"].any()
