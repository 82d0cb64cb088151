"""Values of options: the event, a row, columns of codes."""

from __future__ import annotations

import warnings

import polars as pl
import pytest

from nearward.cli.terminal.console import as_categories, as_event, find_row
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, InputError, MissingColumns


def test_the_event_is_none_one_value_or_several() -> None:
    readmitted = pl.Series("readmitted", ["<30", ">30", "NO"])
    assert as_event(None, readmitted) is None
    assert as_event(["<30"], readmitted) == "<30"
    assert as_event(["<30", ">30"], readmitted) == ["<30", ">30"]
    assert as_event(["1"], pl.Series([True, False])) is True
    assert as_event(["0"], pl.Series([0.0, 1.0])) == 0.0
    with pytest.raises(InputError, match=r"no row of the outcome has the value of the event, got --positive <3O"):
        as_event(["<30", "<3O"], readmitted)


def test_a_row_is_named_by_its_id_where_there_are_ids_else_by_its_number() -> None:
    frame = pl.DataFrame({"visit": [7, 3, 3, 0], "age": [1, 2, 3, 4]})
    assert find_row("7", frame, ("visit",)) == 0
    assert find_row("0", frame, ("visit",)) == 3
    assert find_row("2", frame, ()) == 2
    for row, ids in (("3", ("visit",)), ("1", ("visit",)), ("4", ()), ("-1", ()), ("x", ())):
        with pytest.raises(InputError, match="--row"):
            find_row(row, frame, ids)


def test_columns_of_codes_become_text_and_categories_of_the_schema() -> None:
    frame = pl.DataFrame({"admission": [1, 2, None], "discharge": [1.0, 2.0, 8.0], "age": [1, 2, 3]})
    schema = Schema.from_dtypes(frame)
    changed, declared = as_categories(frame, schema, ["admission,discharge"])
    assert declared is not None
    assert [column.kind for column in declared.columns] == ["category", "category", "number"]
    assert changed["discharge"].to_list() == ["1", "2", "8"]
    assert changed["admission"].to_list() == ["1", "2", None]
    with pytest.warns(DataWarning, match=r"\['admission_type_id'\] are whole numbers .*--category admission_type_id"):
        as_categories(pl.DataFrame({"admission_type_id": [1, 2, 3, 3], "patient_id": [1, 2, 3, 4]}), None, None)
    with pytest.raises(MissingColumns, match="'admisson'"):
        as_categories(frame, None, ["admisson"])


def test_numbers_that_are_named_as_categories_are_not_warned_of() -> None:
    numbers = pl.DataFrame({"ward": list(range(40))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Schema.infer(as_categories(pl.concat([numbers] * 2), None, ["ward"])[0])["ward"].kind == "category"
