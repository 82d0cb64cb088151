"""CSV files: no code is lost without a schema, the schema decides where there is one, and an ambiguous header is refused."""

from __future__ import annotations

import warnings
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nearward.tabular.data.csv_reader import read_csv, read_texts
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, InputError

SECRET = "Zanzibar"


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["7", "-12", "0"], pl.Int64),
        (["1.50", ".5", "5.", "-2"], pl.Float64),
        (["1e-05", "1.5E+7", "1e+308"], pl.Float64),
        (["+2.3", "-1.0"], pl.Float64),
        ([" 5.2", "5.3 "], pl.Float64),
        (["TRUE", "FALSE"], pl.Boolean),
        (["true", "True"], pl.Boolean),
        (["007", "07", "7"], pl.String),
        (["01", "12"], pl.String),
        (["-01", "12"], pl.String),
        (["00.5", "1.5"], pl.String),
        (["1E5", "2.5"], pl.String),
        (["1e5", "7"], pl.String),
        (["12345678901234567890", "1"], pl.String),
        (["12345678901234567", "1.5"], pl.String),
        (["1", "x"], pl.String),
        (["2020-02-29", "1999-12-31"], pl.Date),
        (["2020-02-30", "1999-12-31"], pl.String),
        (["2020-02-29T12:00:00", "2020-02-29 13:00:00.5"], pl.Datetime("us")),
    ],
)
def test_texts_become_numbers_only_where_no_code_is_lost(texts: list[str], dtype: pl.DataType) -> None:
    values = read_texts(pl.Series("x", [*texts, "NA", None]))
    assert values.dtype == dtype
    assert values.null_count() == 2
    if dtype == pl.String:
        assert values.to_list()[:-2] == texts


def test_values_of_dates_booleans_and_numbers() -> None:
    assert read_texts(pl.Series(["2020-02-29"])).item() == date(2020, 2, 29)
    assert read_texts(pl.Series(["2020-02-29T12:00:00"])).item() == datetime(2020, 2, 29, 12)
    assert read_texts(pl.Series(["TRUE", "False"])).to_list() == [True, False]
    assert read_texts(pl.Series([" 5.25", "+1"])).to_list() == [5.25, 1.0]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(st.integers(-(10**19), 10**19).map(str), st.from_regex(r"[0-9eE.]{1,8}", fullmatch=True)), min_size=1, max_size=6)
)
def test_whole_numbers_are_written_back_as_they_stood(texts: list[str]) -> None:
    values = read_texts(pl.Series("x", texts))
    if values.dtype in (pl.Int64, pl.String):
        assert values.cast(pl.String).to_list() == texts
    else:
        assert values.dtype == pl.Float64
        assert not any(text.startswith("0") and text[1:2].isdigit() for text in texts)


def test_a_schema_decides_the_dtypes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("ward,icd,vent,id,age,region\n01,250.00,TRUE,000180,07,NA\n02,401.9,FALSE,000181,8,EU\n")
    schema = Schema(
        (
            Column("ward", kind="category"),
            Column("icd", kind="category"),
            Column("vent", kind="category"),
            Column("id", role="id", kind="number"),
            Column("age"),
            Column("region", kind="category", categories=("EU", "NA")),
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = read_csv(path, schema)
    assert frame.rows() == [("01", "250.00", "TRUE", "000180", 7, "NA"), ("02", "401.9", "FALSE", "000181", 8, "EU")]


def test_a_number_column_with_other_text_stays_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age\n61\n<18\n")
    frame = read_csv(tmp_path / "t.csv", Schema((Column("age"),)))
    with pytest.raises(InputError, match="column 'age' must be a number, but 1 of 2 values"):
        Schema((Column("age"),)).conform(frame)


def test_na_in_a_text_column_is_missing_and_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("region,age,empty\nNA,NA,NA\nEU,3,\nNA,4,\n")
    with pytest.warns(DataWarning) as caught:
        frame = read_csv(tmp_path / "t.csv")
    assert frame["region"].to_list() == [None, "EU", None]
    assert [str(warning.message) for warning in caught] == [
        "t.csv: NA, NaN and null are read as missing, also in columns of text: 'region' (2 values). Where one of them is a category, list "
        "it among the column's categories in a schema"
    ]


def test_texts_that_become_one_number_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("icd,age\n250.0,1.5\n250.00,2.50\n401.9,3\n")
    with pytest.warns(DataWarning, match=r"different texts are one number, .* in the columns \['icd'\]"):
        assert read_csv(tmp_path / "t.csv")["icd"].to_list() == [250.0, 250.0, 401.9]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_csv(tmp_path / "t.csv", Schema((Column("icd", kind="category"),)))["icd"].to_list() == ["250.0", "250.00", "401.9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age;died\n61;1\n", "separated by semicolons"),
        ("age\tdied\n61\t1\n", "separated by tabs"),
        (",age,died\n1,61,1\n", r"columns without a name at position \[1\].*index=False"),
        ("age,died\n1,61,1\n2,62,0\n", "2 names in its header and 3 values in its first row.*row.names=FALSE"),
        ("age,died,age\n61,1,Zanzibar\n", r"names columns twice: \['age'\]"),
        ('"age","died",age\n61,1,Zanzibar\n', r"names columns twice: \['age'\]"),
    ],
)
def test_an_ambiguous_header_is_refused_with_a_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_csv(tmp_path / "t.csv")
    assert SECRET not in str(caught.value)


def test_a_byte_order_mark_quotes_and_line_breaks_in_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeff"age, in\nyears",b\r\n61,1\r\n'.encode())
    assert_frame_equal(read_csv(tmp_path / "t.csv"), pl.DataFrame({"age, in\nyears": [61], "b": [1]}))


def test_dates_and_times_are_read_as_written(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": [date(2020, 2, 29), None], "at": [datetime(2020, 2, 29, 12, 30, 0, 5), None], "age": [61, 70]})
    frame.write_csv(tmp_path / "t.csv")
    assert_frame_equal(read_csv(tmp_path / "t.csv"), frame)
    assert_frame_equal(read_csv(tmp_path / "t.csv", Schema.from_dtypes(frame)), frame)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ("age,sex\n61,m\n".encode("utf-16"), "is not UTF-8 text but UTF-16, as Excel's Unicode text is: save it as UTF-8"),
        ("age,sex\n61,f\n70,m\u00e4nnlich\n".encode("latin-1"), r"is not UTF-8 text \(line 3\): save it as UTF-8"),
    ],
)
def test_an_empty_file_and_another_encoding_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_csv(tmp_path / "cohort.csv")
