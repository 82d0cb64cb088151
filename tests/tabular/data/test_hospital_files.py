"""Files of hospitals: value labels, headings of Excel sheets, and the data dictionary of REDCap."""

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nearward.tabular.data.hospital_files import read_redcap_dictionary
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import DataWarning, InputError, MissingPackage

HEADER = (
    'Variable / Field Name,Form Name,Field Type,Field Label,"Choices, Calculations, OR Slider Labels",'
    "Text Validation Type OR Show Slider Number,Text Validation Min,Text Validation Max,Identifier?\n"
)
DICTIONARY = (
    HEADER
    + "record_id,base,text,Record,,,,,\n"
    + "name,base,text,Name,,,,,y\n"
    + "age,base,text,Age,,integer,18,110,\n"
    + 'ward,base,radio,Ward,"1, ICU | 2, Medical, general | 3, Surgical",,,,\n'
    + 'signs,base,checkbox,Signs,"A, Fever | B, Cough",,,,\n'
    + "admitted,base,text,Admitted,,date_ymd,,,\n"
    + "remark,base,notes,Remark,,,,,\n"
    + "hint,base,descriptive,Hint,,,,,\n"
    + "died,outcome,yesno,Died,,,,,\n"
)
EXPORT = pl.DataFrame(
    {
        "record_id": [1, 2, 3], "name": ["x", "y", "z"], "age": [60, 71, None],
        "ward": [1, 3, 2], "signs___a": [0, 1, 0], "signs___b": [1, 1, 0],
        "admitted": ["2024-01-01"] * 3, "remark": ["", "", ""], "died": [0, 1, 0],
    }
)  # fmt: skip


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "dictionary.csv"
    path.write_text(DICTIONARY, encoding="utf-8")
    return path


