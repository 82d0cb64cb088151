"""The synthesizer's event follows the rule of ``validate_target``."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.synth.inputs.outcome import rarer_rows, rarer_token, read_event
from nearward.tabular.errors import DataWarning


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
