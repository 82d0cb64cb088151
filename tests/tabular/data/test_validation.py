"""One rule for the event, and the same refusals for estimators, the synthesizer and evaluators."""

from __future__ import annotations

import warnings
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.tabular.data.validation import class_probabilities, validate_fit_inputs, validate_groups, validate_target
from nearward.tabular.errors import DataWarning, InputError

NAN = float("nan")


class NAType:
    """As pandas' own missing value: compared with anything it is neither equal nor unequal."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __hash__ = None

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize("missing", [None, NAN, np.float64("nan"), NAType()])
@pytest.mark.parametrize("kind", [list, lambda values: np.array(values, dtype=object)])
def test_missing_values_among_text_are_refused(missing: Any, kind: Any) -> None:
    names = [f"p{i}" for i in range(40)]
    names[1:4] = [missing] * 3
    died = ["died", "alive"] * 20
    died[5] = missing
    with pytest.raises(InputError, match=r"groups has 3 missing values \(null or NaN\) in 40 rows"):
        validate_groups(kind(names), 40)
    with pytest.raises(InputError, match=r"outcome has 1 missing values \(null or NaN\) in 40 rows"):
        validate_target(kind(died), 40, max_classes=10)


@pytest.mark.parametrize("mixed", [[1, "1"] * 20, np.array([0, "1"] * 20, dtype=object), [0.5, "a", None, "b"] * 10])
def test_text_beside_numbers_is_refused(mixed: Any) -> None:
    for validate in (validate_groups, validate_target):
        with pytest.raises(InputError, match=r"mixes \['(int|float)', 'str'\]: make it one kind first"):
            validate(mixed, 40)


def test_groups_are_numbered_in_order() -> None:
    np.testing.assert_array_equal(validate_groups(["b", "a", "b"], 3), [1, 0, 1])
    np.testing.assert_array_equal(validate_groups(np.array([np.int64(3), 2.5, np.float64(3)], dtype=object), 3), [1, 0, 1])
    with pytest.raises(InputError, match=r"groups must be one column, got shape=\(3, 1\)"):
        validate_groups(np.zeros((3, 1)), 3)


@pytest.mark.parametrize("kind", [pl.Series, lambda values: np.array(values, dtype=object)])
def test_decimal_outcomes_become_plain_numbers(kind: Any) -> None:
    target = validate_target(kind([Decimal("0.00"), Decimal("1.00")] * 20), 40, positive=Decimal(0))
    assert (target.classes.tolist(), target.classes.dtype.kind) == ([0, 1], "i")
    np.testing.assert_array_equal(target.outcome, [1, 0] * 20)
    classes = validate_target(kind([Decimal("0.5"), Decimal("1.0")] * 20), 40).classes
    assert (classes.tolist(), classes.dtype.kind) == ([0.5, 1.0], "f")
    with pytest.raises(InputError, match="1 missing values"):
        validate_target(kind([Decimal(0), Decimal(1)] * 19 + [None, Decimal(1)]), 40)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pl.Series([date(2020, 1, 1), date(2020, 1, 2)] * 20), "Date"),
        (np.array(["2020-01-01", "2020-01-02"] * 20, dtype="datetime64[s]"), "Datetime"),
        ([b"no", b"yes"] * 20, "Binary"),
        (pl.Series([timedelta(1), timedelta(2)] * 20), "Duration"),
    ],
)
def test_dates_bytes_and_durations_are_not_classes(values: Any, dtype: str) -> None:
    with pytest.raises(InputError, match=f"the outcome has dtype {dtype}: only text") as caught:
        validate_target(values, 40)
    assert "2020" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "event"),
    [
        ([1, 0, 1], 1),
        ([True, True, False], True),
        (["no", "yes", "no"], "yes"),
        (pl.Series(["b", "a", "b"], dtype=pl.Enum(["b", "a"])), "b"),  # by its text, not by its place in the Enum
        (pl.Series([2.5, 1.5, 2.5]), 2.5),
    ],
)
def test_the_event_is_the_greater_value_however_common(y: Any, event: Any) -> None:
    target = validate_target(y)
    assert target.event == event
    assert target.outcome.tolist() == [int(value == event) for value in y]


def test_a_named_value_is_the_event() -> None:
    target = validate_target(np.array([2, 1, 2]), positive=1)
    assert (target.classes.tolist(), target.outcome.tolist(), target.events) == ([1, 2], [0, 1, 0], 1)
    assert (target.event, target.event_index) == (1, 0)
    with pytest.raises(InputError, match=r"no row of the outcome has the value of the event, got positive=3"):
        validate_target([2, 1, 2], positive=3)
    with pytest.raises(InputError, match="positive='1'"):
        validate_target([0, 1, 0], positive="1")


def test_several_classes_have_indices_or_one_of_them_is_the_event() -> None:
    assert validate_target([5, 2, 9], max_classes=3).outcome.tolist() == [1, 0, 2]
    target = validate_target([5, 2, 9], positive=5, max_classes=None)
    assert (target.classes.tolist(), target.outcome.tolist(), target.event_index, target.event) == ([False, True], [1, 0, 0], 1, 5)
    assert validate_target([5, 2, 9], max_classes=3).event is None
    with pytest.raises(InputError, match="4 different values, at most 3 classes"):
        validate_target([5, 2, 9, 7], max_classes=3)


def test_several_values_are_the_event_and_the_others_none_with_a_note() -> None:
    readmitted = ["<30", ">30", "NO", "NO", "<30"]
    with pytest.warns(DataWarning, match=r"the event of the outcome is <30; rows with one of the other 2 values are without it"):
        target = validate_target(readmitted, positive="<30")
    assert (target.classes.tolist(), target.outcome.tolist(), target.event) == ([False, True], [1, 0, 0, 0, 1], "<30")
    with pytest.warns(DataWarning, match=r"is <30 or >30; rows with one of the other 1 values"):
        target = validate_target(readmitted, positive=["<30", ">30"], max_classes=10)
    assert (target.outcome.tolist(), target.event) == ([1, 1, 0, 0, 1], ("<30", ">30"))
    with pytest.raises(InputError, match="no row of the outcome has the value of the event, got positive='<3O'"):
        validate_target(readmitted, positive=["<30", "<3O"])
    for positive in ([], ["<30", ">30", "NO"]):
        with pytest.raises(InputError, match="positive must name some of the 3 values"):
            validate_target(readmitted, positive=positive)
    with pytest.raises(InputError, match="continuous"):
        validate_target([0.1, 0.2, 0.3], positive=0.1)


def test_the_commoner_value_as_the_event_is_warned_of_unless_it_is_named() -> None:
    outcome = ["died", "survived", "survived"]
    with pytest.warns(DataWarning, match=r"the event of the outcome is survived, .* commoner one \(67% of the rows\): name the event"):
        validate_target(outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert validate_target(outcome, positive="survived").event == "survived"
        assert validate_target(outcome, positive="died").outcome.tolist() == [1, 0, 0]
        assert validate_target(["died", "survived"]).event == "survived"  # not the commoner one
        validate_target(["a", "b", "c", "c"], max_classes=3)


def test_an_encoded_outcome_has_an_unknown_event_where_that_is_allowed() -> None:
    encoded = np.array([0, 1, 1, 1, 0])
    with pytest.warns(DataWarning, match="positive='died' is no value of the outcome, whose values are 0 and 1"):
        target = validate_target(encoded, positive="died", allow_encoded=True)
    assert (target.event, target.event_index, target.outcome.tolist()) == (None, 0, [1, 0, 0, 0, 1])
    for y, positive in ((encoded, "1.5"), (encoded + 1, "died"), (encoded == 1, "died"), (encoded, 2)):
        with pytest.raises(InputError, match="no row of the outcome has the value of the event"):
            validate_target(y, positive=positive, allow_encoded=True)
    with pytest.raises(InputError, match="no row of the outcome has the value of the event"):
        validate_target(encoded, positive="died")


@pytest.mark.parametrize("event_index", [0, 1])
def test_probabilities_have_the_order_of_the_classes(event_index: int) -> None:
    proba = class_probabilities(np.array([0.2, 0.9]), event_index)
    np.testing.assert_array_equal(proba[:, event_index], [0.2, 0.9])
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_single_value_is_the_event_where_it_equals_it() -> None:
    assert validate_target([1, 1], min_classes=1).outcome.tolist() == [1, 1]
    assert validate_target(["no", "no"], positive="yes", min_classes=1).outcome.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0] * 100, "one class"),
        ([0, 1, 2, 1] * 25, "3 different values.*Only binary"),
        ([0.1, 0.2, 0.3, 0.4] * 25, "continuous"),
        ([None, 0, 1, 0] * 25, "25 missing values"),
        ([NAN, 0, 1, 0] * 25, "25 missing values"),
        ([float("inf"), 0, 1, 0] * 25, "infinite"),
        ([0, 1] * 10, "20 values and the frame 100"),
        (np.zeros((100, 2)), r"got y.shape=\(100, 2\)"),
        (None, "requires y"),
    ],
)
def test_outcomes_that_cannot_be_used(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate_target(y, 100)


def test_a_column_vector_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="column-vector"):
        assert validate_target(np.array([[0], [1]])).outcome.tolist() == [0, 1]


def test_groups_are_validated() -> None:
    assert validate_groups(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="1 missing values"):
        validate_groups(pl.Series([1, None, 2]), 3)
    with pytest.raises(InputError, match=r"'ward' has 2 missing values .* in 3 rows; give each such row an id of its own"):
        validate_groups(np.array([1.0, NAN, NAN]), 3, "group 'ward'")
    with pytest.raises(InputError, match="2 values"):
        validate_groups([1, 2], 3)


def test_training_data_are_validated_together() -> None:
    frame = pl.DataFrame({"a": range(3)})
    same, target, patient_ids = validate_fit_inputs(frame.lazy(), ["no", "yes", "no"], ["b", "a", "b"])
    assert same.equals(frame)
    assert (target.outcome.tolist(), patient_ids.tolist()) == ([0, 1, 0], [1, 0, 1])


def test_groups_and_outcomes_that_are_no_single_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"groups has dtype List\(String\): numbers or text are needed, one value a row"):
        validate_groups(pl.Series([["a"], ["b"]]), 2)
    with pytest.raises(InputError, match=r"must be one column, got y.shape=\(\) \(give the column itself, as frame\[name\]\)"):
        validate_target("died", 2)
