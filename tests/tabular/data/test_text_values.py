"""Values stored as text: marks of missing values, numbers that other text keeps from being numbers, dtypes of texts."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import read_table
from nearward.tabular.data.text_values import describe_commas, parse, read_missing, warn_of_numbers_as_text
from nearward.tabular.errors import DataWarning, InputError

NUMBERS = [f"{value:.1f}" for value in np.random.default_rng(0).normal(40, 9, 60)]


def message_about(values: list[str | None]) -> str:
    """Return the warning about a column ``crp``, or an empty text where there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_numbers_as_text(pl.Series("crp", values, dtype=pl.String), stacklevel=2)
    return "".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("mark", ["?", ".", "-", "N/A", "None", "\\N", " ", "NULL", "#N/A", "--"])
def test_every_usual_mark_among_numbers_is_counted_by_name(mark: str) -> None:
    message = message_about([*NUMBERS, *[mark] * 40])
    assert f"'crp' is text, but 60 of its 100 values read as numbers (besides: 40 marks of missing values ({mark.strip()!r}))" in message
    assert 'missing="usual"' in message


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("<0.5", "2 with <, > or ≤"),
        ("≥ 100", "2 with <, > or ≤"),
        ("5 %", "2 with a unit or %"),
        ("3.4 mg", "2 with a unit or %"),
        ("80mg/dl", "2 with a unit or %"),
        ("1,100", "2 with a comma"),
        ("hemolysed", "2 of other text"),
    ],
)
def test_other_forms_of_numbers_are_counted_and_not_quoted(value: str, form: str) -> None:
    message = message_about([*NUMBERS, value, value])
    assert form in message
    assert value not in message.replace("--missing", "")


def test_measurements_that_are_text_throughout_are_warned_of_but_codes_and_few_values_are_not() -> None:
    assert "60 of its 60 values read as numbers" in message_about(NUMBERS)
    assert not message_about(["1", "2", "3"] * 30)
    assert not message_about([f"{i:04d}" for i in range(60)])
    assert not message_about(["E11", "I10", "J18"] * 30)
    assert not message_about(["12A", "12B", "3C"] * 30)
    assert not message_about(["-", "+", "++"] * 30)
    assert not message_about([None] * 30)
    assert not message_about(["?"] * 30)


def test_marks_are_missing_where_they_are_told_to_be() -> None:
    frame = pl.DataFrame({"crp": ["5.1", " ?", "N/A"], "seen": ["2020-02-29", ".", None], "protein": ["-", "trace", "?"], "age": [1, 2, 3]})
    usual = read_missing(frame, "usual")
    assert usual["crp"].to_list() == [5.1, None, None]
    assert usual["seen"].to_list() == [date(2020, 2, 29), None, None]
    assert usual["protein"].to_list() == ["-", "trace", "?"]  # a minus may be a result there
    named = read_missing(frame, ["?"])
    assert named["protein"].to_list() == ["-", "trace", None]
    assert named["crp"].to_list() == ["5.1", None, "N/A"]
    assert_frame_equal(read_missing(frame, ()), frame)


def test_categorical_text_is_read_alike_and_codes_stay_text() -> None:
    values = pl.Series("crp", ["5.1", "?", "7"], dtype=pl.Categorical)
    assert read_missing(values.to_frame(), "usual")["crp"].to_list() == [5.1, None, 7.0]
    assert read_missing(pl.DataFrame({"icd": ["007", "?", "012"]}), "usual")["icd"].to_list() == ["007", "?", "012"]
    assert read_missing(pl.DataFrame({"icd": ["007", "?", "012"]}), "?")["icd"].to_list() == ["007", None, "012"]


@pytest.mark.parametrize("missing", ["-9", ["?", "999"], [9]])
def test_marks_that_are_numbers_are_refused(missing: object) -> None:
    with pytest.raises(InputError, match=r"missing='(-9|999)' is a number|a mark of type int"):
        read_missing(pl.DataFrame({"x": ["1"]}), missing)  # type: ignore[arg-type]


