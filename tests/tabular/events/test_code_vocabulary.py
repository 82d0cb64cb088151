"""Which codes become columns: parents of rare codes, lists, the limit of columns, names."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import DataWarning
from nearward.tabular.events.reading import Events

DAY, MOMENT = datetime(2020, 1, 1), datetime(2020, 1, 2)
LABELS = pl.DataFrame({"subject_id": range(20), "prediction_time": MOMENT})


def events(codes: dict[str, range], values: dict[str, float] | None = None, **metadata: tuple[str | None, list[str] | None]) -> Events:
    """An event a subject of each code, with metadata of codes: description and parents."""
    factor = values or {}
    rows = [(who, DAY, code, factor[code] * who if code in factor else None) for code, owners in codes.items() for who in owners]
    dtypes = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float64}
    frame = pl.DataFrame(rows, dtypes, orient="row")
    about = [(code, description, parents, None) for code, (description, parents) in metadata.items()]
    schema = {"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String), "unit": pl.String}
    return replace(nw.read_events(frame), codes=pl.DataFrame(about, schema, orient="row"))


def test_rare_codes_count_for_their_nearest_frequent_parent() -> None:
    read = events(
        {"E11_1": range(0, 6), "E11_2": range(4, 10), "E10_1": range(10, 12), "F00": range(3), "G": range(1)},
        E11_1=(None, ["E11"]),
        E11_2=(None, ["E11"]),
        E10_1=(None, ["E10"]),
        E10=(None, ["E"]),
        E11=("Diabetes, type 2", ["E"]),
        E=("Endocrine", None),
    )
    features = nw.EventFeatures(min_subjects=10).fit(read, LABELS)
    made = features.transform(read, LABELS)
    assert made["Diabetes, type 2: seen"].to_list() == [1.0] * 10 + [0.0] * 10
    assert made["Diabetes, type 2: count"].to_list() == [1.0] * 4 + [2.0] * 2 + [1.0] * 4 + [0.0] * 10
    assert "Endocrine: seen" not in made.columns  # two subjects have E10_1, and nobody else needs it
    assert made["Rare codes"].to_list() == [["F00"]] * 3 + [[]] * 7 + [["E10_1"]] * 2 + [[]] * 8  # one subject has G: it would identify him
    assert features.schema_["Rare codes"].kind == "list"


def test_at_most_so_many_columns_and_the_others_stand_in_lists() -> None:
    read = events({f"DRUG//{i:02d}": range(20 - i) for i in range(8)})
    features = nw.EventFeatures(min_subjects=2, max_columns=6).fit(read, LABELS)
    assert len([column for column in features.schema_.columns if column.kind == "number"]) == 6
    assert features.transform(read, LABELS[:1])["DRUG: rare codes"].to_list() == [[f"DRUG//{i:02d}" for i in range(3, 8)]]


def test_all_numbers_have_a_column_before_the_most_frequent_have_all() -> None:
    hours = [timedelta(hours=hour) for hour in range(6)]
    rows = [(i, DAY - hour, f"LAB//{j}", float(i + hour.seconds)) for j in range(3) for i in range(20 - j) for hour in hours]
    frame = pl.DataFrame(rows, ["subject_id", "time", "code", "numeric_value"], orient="row")
    every = nw.EventFeatures(min_subjects=5).fit(frame, LABELS)
    width = len(every.schema_.columns) // 3
    few = nw.EventFeatures(min_subjects=5, max_columns=width + 16).fit(frame, LABELS)
    names = few.get_feature_names_out().tolist()
    assert {f"LAB//{j}: {summary}" for j in range(3) for summary in ("last", "min", "max", "mean", "count")} <= {*names}
    assert [len([name for name in names if name.startswith(f"LAB//{j}:")]) for j in range(3)] == [width, 8, 8]
    assert few.transform(frame, LABELS).equals(every.transform(frame, LABELS)[names])


def test_numbers_that_find_no_column_are_warned_of() -> None:
    read = events({f"LAB//{i}": range(20) for i in range(4)}, {f"LAB//{i}": 1.0 for i in range(4)})
    with pytest.warns(DataWarning, match="numbers of 2 frequent codes are no features, since max_columns=2 .* 'LAB//2', 'LAB//3'. Raise"):
        features = nw.EventFeatures(min_subjects=2, max_columns=2).fit(read, LABELS)
    assert features.get_feature_names_out().tolist() == ["LAB//0", "LAB//1", "LAB: rare codes"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        nw.EventFeatures(min_subjects=2).fit(read, LABELS)


def test_codes_of_a_hundred_thousand_kinds_stay_narrow() -> None:
    kinds = pl.int_range(100_000, eager=True)
    owners = pl.DataFrame({"kind": kinds, "subject_id": [[0, 1, 2]] * 1000 + [[3, 4]] * 99_000}).explode("subject_id")
    frame = owners.select("subject_id", pl.lit(DAY).alias("time"), pl.format("C//{}", "kind").alias("code"), numeric_value=pl.lit(1.0))
    features = nw.EventFeatures(min_subjects=3, max_columns=500).fit(frame, LABELS)
    assert len(features.schema_.columns) == 501
    made, counts = features.transform_counted(frame, LABELS[:4])
    assert made["C: rare codes"].list.len().to_list() == [750, 750, 750, 99_000]  # each frequent code has two columns
    assert (counts.unknown_codes, counts.labels_without_events) == (0, 0)


@pytest.mark.parametrize(("values", "kind"), [({"X": 1.0}, "fact"), ({"X": 0.0}, "code"), (None, "code")])
def test_what_becomes_of_numbers(values: dict[str, float] | None, kind: str) -> None:
    assert nw.EventFeatures(min_subjects=5).fit(events({"X": range(20)}, values), LABELS).vocabulary_.columns[0].kind == kind


def test_two_codes_of_one_description_have_two_names() -> None:
    read = events({"A1": range(20), "A2": range(15)}, A1=("Sodium", None), A2=("Sodium", None))
    names = nw.EventFeatures(min_subjects=5).fit(read, LABELS).get_feature_names_out().tolist()
    assert names == ["Sodium: seen", "Sodium: hours since", "Sodium (A2): seen", "Sodium (A2): hours since"]
