"""Columns of code lists: one meaning whatever carries them, and clear errors for what is none."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.tabular.data.code_lists import CODE_LIST, as_code_list, is_code_list
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.table_io import read_table, to_frame
from nearward.tabular.errors import DataWarning, InputError

LISTS = [["I10", "E11"], [], None, ["I10", None, "I10", " E11 ", ""], ["Z00"]]
CLEAN = [["I10", "E11"], [], None, ["I10", "E11"], ["Z00"]]
DX = Schema((Column("dx", kind="list", separator=";"), Column("age")))


class Arrow:
    """A table with the Arrow stream protocol and nothing else."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


def test_missing_and_empty_codes_are_left_out_and_a_code_twice_counts_once() -> None:
    assert as_code_list(pl.Series("dx", LISTS), "dx").to_list() == CLEAN
    assert as_code_list(pl.Series("dx", LISTS), "dx").dtype == CODE_LIST


@pytest.mark.parametrize("dtype", [pl.List(pl.Null), pl.Null])
def test_a_column_without_a_code_keeps_empty_and_missing_apart(dtype: Any) -> None:
    values = [None, None] if dtype == pl.Null else [[], None]
    codes = as_code_list(pl.Series("dx", values, dtype=dtype), "dx")
    assert (codes.to_list(), codes.dtype) == (values, CODE_LIST)
    assert as_code_list(pl.Series("dx", [], dtype=CODE_LIST), "dx").len() == 0


def test_lists_of_categories_whole_numbers_and_arrays_are_lists_of_text() -> None:
    for dtype in (pl.List(pl.Categorical), pl.List(pl.Enum(["250", "401"])), pl.Array(pl.String, 2)):
        assert as_code_list(pl.Series([["401", "250"], ["250", "250"]], dtype=dtype), "dx").to_list() == [["401", "250"], ["250"]]
    assert as_code_list(pl.Series([[401, 250], [250]]), "dx").to_list() == [["401", "250"], ["250"]]


def test_text_is_split_by_a_declared_separator_and_is_an_error_without_one() -> None:
    text = pl.Series("dx", ["I10; E11", "", None, "I10;;"])
    assert as_code_list(text, "dx", ";").to_list() == [["I10", "E11"], [], None, ["I10"]]
    with pytest.raises(InputError, match="column 'dx' must hold a list of codes in each row, but is text: split it"):
        as_code_list(text, "dx")


@pytest.mark.parametrize("values", [[1.5], [[1.5]], [[["a"]]], [{"a": "b"}], [True]])
def test_what_is_no_list_of_codes_is_an_error_without_a_value(values: list[Any]) -> None:
    series = pl.Series("dx", values)
    assert not is_code_list(series.dtype)
    with pytest.raises(InputError, match="must hold a list of codes in each row, got dtype"):
        as_code_list(series, "dx")


def test_a_schema_knows_lists() -> None:
    frame = pl.DataFrame({"dx": LISTS, "age": [1, 2, 3, 4, 5]})
    for schema in (Schema.infer(frame), Schema.from_dtypes(frame)):
        assert [column.kind for column in schema.columns] == ["list", "number"]
        assert Schema.from_json(schema.to_json()).conform(frame)["dx"].to_list() == CLEAN
    assert Schema.from_json(DX.to_json()) == DX
    for role in ("outcome", "site"):
        with pytest.raises(InputError, match=f"cannot be the {role}"):
            Schema.infer(frame).with_roles(**{role: ["dx"]})
    with pytest.raises(InputError, match="separator is what stands between"):
        Column("age", separator=";")
    with pytest.raises(InputError, match="separator must be text"):
        Schema.from_json('{"nearward_schema": 1, "columns": [{"name": "dx", "kind": "list", "separator": 1}]}')


def test_a_table_without_codes_in_any_row_is_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="no value in any row"):
        assert Schema.infer(pl.DataFrame({"dx": [None, None]}, schema={"dx": CODE_LIST})).columns[0].role == "ignore"


def test_csv_parquet_arrow_and_pandas_carry_the_same_lists(tmp_path: Path) -> None:
    frame = pl.DataFrame({"dx": CLEAN, "age": [1.0, 2.0, 3.0, 4.0, 5.0]})
    text = frame.with_columns(pl.col("dx").list.join(";"))
    text.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    conformed = DX.conform(read_table(tmp_path / "t.parquet", DX))
    assert conformed["dx"].to_list() == CLEAN
    from_csv = DX.conform(read_table(tmp_path / "t.csv", DX))
    assert from_csv["dx"].to_list() == [codes or None for codes in CLEAN]  # an empty cell of a CSV is missing
    assert DX.conform(to_frame(Arrow(frame))).equals(conformed)
    pandas = pytest.importorskip("pandas")
    objects = pandas.DataFrame({"dx": CLEAN, "age": [1.0, 2.0, 3.0, 4.0, 5.0]})
    arrays = pandas.DataFrame({"dx": [None if codes is None else np.array(codes, dtype=object) for codes in CLEAN], "age": objects["age"]})
    for other in (objects, arrays):
        assert DX.conform(to_frame(other)).equals(conformed)


def test_in_csv_a_list_is_text_unless_a_schema_declares_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("dx,age\nI10;E11,1\n250,2\n", encoding="utf-8")
    assert read_table(tmp_path / "t.csv")["dx"].to_list() == ["I10;E11", "250"]
    assert DX.conform(read_table(tmp_path / "t.csv", DX))["dx"].to_list() == [["I10", "E11"], ["250"]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([["a"], "b", None], "mixes lists with other values"),
        ([["a", 1], ["b"]], r"has lists of \['int', 'str'\]"),
        ([[1.5], ["b"]], "has lists of"),
        ([[2**70]], "numbers too large"),
        ([[["a"]]], "has lists of"),
    ],
)
def test_python_lists_of_something_else_are_errors_without_a_value(values: list[Any], message: str) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match=message):
        to_frame(pandas.DataFrame({"dx": pandas.Series(values, dtype=object)}))


def test_pandas_whole_numbers_as_codes_and_missing_codes() -> None:
    pandas = pytest.importorskip("pandas")
    frame = to_frame(pandas.DataFrame({"dx": pandas.Series([[250, None], (401,), pandas.NA, float("nan"), []], dtype=object)}))
    assert Schema((Column("dx", kind="list"),)).conform(frame)["dx"].to_list() == [["250"], ["401"], None, None, []]


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["I10;E11", "E11", "I10;Z00", "", None] * 4, "with ';' between them"),
        (["I10|E11", "E11|I10", "I10"] * 4, "with '|' between them"),
        (["['I10', 'E11']", "[]"] * 4, "lists in brackets, as Python prints them"),
    ],
)
def test_lists_that_are_text_are_warned_of_and_the_warning_says_what_to_do(texts: list[str | None], named: str) -> None:
    with pytest.warns(DataWarning, match=re.escape(named)) as warned:
        assert Schema.infer(pl.DataFrame({"dx": texts}))["dx"].kind == "category"
    assert len(warned) == 1


def test_names_and_words_are_no_lists() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schema.infer(pl.DataFrame({"ward": ["surgery; left wing", "medicine"] * 20, "name": [f"Smith{i}, Ann{i}" for i in range(20)] * 2}))


def test_lists_without_a_code_in_any_row_are_ignored_with_a_warning() -> None:
    for values in ([[], None], [[None], [""]]):
        with pytest.warns(DataWarning, match="column 'dx' has no value in any row: ignored"):
            assert Schema.infer(pl.DataFrame({"dx": values}, {"dx": CODE_LIST}))["dx"].role == "ignore"
