"""Values of options in the dtype of the outcome."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.cli.console import as_event
from nearward.tabular.errors import InputError


def test_the_event_is_none_one_value_or_several() -> None:
    readmitted = pl.Series("readmitted", ["<30", ">30", "NO"])
    assert as_event(None, readmitted) is None
    assert as_event(["<30"], readmitted) == "<30"
    assert as_event(["<30", ">30"], readmitted) == ["<30", ">30"]
    assert as_event(["1"], pl.Series([True, False])) is True
    assert as_event(["0"], pl.Series([0.0, 1.0])) == 0.0
    with pytest.raises(InputError, match=r"no row of the outcome has the value of the event, got --positive <3O"):
        as_event(["<30", "<3O"], readmitted)
