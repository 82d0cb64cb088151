"""Warnings about the data that a risk model is fitted on."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.risk_model.data_warnings import unit_slips, warn_of_copies
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning


def cohort(n: int = 200) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"age": rng.normal(60, 9, n).round(1), "lactate": rng.normal(2, 1, n), "sex": rng.choice(["f", "m"], n)})
    return frame, (rng.random(n) < 0.2).astype(np.int64)


def test_rows_that_several_patients_share_are_counted() -> None:
    frame, outcome = cohort()
    four_times = pl.concat([frame] * 4)
    with pytest.warns(DataWarning, match="800 of 800 rows are identical to a row of another patient"):
        warn_of_copies(four_times, np.tile(outcome, 4), np.arange(800), seed=0)
    events = np.flatnonzero(outcome)
    oversampled, labels = pl.concat([frame, frame[events]]), np.append(outcome, outcome[events])
    with pytest.warns(DataWarning, match=f"{2 * len(events)} of {200 + len(events)} rows are identical"):
        warn_of_copies(oversampled, labels, np.arange(len(labels)), seed=0)


def test_copies_of_one_patient_coarse_tables_and_few_copies_are_not_warned_of() -> None:
    frame, outcome = cohort()
    rng = np.random.default_rng(1)
    coarse = pl.DataFrame({"sex": rng.integers(0, 2, 200), "smoker": rng.integers(0, 2, 200), "ward": rng.integers(0, 3, 200)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies(frame, outcome, np.arange(200), seed=0)
        warn_of_copies(pl.concat([frame] * 4), np.tile(outcome, 4), np.tile(np.arange(200), 4), seed=0)  # named in groups
        warn_of_copies(pl.concat([frame] * 2), np.append(outcome, 1 - outcome), np.arange(400), seed=0)  # other outcomes
        warn_of_copies(coarse, outcome, np.arange(200), seed=0)
        warn_of_copies(pl.concat([frame, frame[:4]]), np.append(outcome, outcome[:4]), np.arange(204), seed=0)


def test_a_fit_warns_of_copies() -> None:
    frame, outcome = cohort()
    model = nw.RiskClassifier(backbone=None, folds=2, encoder=nw.EncoderConfig(steps=5))
    with pytest.warns(DataWarning, match="out-of-fold figures are too good"):
        model.fit(pl.concat([frame] * 2), np.tile(outcome, 2))


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