def test_a_schema_keeps_the_marks_for_new_rows() -> None:
    frame = pl.DataFrame({"crp": [*NUMBERS, "?"], "ward": ["a", "b", "unk"] * 20 + ["a"]})
    schema = Schema.from_json(Schema.infer(frame, missing=["usual", "unk"]).to_json())
    assert (schema["crp"].kind, schema["ward"].categories) == ("number", ("a", "b"))
    new = schema.conform(pl.DataFrame({"crp": ["5", "N/A"], "ward": ["unk", "a"]}))
    assert new.to_dict(as_series=False) == {"crp": [5.0, None], "ward": [None, "a"]}
    with pytest.raises(InputError, match=r"1 of 2 values are text that is not one\. Marks of missing values among them \(1: 'N/A'\)"):
        Schema.infer(pl.DataFrame({"crp": list(range(9))})).conform(pl.DataFrame({"crp": ["5", "N/A"]}))


def test_files_of_all_kinds_are_read_alike(tmp_path: Path) -> None:
    frame = pl.DataFrame({"crp": [*NUMBERS, "?"], "ward": ["a", "b", "?"] * 20 + ["a"], "age": list(range(61))})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    for missing in ((), "usual", ["?"]):
        assert_frame_equal(read_table(tmp_path / "t.csv", missing=missing), read_table(tmp_path / "t.parquet", missing=missing))
    assert read_table(tmp_path / "t.csv", missing="usual")["crp"].null_count() == 1


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (["1,100", "2,350"], "groups of three digits commas may separate thousands or be decimal commas"),
        (["1,100", "1,234,567"], "the commas separate thousands"),
        (["1,100.5"], "the commas separate thousands"),
        (["1,100", "3,5"], "decimal commas: replace them by points"),
        (["1.100,5"], "decimal commas"),
        (["1,234,567", "3,5"], "some commas separate thousands and some are decimal commas"),
    ],
)
def test_commas_are_told_apart_where_they_can_be(values: list[str], what: str) -> None:
    assert what in describe_commas(pl.Series(values))
    with pytest.raises(InputError, match="is text of numbers with commas") as caught:
        Schema.infer(pl.DataFrame({"ferritin": values * 9}))
    assert what in str(caught.value)


def test_some_commas_among_numbers_are_warned_of() -> None:
    with pytest.warns(DataWarning, match=r"'ferritin' is text.*6 with a comma.*thousands or be decimal commas"):
        Schema.infer(pl.DataFrame({"ferritin": [*NUMBERS, *["1,100", "2,350", "1,205"] * 2]}))


def test_times_keep_their_zone_and_need_no_seconds() -> None:
    times = parse(pl.Series(["2020-01-01T12:00:00+01:00", "2020-06-01T12:00:00.5Z", None]))
    assert times.to_list() == [datetime(2020, 1, 1, 11, tzinfo=UTC), datetime(2020, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC), None]
    assert parse(pl.Series(["2020-01-01 12:00", "2020-01-01 12:00:30"])).to_list() == [
        datetime(2020, 1, 1, 12),
        datetime(2020, 1, 1, 12, 0, 30),
    ]
    assert parse(pl.Series(["2020-01-01T12:00:00Z", "2020-01-01T12:00:00"])).dtype == pl.String  # with and without a zone


def test_times_with_a_zone_are_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    at = (
        pl.Series([datetime(2020, 3, 29, hour, 30) for hour in range(1, 5)])
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone("Europe/Berlin")
    )
    frame = pl.DataFrame({"at": at, "day": at.dt.date()})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    expected, read = read_table(tmp_path / "t.parquet"), read_table(tmp_path / "t.csv")
    assert (read["at"].to_physical() == expected["at"].to_physical()).all()
