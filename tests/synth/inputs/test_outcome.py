"""The synthesizer's event follows the rule of ``validate_target``."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.inputs.outcome import rarer_rows, rarer_token, read_event
from nearward.tabular.errors import DataWarning, InputError


def test_the_event_is_the_greater_of_two_values_however_common() -> None:
    value, event = read_event(pl.Series("died", [1] * 180 + [0] * 40))
    assert (value, int(event.sum())) == (1, 180)
    value, event = read_event(pl.Series("died", [1] * 180 + [0] * 40), positive=0)
    assert (value, int(event.sum())) == (0, 40)


def test_of_more_than_two_values_the_event_is_the_rarest() -> None:
    value, event = read_event(pl.Series("triage", ["a"] * 30 + ["b"] * 100 + ["c"] * 100))
    assert (value, int(event.sum())) == ("a", 30)


def test_a_rare_value_is_warned_of_also_where_it_is_not_the_event() -> None:
    with pytest.warns(DataWarning, match="12 rows with the rarer outcome"):
        read_event(pl.Series("died", [True] * 300 + [False] * 12))


def test_the_rarer_rows_and_token_do_not_depend_on_which_value_is_the_event() -> None:
    column = pl.Series("outcome", ["died"] * 40 + ["survived"] * 180)
    for positive in (None, "survived", "died"):
        _, event = read_event(column, positive)
        assert rarer_rows(event).tolist() == [1] * 40 + [0] * 180
    counts = np.array([0, 40, 180])
    assert rarer_token(counts, 1) == rarer_token(counts, 2) == 1


def test_a_missing_value_of_a_float_outcome_is_no_value() -> None:
    with pytest.raises(InputError, match="7 missing values"):
        read_event(pl.Series("died", [0.0] * 200 + [1.0] * 50 + [float("nan")] * 7))


def test_a_measurement_is_no_outcome() -> None:
    """Every value of an outcome keeps a token of its own: a length of stay would be written as the patients have it."""
    stay = pl.Series("stay", np.random.default_rng(0).gamma(2, 3, 600).round(3))
    with pytest.raises(InputError, match=r"outcome 'stay' has \d+ different values, \d+ of which fewer than 5 patients have") as error:
        read_event(stay)
    assert not any(str(value) in str(error.value) for value in stay)
    with pytest.raises(InputError, match="1 of which fewer than 5 patients"):  # five rows of one patient
        read_event(pl.Series("triage", ["a"] * 5 + ["b"] * 100 + ["c"] * 100), patient_ids=np.array([0] * 5 + list(range(1, 201))))


def test_a_rare_event_may_be_named() -> None:
    with pytest.warns(DataWarning, match="3 rows with the rarer outcome"):
        value, event = read_event(pl.Series("triage", ["a"] * 3 + ["b"] * 100 + ["c"] * 100), positive="a")
    assert (value, int(event.sum())) == ("a", 3)
