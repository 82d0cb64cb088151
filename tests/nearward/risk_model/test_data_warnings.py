"""Warnings about the data that a risk model is fitted on."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

from nearward.risk_model.data_warnings import count_anomalies, unit_slips, warn_of_leakage, warn_of_stored_rows
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning
from nearward.tabular.preprocessing.table_encoder import TableEncoder

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


# ---- patients and codes ----------------------------------------------------------------------------------------------


def warnings_of(rows: pl.DataFrame, outcome: list[int], patients: list[int]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_leakage(rows, rows, Schema.infer(rows), np.array(outcome), np.array(patients), 0)
    return [str(warning.message) for warning in caught]


def test_many_rows_with_the_event_of_few_patients_are_warned_of() -> None:
    rows, outcome = pl.DataFrame({"age": np.arange(60.0) % 7}), [1] * 20 + [0] * 40
    (warning,) = warnings_of(rows, outcome, [0, 1] * 10 + list(range(2, 42)))
    assert "the rows with the event are of 2 patients" in warning
    assert warnings_of(rows, outcome, [number % 10 for number in range(20)] + list(range(10, 50))) == []
    (warning,) = warnings_of(rows, [0] * 20 + [1] * 20 + [2] * 20, [0, 1] * 10 + list(range(2, 42)))
    assert "the rows with one of the classes are of 2 patients" in warning


def test_lists_whose_codes_are_all_rare_are_warned_of() -> None:
    rows = pl.DataFrame({"dx": [[f"C{i}", f"D{i}"] for i in range(60)], "rx": [["A"], None] * 30})
    (warning,) = warnings_of(rows, [1, 0, 0] * 20, list(range(60)))
    assert "column 'dx': each of its 120 codes is in fewer than 5 rows" in warning


def test_new_lists_of_another_coding_system_are_counted() -> None:
    stored = pl.DataFrame({"dx": [["I10", "E11"], ["I10"], [], None] * 5})
    schema, new = Schema.infer(stored), pl.DataFrame({"dx": [["401"], ["250", "999"], [], None] * 3})
    encoder = TableEncoder.fit(schema, stored)
    assert count_anomalies(new, schema, encoder)["unknown codes"] == {"dx": 6}
    assert count_anomalies(new.vstack(stored[:1]), schema, encoder)["unknown codes"] == {}
    assert count_anomalies(pl.DataFrame({"dx": [[], None] * 6}), schema, encoder)["unknown codes"] == {}


def test_one_patient_without_a_block_or_a_known_code_says_nothing_about_the_site() -> None:
    schema = Schema((Column("crp", block="labs"), Column("wbc", block="labs"), Column("dx", kind="list")))
    stored = pl.DataFrame({"crp": [1.0, 2.0, None] * 4, "wbc": [5.0, None, None] * 4, "dx": [["I10"]] * 12}).select("crp", "wbc", "dx")
    empty = stored.with_columns(crp=pl.lit(None, pl.Float64), wbc=pl.lit(None, pl.Float64), dx=pl.lit(["401"]))
    encoder = TableEncoder.fit(schema, stored)
    assert (count_anomalies(empty, schema, encoder)["blocks"], count_anomalies(empty[:1], schema, encoder)["blocks"]) == ({"labs": 12}, {})
    assert count_anomalies(empty[:1], schema, encoder)["unknown codes"] == {}


# ---- stored rows -----------------------------------------------------------------------------------------------------


def test_scoring_the_rows_that_taught_is_warned_of_and_coarse_tables_are_not() -> None:
    stored = pl.DataFrame({"age": np.arange(40.0), "sex": ["f", "m"] * 20, "dx": [["I10"]] * 40})
    with pytest.warns(DataWarning, match="22 of 40 rows are identical to stored rows, whose outcomes the model knows"):
        warn_of_stored_rows(stored.with_columns(pl.col("age") - 18), stored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_stored_rows(stored.with_columns(pl.col("age") - 20), stored)
        warn_of_stored_rows(stored.select("sex", "dx"), stored.select("sex", "dx"))
        warn_of_stored_rows(stored, pl.DataFrame())
