"""Validation of the three tables of a card: errors, and warnings."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.tables.inputs import matching_share, read_tables, split_by_patient
from nearward.tabular.errors import DataWarning, DifferentTables, InputError, MissingColumns, SharedPatients, TooFewEvents


@pytest.fixture
def three(ward):
    return {"train": ward(300, 1), "holdout": ward(300, 2), "synthetic": ward(300, 3)}


def read_changed(three, **frames):
    return read_tables(**{**three, **frames}, outcome="died")


def test_kinds_are_numbers_and_text(three):
    tables = read_changed(three)
    assert set(tables.train.schema.values()) == {pl.Float64, pl.String}
    assert tables.train.schema == tables.holdout.schema == tables.synthetic.schema
    assert tables.events(tables.train).tolist() == three["train"]["died"].to_list()
    assert tables.notes == ()


def test_lazy_frames_and_whole_numbers_beside_floats_are_taken(three):
    floats = three["synthetic"].with_columns(pl.col("died").cast(pl.Float64)).lazy()
    assert read_changed(three, synthetic=floats).synthetic.equals(read_changed(three).synthetic)


def test_columns_that_differ_are_named(three):
    with pytest.raises(DifferentTables, match=r"synthetic lacks \['urea'\].*synthetic has \['urine2'\]"):
        read_changed(three, synthetic=three["synthetic"].drop("urea").with_columns(urine2=1))
    with pytest.raises(DifferentTables, match=r"'age' is Float64 in train, Float64 in holdout, String in synthetic"):
        read_changed(three, synthetic=three["synthetic"].with_columns(pl.col("age").cast(pl.String)))


def test_outcome(three):
    with pytest.raises(MissingColumns, match="did you mean 'died'"):
        read_tables(**three, outcome="die")
    with pytest.raises(InputError, match="of train has the same value in every row"):
        read_changed(three, train=three["train"].with_columns(died=0))
    with pytest.raises(InputError, match="is missing in 300 of 300 rows of synthetic"):
        read_changed(three, synthetic=three["synthetic"].with_columns(died=pl.lit(None, dtype=pl.Int64)))
    with pytest.raises(InputError, match="300 rows of synthetic have a value that no row of train has"):
        read_changed(three, synthetic=three["synthetic"].with_columns(died=7))
    with pytest.raises(InputError, match="3 different values in train: name the event"):
        read_tables(**three, outcome="ward")
    assert read_tables(**three, outcome="ward", positive="ICU").event == "ICU"
    assert read_tables(**three, outcome="died", positive="0").event == 0.0
    with pytest.raises(InputError, match="no row of train has the value"):
        read_tables(**three, outcome="died", positive="yes")


def test_too_few_events(three):
    few = three["holdout"].with_columns(died=(pl.int_range(pl.len()) < 9).cast(pl.Int64))
    with pytest.raises(TooFewEvents, match=r"9 events are too few to judge a synthetic table \(holdout\)"):
        read_changed(three, holdout=few)
    with pytest.raises(InputError, match="9 rows of holdout are free of the event"):
        read_changed(three, holdout=few.with_columns(died=1 - pl.col("died")))
    with pytest.raises(InputError, match="synthetic has 40 rows; at least 50"):
        read_changed(three, synthetic=three["synthetic"][:40])


def test_patients_on_both_sides_are_refused_and_not_named(three):
    train, holdout = (three[name].with_columns(patient=pl.int_range(pl.len()) + start) for name, start in (("train", 0), ("holdout", 298)))
    with pytest.raises(SharedPatients, match=r"2 patients \(column 'patient'\)"):
        read_tables(train, holdout, three["synthetic"], "died", group="patient")
    tables = read_tables(train, holdout.with_columns(pl.col("patient") + 2), three["synthetic"], "died", group="patient")
    assert "patient" not in tables.train.columns
    with pytest.raises(MissingColumns):
        read_tables(train, three["holdout"], three["synthetic"], "died", group="patient")
    with pytest.raises(InputError, match=r"'patient' of .* has 300 missing values"):
        read_tables(train, holdout.with_columns(patient=pl.lit(None, dtype=pl.Int64)), three["synthetic"], "died", group="patient")


def test_few_patients_and_no_columns_are_refused(three):
    visits = {
        name: three[name].with_columns(patient=pl.int_range(pl.len()) % 19 + start) for name, start in (("train", 0), ("holdout", 50))
    }
    with pytest.raises(InputError, match="train has 19 patients; at least 20"):
        read_tables(**visits, synthetic=three["synthetic"], outcome="died", group="patient")
    with pytest.raises(InputError, match="no column besides the outcome"):
        read_tables(*(frame.select("died") for frame in three.values()), outcome="died")


def test_identical_rows_are_reported_with_their_share(three):
    with pytest.warns(DataWarning, match=r"10\.0% of the holdout's rows are identical"):
        tables = read_changed(three, holdout=pl.concat([three["train"][:30], three["holdout"][30:]]))
    assert tables.repeated.value == pytest.approx(0.1)
    assert tables.repeated.low < 0.1 < tables.repeated.high


def test_a_row_with_missing_values_is_identical_to_itself():
    frame = pl.DataFrame({"a": [1.0, None], "b": [None, "x"]})
    assert matching_share(frame, frame).value == 1


def test_empty_columns_and_row_names_are_dropped_with_a_note(three):
    def spoil(frame, start):
        return frame.with_columns(empty=pl.lit(None, dtype=pl.String), name=pl.format("row {}", pl.int_range(pl.len()) + start))

    spoilt = {name: spoil(frame, 1000 * i) for i, (name, frame) in enumerate(three.items())}
    with pytest.warns(DataWarning) as warned:
        tables = read_tables(**spoilt, outcome="died")
    assert tables.train.columns == three["train"].columns
    assert len(warned) == len(tables.notes) == 2
    assert not any("row 0" in note for note in tables.notes)


def test_a_column_empty_in_one_table_remains(three):
    tables = read_changed(three, synthetic=three["synthetic"].with_columns(age=pl.lit(None)))
    assert tables.synthetic["age"].null_count() == 300
    assert tables.synthetic["age"].dtype == pl.Float64


def test_infinite_values_and_foreign_dtypes_are_refused_by_name(three):
    with pytest.raises(InputError, match="holdout: column 'age' holds 300 infinite"):
        read_changed(three, holdout=three["holdout"].with_columns(age=float("inf")))
    listed = {name: frame.with_columns(tags=pl.lit([1])) for name, frame in three.items()}
    with pytest.raises(InputError, match="'tags' has dtype List"):
        read_tables(**listed, outcome="died")


def test_dates_become_days(three):
    dated = {name: frame.with_columns(seen=pl.lit(date(1970, 1, 11))) for name, frame in three.items()}
    assert read_tables(**dated, outcome="died").train["seen"].unique().to_list() == [10.0]


def test_a_split_keeps_patients_whole():
    patient_ids = np.repeat(np.arange(50), 3)
    parts = list(split_by_patient(patient_ids, 2, seed=0))
    assert sorted(np.concatenate(parts)) == list(range(150))
    assert not set(patient_ids[parts[0]]) & set(patient_ids[parts[1]])


def test_lists_of_codes_are_refused_by_name(three):
    with pytest.raises(InputError, match=r"'dx' has dtype List\(String\)"):
        read_tables(*(frame.with_columns(dx=pl.lit(["I10"])) for frame in three.values()), outcome="died")
