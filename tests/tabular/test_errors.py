"""Messages that name columns stay short on wide tables."""

from __future__ import annotations

import polars as pl
import pytest

from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import MissingColumns, MissingPackage, did_you_mean, list_first, list_names


def test_of_many_names_the_first_and_how_many_more_are_listed() -> None:
    assert list_names(["age", "sex"]) == "['age', 'sex']"
    assert list_names([f"x{i}" for i in range(9)]) == "['x0', 'x1', 'x2', 'x3', 'x4', 'x5', 'x6', 'x7' and 1 more]"
    assert list_first([]) == ""


def test_a_table_that_lacks_thousands_of_columns_is_refused_in_a_line() -> None:
    wide = pl.DataFrame({f"column {i}": [float(i), 1.0] for i in range(3000)})
    with pytest.raises(MissingColumns) as refusal:
        Schema.infer(wide).conform(wide.select("column 7").rename({"column 7": "column_0"}))
    assert len(str(refusal.value)) < 600
    assert "and 2992 more]. 'column 0': did you mean 'column_0'?" in str(refusal.value)


def test_a_name_in_another_case_is_suggested() -> None:
    assert did_you_mean(["CRP", "Age "], ["crp", "age"]) == "'CRP': did you mean 'crp'?; 'Age ': did you mean 'age'?"


def test_a_missing_package_gives_the_reason_where_it_is_another_than_that() -> None:
    def message(error: ImportError) -> str:
        try:
            raise MissingPackage("LightGBM", "trees need it", "lightgbm") from error
        except MissingPackage as refusal:
            return str(refusal)

    plain = "LightGBM can't be imported here, and trees need it: pip install 'lightgbm'"
    assert message(ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm")) == plain
    assert message(ImportError("libgomp.so.1: not found")) == f"{plain}. Its import failed with ImportError: libgomp.so.1: not found"
