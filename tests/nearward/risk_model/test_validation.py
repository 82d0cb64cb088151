"""Outcomes and patients as users hand them over: what is missing stays missing, and nothing is taken for something else."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.risk_model.classifier import RiskClassifier
from nearward.risk_model.validation import patient_columns, read_groups, read_outcome
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.validation import read_rows
from nearward.tabular.errors import InputError, MissingColumns

NAN = float("nan")


class NAType:
    """As pandas' own missing value: compared with anything it is neither equal nor unequal."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __hash__ = None

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize("gone", [None, NAN, np.float64("nan"), NAType()])
@pytest.mark.parametrize("kind", [list, lambda values: np.array(values, dtype=object)])
def test_what_is_missing_among_text_is_no_patient_and_no_class(gone: Any, kind: Any) -> None:
    names = [f"p{i}" for i in range(40)]
    names[1:4] = [gone] * 3
    died = ["died", "alive"] * 20
    died[5] = gone
    frame = pl.DataFrame({"a": range(40)})
    with pytest.raises(InputError, match="groups is missing in 3 of 40 rows"):
        read_groups(kind(names), 40)
    with pytest.raises(InputError, match=r"outcome is missing \(null or NaN\) in 1 of 40"):
        read_outcome(kind(died), 40, most=10)
    with pytest.raises(InputError, match=r"groups is missing .* in 3 of 40"):
        read_rows(frame, [0, 1] * 20, kind(names))
    with pytest.raises(InputError, match=r"outcome is missing .* in 1 of 40"):
        read_rows(frame, kind(died), None)


@pytest.mark.parametrize("mixed", [[1, "1"] * 20, np.array([0, "1"] * 20, dtype=object), [0.5, "a", None, "b"] * 10])
def test_text_beside_numbers_is_refused(mixed: Any) -> None:
    for read in (read_groups, read_outcome, lambda values, n: read_rows(pl.DataFrame({"a": range(n)}), values, None)):
        with pytest.raises(InputError, match=r"mixes \['(int|float)', 'str'\]: make it one kind first"):
            read(mixed, 40)


def test_one_kind_is_read_as_before() -> None:
    np.testing.assert_array_equal(read_groups(["b", "a", "b"], 3), [1, 0, 1])
    np.testing.assert_array_equal(read_groups(np.array([np.int64(3), 2.5, np.float64(3)], dtype=object), 3), [1, 0, 1])
    classes, outcome = read_outcome(["no", "yes"] * 20, 40)
    assert (classes.tolist(), outcome.sum()) == (["no", "yes"], 20)
    with pytest.raises(InputError, match=r"groups must be one column, got shape=\(3, 1\)"):
        read_groups(np.zeros((3, 1)), 3)


@pytest.mark.parametrize("kind", [pl.Series, lambda values: np.array(values, dtype=object)])
def test_decimal_outcomes_become_plain_numbers(kind: Any) -> None:
    classes, outcome = read_outcome(kind([Decimal("0.00"), Decimal("1.00")] * 20), 40, positive=Decimal(0))
    assert (classes.tolist(), classes.dtype.kind) == ([1, 0], "i")
    np.testing.assert_array_equal(outcome, [1, 0] * 20)
    classes, _ = read_outcome(kind([Decimal("0.5"), Decimal("1.0")] * 20), 40)
    assert (classes.tolist(), classes.dtype.kind) == ([0.5, 1.0], "f")
    with pytest.raises(InputError, match=r"missing .* in 1 of 40"):
        read_outcome(kind([Decimal(0), Decimal(1)] * 19 + [None, Decimal(1)]), 40)


@pytest.mark.parametrize(
    ("strange", "dtype"),
    [
        (pl.Series([date(2020, 1, 1), date(2020, 1, 2)] * 20), "Date"),
        (np.array(["2020-01-01", "2020-01-02"] * 20, dtype="datetime64[s]"), "Datetime"),
        ([b"no", b"yes"] * 20, "Binary"),
        (pl.Series([timedelta(1), timedelta(2)] * 20), "Duration"),
    ],
)
def test_outcomes_that_name_nothing_are_refused(strange: Any, dtype: str) -> None:
    with pytest.raises(InputError, match=f"the outcome has dtype {dtype}: only text") as caught:
        read_outcome(strange, 40)
    assert "2020" not in str(caught.value)


def test_a_column_that_the_schema_names_and_the_frame_lacks_is_told_of() -> None:
    frame = pl.DataFrame({"a": range(40), "lactat": range(40)})
    with pytest.raises(MissingColumns, match="did you mean 'lactat'"):
        RiskClassifier(schema=Schema((Column("a"), Column("lactate")))).fit(frame, [0, 1] * 20)


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Float64, pl.Float32, pl.Decimal(10, 2), pl.String])
def test_another_name_of_the_patient_is_found_in_whatever_dtype(dtype: Any) -> None:
    patient = np.repeat(np.arange(50), 3)
    named = pl.Series("pid", patient).cast(dtype)
    frame = pl.DataFrame([named, pl.Series("dose", patient / 2), pl.Series("visit", np.arange(150.0))])
    assert patient_columns(frame, patient) == ["pid"]
