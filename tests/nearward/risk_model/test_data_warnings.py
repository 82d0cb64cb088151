"""Warnings about the data that a risk model is fitted on."""

from __future__ import annotations

import polars as pl

from nearward.risk_model.data_warnings import unit_slips
from nearward.tabular.data.schema import Column, Schema

# ---- unit slips ------------------------------------------------------------------------------------------------------


SCHEMA = Schema((Column("weight", low=40.0, high=120.0), Column("delta", low=-5.0, high=5.0), Column("ward", kind="category")))


def test_values_a_thousand_times_outside_the_range_are_counted_by_column() -> None:
    frame = pl.DataFrame({"weight": [80.0, 120_001.0, -120_001.0, None], "delta": [5001.0, 0.0, 1.0, 2.0], "ward": ["a"] * 4})
    assert unit_slips(frame, SCHEMA) == {"weight": 2, "delta": 1}


def test_values_inside_or_a_little_outside_the_range_are_not_slips() -> None:
    assert unit_slips(pl.DataFrame({"weight": [40.0, 121.0, 300.0, 2.5, 0.0], "delta": [0.0, 1e-9, 9.0, -9.0, 50.0]}), SCHEMA) == {}


def test_a_column_in_grams_instead_of_kilograms_is_flagged() -> None:
    kilograms = pl.DataFrame({"weight": [62.0, 80.5, 71.0, 95.0, 118.0]})
    assert unit_slips(kilograms * 1000, SCHEMA) == {"weight": 5}


def test_a_column_in_tonnes_instead_of_kilograms_is_flagged() -> None:
    kilograms = pl.DataFrame({"weight": [62.0, 80.5, 71.0, 95.0, 118.0]})
    assert unit_slips(kilograms / 1000, SCHEMA) == {"weight": 5}


def test_a_few_small_values_or_a_range_across_zero_are_not_slips() -> None:
    assert unit_slips(pl.DataFrame({"weight": [1e-6] * 4}), SCHEMA) == {}
    assert unit_slips(pl.DataFrame({"weight": [1e-6] * 5}), SCHEMA) == {"weight": 5}
    assert unit_slips(pl.DataFrame({"delta": [1e-6] * 9}), SCHEMA) == {}
