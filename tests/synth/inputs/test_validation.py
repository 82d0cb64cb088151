"""The holdout has the columns and dtypes of train; errors show no value."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.synth.inputs.validation import align_holdout, check_trainable
from nearward.tabular.errors import DataWarning, InputError, SharedPatients

TRAIN = pl.DataFrame(
    {"patient": ["p1", "p2"], "age": pl.Series([70, 50], dtype=pl.Int16), "ward": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"]))}
)


def test_columns_are_ordered_and_converted() -> None:
    holdout = pl.DataFrame({"extra": [0], "ward": ["b"], "age": ["61"], "patient": ["p3"]})
    assert align_holdout(holdout, TRAIN, "patient").equals(pl.DataFrame({"patient": ["p3"], "age": [61], "ward": ["b"]}, TRAIN.schema))


@pytest.mark.parametrize(("column", "value"), [("age", "secret"), ("age", 70_000), ("ward", "secret")])
def test_values_that_do_not_convert_are_counted_and_not_shown(column: str, value: object) -> None:
    holdout = pl.DataFrame({"patient": ["p3"], "age": [61], "ward": ["b"]}).with_columns(pl.lit(value).alias(column))
    with pytest.raises(InputError, match=f"1 values of column '{column}'") as error:
        align_holdout(holdout, TRAIN, "patient")
    assert str(value) not in str(error.value)


def test_a_patient_of_train_is_no_holdout() -> None:
    with pytest.raises(SharedPatients):
        align_holdout(TRAIN, TRAIN, "patient")


def test_courses_are_not_made() -> None:
    events = pl.DataFrame({"subject_id": [1, 1], "time": [1, 2], "code": ["a", "b"], "numeric_value": [1.0, 2.0]})
    with pytest.raises(InputError, match="holds time-stamped events"):
        check_trainable(events, None)
    with pytest.warns(DataWarning, match="1 of 2 patients have several rows: each synthetic row is a patient of its own"):
        check_trainable(pl.DataFrame({"patient": [1, 1, 2], "age": [50, 50, 60]}), "patient")
