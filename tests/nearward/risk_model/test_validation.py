"""Columns of the frame that ``RiskClassifier`` checks before a fit: those that the schema names, and those that identify the patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.risk_model.classifier import RiskClassifier
from nearward.risk_model.validation import check_class_sizes, patient_columns
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.validation import validate_target
from nearward.tabular.errors import DataWarning, InputError, MissingColumns


def test_a_schema_column_missing_from_the_frame_is_refused() -> None:
    frame = pl.DataFrame({"a": range(40), "lactat": range(40)})
    with pytest.raises(MissingColumns, match="did you mean 'lactat'"):
        RiskClassifier(schema=Schema((Column("a"), Column("lactate")))).fit(frame, [0, 1] * 20)


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Float64, pl.Float32, pl.Decimal(10, 2), pl.String])
def test_a_column_that_identifies_patients_is_detected_in_any_dtype(dtype: Any) -> None:
    patient = np.repeat(np.arange(50), 3)
    named = pl.Series("pid", patient).cast(dtype)
    frame = pl.DataFrame([named, pl.Series("dose", patient / 2), pl.Series("visit", np.arange(150.0))])
    assert patient_columns(frame, patient) == ["pid"]


def test_small_classes_are_warned_of() -> None:
    with pytest.warns(DataWarning, match="1 of 3 classes have fewer than 10 rows"):
        check_class_sizes(validate_target(np.array([2] * 7 + [5] * 30 + [9] * 30), max_classes=3))


def test_a_model_needs_rows_without_the_event() -> None:
    with pytest.raises(InputError, match="only 1 row is without the event"):
        check_class_sizes(validate_target([0] + [1] * 30))