def test_a_data_dictionary_becomes_a_schema(dictionary: Path) -> None:
    schema = read_redcap_dictionary(dictionary, EXPORT)
    assert schema.features == ("age", "ward", "signs___a", "signs___b", "died")
    assert (schema["record_id"].role, schema["name"].role, schema["admitted"].role) == ("id", "ignore", "time")
    assert (schema["age"].low, schema["age"].high, schema["ward"].categories) == (18.0, 110.0, ("1", "2", "3"))
    assert schema["died"].block == "outcome"
    assert schema.conform(EXPORT)["ward"].to_list() == ["1", "3", "2"]
    assert read_redcap_dictionary(dictionary, EXPORT.with_columns(record_id=pl.lit(1)))["record_id"].role == "group"
    assert read_redcap_dictionary(dictionary)["died"].kind == "number"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ward": ["ICU", "ICU", "Surgical"]}, r"'ward' has 3 values that are none of its 3 choices"),
        ({"age": ["sixty", "71", "x"]}, r"'age' is a number in the dictionary and String in the table"),
    ],
)
def test_a_dictionary_that_contradicts_the_table_is_refused(dictionary: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_redcap_dictionary(dictionary, EXPORT.with_columns(**{name: pl.Series(values) for name, values in change.items()}))
    assert "sixty" not in str(caught.value)


def test_what_is_no_dictionary_is_refused_and_columns_that_it_lacks_are_named(dictionary: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name in ("other.csv", "missing.csv"):
        with pytest.raises(InputError, match="data dictionary"):
            read_redcap_dictionary(tmp_path / name)
    with pytest.warns(DataWarning, match=r"\['score'\]"):
        assert read_redcap_dictionary(dictionary, EXPORT.with_columns(score=1))["score"].role == "ignore"


def _sheet(path: Path, rows: list[list[Any]], sheets: int = 1, merge: bool = False) -> None:
    book = pytest.importorskip("xlsxwriter").Workbook(path)
    for k in range(sheets):
        sheet = book.add_worksheet(f"sheet {k}")
        for i, row in enumerate(rows):
            sheet.write_row(i, 0, row)
        if merge:
            sheet.merge_range(0, 0, 0, 1, "Vital signs", book.add_format())
    book.close()


def test_an_excel_sheet(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel", reason="needs the extra [files]")
    rows = [["age", "ward", "died"], [61, "ICU", 0], [70, "medical", 1]]
    _sheet(tmp_path / "cohort.xlsx", rows)
    assert read_table(tmp_path / "cohort.xlsx").to_dict(as_series=False) == {"age": [61, 70], "ward": ["ICU", "medical"], "died": [0, 1]}
    _sheet(tmp_path / "two.xlsx", rows, sheets=2)
    with pytest.warns(DataWarning, match="'sheet 0', was read; not 'sheet 1'"):
        read_table(tmp_path / "two.xlsx")
    _sheet(tmp_path / "merged.xlsx", rows, merge=True)
    with pytest.raises(InputError, match=r"1 of 3 headings in the first row of sheet 'sheet 0' are empty, as merged cells leave them"):
        read_table(tmp_path / "merged.xlsx")
    _sheet(tmp_path / "twice.xlsx", [["age", "age"], [1, 2]])
    with pytest.raises(InputError, match=r"stand twice in the first row: \['age'\]"):
        read_table(tmp_path / "twice.xlsx")
    (tmp_path / "broken.xlsx").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match=r"cannot be read as \.xlsx"):
        read_table(tmp_path / "broken.xlsx")


@pytest.mark.parametrize("suffix", [".sav", ".dta"])
def test_value_labels(tmp_path: Path, suffix: str) -> None:
    pyreadstat = pytest.importorskip("pyreadstat", reason="needs the extra [files]")
    frame = pl.DataFrame({"sex": [1, 2, 2], "pain": [0, 3, 9], "admitted": [date(2024, 1, 1)] * 3, "died": [0, 1, 0]})
    write = {".sav": pyreadstat.write_sav, ".dta": pyreadstat.write_dta}[suffix]
    labels = {"sex": {1: "m", 2: "f"}, "pain": {9: "unknown"}}
    write(frame, str(tmp_path / f"cohort{suffix}"), variable_value_labels=labels)
    with pytest.warns(DataWarning, match=r"columns \['pain'\] have labels for some of their values only"):
        table = read_table(tmp_path / f"cohort{suffix}")
    assert table["sex"].to_list() == ["m", "f", "f"]
    assert table["pain"].to_list() == [0, 3, 9]
    assert table["died"].sum() == 1


@pytest.mark.parametrize("version", [5, 8])
def test_a_transport_file_of_sas_keeps_dates_times_and_gaps(tmp_path: Path, version: int) -> None:
    pyreadstat = pytest.importorskip("pyreadstat", reason="needs the extra [files]")
    frame = pl.DataFrame(
        {
            "AGE": [61, None, 70],
            "WARD": ["ICU", "", "medical ward"],  # SAS has no other missing text
            "ADMITTED": [date(2024, 1, 1), None, date(2024, 2, 3)],
            "SEEN": [datetime(2024, 1, 1, 10, 30), None, datetime(2024, 2, 3, 4, 5)],
            "DIED": [0, 1, 0],
        }
    )
    pyreadstat.write_xport(frame, str(tmp_path / "cohort.xpt"), file_format_version=version)
    table = read_table(tmp_path / "cohort.xpt")
    expected = frame.with_columns(pl.col("AGE", "DIED").cast(pl.Float64), WARD=pl.Series(["ICU", None, "medical ward"]))
    assert table.equals(expected)


def test_a_sas7bdat_file(tmp_path: Path) -> None:
    """Written by the command readstat 1.1.8 from a table of three rows; see docs/log/2026-11.md for one that SAS wrote."""
    pytest.importorskip("pyreadstat", reason="needs the extra [files]")
    (tmp_path / "cohort.sas7bdat").write_bytes(gzip.decompress((Path(__file__).parent / "cohort.sas7bdat.gz").read_bytes()))
    expected = {"AGE": [61.5, None, 70.0], "WARD": ["ICU", None, "medical ward"], "DIED": [0.0, 1.0, 0.0]}
    assert read_table(tmp_path / "cohort.sas7bdat").to_dict(as_series=False) == expected
    (tmp_path / "cut.sas7bdat").write_bytes((tmp_path / "cohort.sas7bdat").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.sas7bdat cannot be read as \.sas7bdat"):
        read_table(tmp_path / "cut.sas7bdat")


def test_a_missing_reader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cohort.sav").write_bytes(b"$FL2")
    monkeypatch.setitem(__import__("sys").modules, "pyreadstat", None)
    with pytest.raises(MissingPackage, match=r"pip install 'nearward\[files\]'"):
        read_table(tmp_path / "cohort.sav")
