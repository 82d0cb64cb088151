"""Features of events: nothing after the moment, nothing from the company, nothing from the files; defined rows for bad input."""

from __future__ import annotations

import functools
import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import nearward as nw
from nearward.datasets import ward_events
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.events.reading import Events

MOMENT = datetime(2020, 1, 10)
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float64, "text_value": pl.String}
TEXTS = ("negative", " positive", "no result", "")
LIST = pl.List(pl.String)
Row = tuple[int, float | None, str | None, float | None]

rows = st.tuples(
    st.integers(1, 4),
    st.one_of(st.none(), st.sampled_from([0.0, 1.0, 5.9, 6.0, 6.1, 24.0, 30.0]), st.floats(0.01, 300)),  # hours before the moment
    st.sampled_from([None, "A", "B", "C", "SEX//F", "D//1", "D//2", "MEDS_BIRTH", "never seen", "T"]),
    st.one_of(st.none(), st.sampled_from([0.0, float("nan"), float("inf")]), st.floats(-1e6, 1e6)),
)


def table(found: list[Row]) -> pl.DataFrame:
    """Events of subjects some hours before the moment; a null time is a static fact, and the code T has texts in place of numbers."""
    data = []
    for who, age, code, value in found:
        text = TEXTS[int(value) % len(TEXTS)] if code == "T" and value is not None and math.isfinite(value) else None
        data.append((who, None if age is None else MOMENT - timedelta(hours=age), code, None if code == "T" else value, text))
    return pl.DataFrame(data, SCHEMA, orient="row")


LABELS = pl.DataFrame({"subject_id": [3, 1, 2, 4, 1], "prediction_time": [*[MOMENT] * 4, MOMENT - timedelta(hours=10)]})
TRAINING = table(
    [
        *((who, age, code, value * who) for who in (1, 2, 3) for age, value in ((3, 1.0), (5, 1.0), (9, 2.0), (40, 4.0)) for code in "AB"),
        *((who, age, "C", None) for who in (1, 2, 3) for age in (2, 3, 50)),
        *((who, None, "SEX//F", None) for who in (1, 2)),
        *((who, 1000.0 * who, "MEDS_BIRTH", None) for who in (1, 2, 3)),
        *((who, 5.0, code, None) for who in (1, 2) for code in ("D//1", "D//2")),
        *((who, 5.0, "E", float(who)) for who in (1, 2, 3)),
        *((who, age, "T", value) for who in (1, 2, 3) for age, value in ((7.0, 0.0), (30.0, 1.0))),
    ]
)


@pytest.fixture(scope="module")
def features() -> nw.EventFeatures:
    return nw.EventFeatures(min_subjects=3).fit(TRAINING, LABELS)


def test_columns_have_names_that_are_read(features: nw.EventFeatures) -> None:
    names = features.get_feature_names_out().tolist()
    assert {"A: last", "A: hours since", "A: max, 6h", "A: slope", "C: seen", "C: count, 24h", "E", "Age", "D: rare codes"} <= set(names)
    assert "C: count, 6h" not in names  # the same events as within 24 hours
    assert "MEDS_BIRTH: seen" not in names
    blocks = {column.name: (column.block, column.kind) for column in features.schema_.columns}
    assert blocks["A: last"] == ("measurements", "number")
    assert blocks["D: rare codes"] == ("D", "list")
    assert blocks["E"] == ("facts", "number")
    assert blocks["T: last text"] == ("occurrences", "category")
    assert blocks["Age"] == ("time", "number")


def test_worked_by_hand(features: nw.EventFeatures) -> None:
    row = features.transform(TRAINING, LABELS[2:3]).row(0, named=True)  # subject 2: 8 at 40 hours, 4 at 9, 2 at 5 and 3
    expected = {"A: last": 2.0, "A: hours since": 3.0, "A: first": 8.0, "A: count": 4.0, "A: max, 24h": 4.0, "A: mean, 6h": 2.0}
    expected |= {
        "A: slope, 24h": -5 / 14,
        "A: from usual": 0.5,
        "C: seen": 1.0,
        "C: count, 24h": 2.0,
        "E": 2.0,
        "Age": 2000 / 24 / 365.25,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["D: rare codes"] == ["D//1", "D//2"]
    assert row["T: last text"] == "negative"


@settings(max_examples=12, deadline=None)
@given(past=st.lists(rows, max_size=12), later=st.lists(st.tuples(rows, st.floats(0, 1e4)), max_size=6))
def test_events_from_the_moment_on_change_nothing(features: nw.EventFeatures, past: list[Row], later: list[tuple[Row, float]]) -> None:
    labels = LABELS[:4]
    future = table([(who, -after, code, value) for (who, _, code, value), after in later])
    before = table([row for row in past if row[1] is None or row[1] > 0])
    assert features.transform(pl.concat([future, before]), labels).equals(features.transform(before, labels))


@settings(max_examples=5, deadline=None)
@given(later=st.lists(st.tuples(rows, st.floats(0, 1e4)), max_size=8))
def test_nothing_is_learned_from_events_after_the_moment(features: nw.EventFeatures, later: list[tuple[Row, float]]) -> None:
    future = table([(who, -after, code, value) for (who, _, code, value), after in later])
    again = clone(features).fit(pl.concat([future, TRAINING]), LABELS)
    assert again.vocabulary_ == features.vocabulary_


@settings(max_examples=10, deadline=None)
@given(found=st.lists(rows, min_size=1, max_size=12), moved=st.integers(0, 11))
def test_an_event_moved_behind_the_moment_is_as_one_deleted(features: nw.EventFeatures, found: list[Row], moved: int) -> None:
    moved %= len(found)
    who, _, code, value = found[moved]
    rest = [*found[:moved], *found[moved + 1 :]]
    assert features.transform(table([*rest, (who, -0.01, code, value)]), LABELS).equals(features.transform(table(rest), LABELS))


def write_shards(folder: Path, events: pl.DataFrame, seed: int, shards: int = 3) -> Path:
    """Write shuffled events into files at random, a subject in several of them, and one empty file."""
    rng = np.random.default_rng(seed)
    events = events[rng.permutation(events.height).tolist()]
    shard = rng.integers(0, shards, events.height)
    (folder / "data" / "more").mkdir(parents=True)
    for number in range(shards + 1):
        events.filter(pl.Series(shard == number)).write_parquet(folder / "data" / "more" / f"{number}.parquet")
    return folder


@settings(max_examples=12, deadline=None)
@given(found=st.lists(rows, max_size=14), seed=st.integers(0, 99))
def test_order_and_shards_change_nothing(
    features: nw.EventFeatures, tmp_path_factory: pytest.TempPathFactory, found: list[Row], seed: int
) -> None:
    folder = write_shards(tmp_path_factory.mktemp("events"), table(found), seed)
    assert features.transform(folder, LABELS).equals(features.transform(table(found), LABELS))


def test_what_is_learned_does_not_depend_on_order_and_shards(features: nw.EventFeatures, tmp_path: Path) -> None:
    again = clone(features).fit(write_shards(tmp_path, TRAINING, seed=1), LABELS[::-1])
    assert again.vocabulary_ == features.vocabulary_


@settings(max_examples=6, deadline=None)
@given(found=st.lists(rows, max_size=16))
def test_a_subject_alone_has_the_row_it_has_in_company(features: nw.EventFeatures, found: list[Row]) -> None:
    together = features.transform(table(found), LABELS)
    for position in range(LABELS.height):
        label = LABELS[position : position + 1]
        alone = table([row for row in found if row[0] == label.item(0, 0)])
        assert features.transform(alone, label).equals(together[position : position + 1])


def test_subjects_that_are_text_have_the_same_rows(features: nw.EventFeatures) -> None:
    name = pl.format("P-{}", "subject_id").alias("subject_id")
    events, labels = TRAINING.with_columns(name), LABELS.with_columns(name)
    assert clone(features).fit(events, labels).transform(events, labels).equals(features.transform(TRAINING, LABELS))


def test_blocks_of_subjects_change_nothing(features: nw.EventFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = pl.concat([LABELS, LABELS.with_columns(pl.col("subject_id") + 10)])
    expected, counts = features.transform_counted(TRAINING, labels)
    monkeypatch.setattr(Events, "blocks", functools.partialmethod(Events.blocks, max_events=10))
    blocks = list(features.iter_transform(TRAINING, labels))
    assert len(blocks) > 2
    assert sorted(row for block in blocks for row in block.rows) == list(range(10))
    again, recounted = features.transform_counted(TRAINING, labels)
    assert again.equals(expected)
    assert recounted.summary() == counts.summary()
    assert clone(features).fit(TRAINING, LABELS).vocabulary_ == features.vocabulary_


def test_a_code_of_test_subjects_alone_is_nowhere(features: nw.EventFeatures) -> None:
    events = pl.concat([TRAINING, table([(who, 1.0, "TEST//ONLY", 1.0) for who in range(50, 90)])])
    again = clone(features).fit(events, LABELS)
    assert again.vocabulary_ == features.vocabulary_
    made, counts = again.transform_counted(events, pl.DataFrame({"subject_id": [50], "prediction_time": [MOMENT]}))
    assert made.columns == features.transform(TRAINING, LABELS).columns
    assert counts.unknown_codes == 1


def test_a_subject_without_events_has_a_defined_row(features: nw.EventFeatures) -> None:
    labels = pl.DataFrame({"subject_id": [99, 1], "prediction_time": [MOMENT, datetime(1900, 1, 1)]})
    made, counts = features.transform_counted(TRAINING, labels)
    for row in made.iter_rows(named=True):
        for name, value in row.items():
            counted = name.endswith(": seen") or ": count" in name
            expected = [] if name.endswith("rare codes") else 0.0 if counted and "SEX" not in name else None
            assert value == expected or "SEX" in name or name in ("Hour of day", "Day of week"), name
    assert counts.labels_without_events == 1  # the other one has a static fact
    assert features.transform(TRAINING, labels[:0]).shape == (0, made.width)


def test_the_slope_is_found_and_the_code_that_gives_the_outcome_away_is_not() -> None:
    events, labels = ward_events(500, seed=3)
    made = nw.EventFeatures(min_subjects=30).fit(events, labels)
    table = made.transform(events, labels)
    assert not [name for name in table.columns if "PALLIATIVE" in name]
    auc = {
        name: roc_auc_score(labels["boolean_value"], table[name].fill_null(table[name].median()))
        for name in ("Creatinine: slope", "Creatinine: last", "Creatinine: mean", "Age")
    }
    assert auc["Creatinine: slope"] > 0.75
    assert max(auc["Creatinine: last"], auc["Creatinine: mean"]) < 0.65
    assert events.filter(pl.col("code") == "PALLIATIVE_CARE")["subject_id"].n_unique() > 30


def test_an_event_at_the_moment_is_known_where_the_user_says_so() -> None:
    events = pl.concat([TRAINING, table([(1, 0.0, "A", 77.0)])])
    before, at = (nw.EventFeatures(min_subjects=3, include_prediction_time=include).fit(events, LABELS) for include in (False, True))
    assert before.transform(events, LABELS)["A: last"][1] == 1.0
    assert at.transform(events, LABELS)["A: last"][1] == 77.0


def test_equally_late_values_have_their_mean(features: nw.EventFeatures) -> None:
    made = features.transform(table([(3, 2.0, "A", 1.0), (3, 2.0, "A", 4.0), (3, 50.0, "A", 9.0)]), LABELS[:1])
    assert made["A: last"].item() == 2.5
    assert made["A: count"].item() == 3


def test_invalid_numbers_and_null_codes_are_counted(features: nw.EventFeatures) -> None:
    events = table([(3, 1.0, "A", float("nan")), (3, 2.0, "A", float("-inf")), (3, 3.0, None, 1.0), (3, 4.0, "A", 5.0), (3, 4.0, "Q", 5.0)])
    made, counts = features.transform_counted(events, pl.concat([LABELS[:1], LABELS[:1]]))
    assert made["A: last"].to_list() == [5.0, 5.0]
    assert made["A: count"].to_list() == [1.0, 1.0]
    expected = {"labels": 2, "duplicate_labels": 1, "labels_without_events": 0, "events": 10, "null_codes": 2, "invalid_values": 4}
    assert counts.summary() == {**expected, "missing_values": 0, "other_units": 0, "unknown_codes": 2, "unknown_texts": 0}


def test_numbers_in_another_unit_are_left_out_and_counted() -> None:
    events = TRAINING.with_columns(pl.when(pl.col("numeric_value").is_not_null()).then(pl.lit("mg/dL")).alias("unit"))
    features = nw.EventFeatures(min_subjects=3).fit(events, LABELS)
    assert features.schema_["A: max, 6h"].unit == "mg/dL"
    assert features.schema_["A: slope"].unit == "mg/dL per hour"
    later = table([(3, 1.0, "A", 90.0), (3, 2.0, "A", 2.0), (3, 3.0, "A", 3.0)]).with_columns(
        pl.Series("unit", ["umol/L", "MG / dl", None])
    )
    made, counts = features.transform_counted(later, LABELS[:1])
    assert made["A: last"].item() == 2.0
    assert counts.other_units == 1


def test_usual_values_are_of_numbers_in_the_usual_unit() -> None:
    """A third of the numbers are in another unit: they are no features, and do not move the usual values either."""
    plain = TRAINING.with_columns(unit=pl.lit("mg/dL"))
    other = plain.filter(pl.col("code") == "A")[::2].with_columns(pl.col("numeric_value") * 88.4, unit=pl.lit("umol/L"))
    mixed = nw.EventFeatures(min_subjects=3).fit(pl.concat([plain, other]), LABELS)
    one = next(one for one in mixed.vocabulary_.columns if one.code == "A")
    expected = next(one for one in nw.EventFeatures(min_subjects=3).fit(plain, LABELS).vocabulary_.columns if one.code == "A")
    assert (one.checked_unit, one.centre, one.spread, one.log10) == ("mg/dL", expected.centre, expected.spread, expected.log10)


def test_saved_and_loaded(features: nw.EventFeatures, tmp_path: Path) -> None:
    features.save(tmp_path / "features")
    loaded = nw.EventFeatures.load(tmp_path / "features")
    assert loaded.schema_ == features.schema_
    assert loaded.transform(TRAINING, LABELS).equals(features.transform(TRAINING, LABELS))
    with pytest.raises(NotFittedError):
        nw.EventFeatures().transform(TRAINING, LABELS)


@pytest.mark.parametrize(
    ("parameters", "labels", "message"),
    [
        ({"spans": "6h"}, LABELS, "spans must be a sequence"),
        ({"spans": ("6h", "360m")}, LABELS, "spans must differ"),
        ({"spans": ("six",)}, LABELS, "spans are text such as"),
        ({"missing": "-1"}, LABELS, "missing must be numbers, or a mapping of codes to numbers, got missing='-1'"),
        ({"missing": {"A": ()}}, LABELS, "missing must be numbers"),
        ({"missing": [None]}, LABELS, "missing must be numbers"),
        ({"min_subjects": 0}, LABELS, "min_subjects must be a whole number from 1"),
        ({"min_subjects": 40}, LABELS[:1], "no code occurs before the prediction time in min_subjects=40 of 1 subjects"),
        ({}, LABELS[:0], "the labels have 0 rows"),
        ({}, LABELS.with_columns(pl.col("subject_id") + 70), "none of the labels' subjects has events"),
        ({}, LABELS.drop("prediction_time"), "columns missing"),
    ],
)
def test_what_cannot_be_fitted(parameters: dict[str, object], labels: pl.DataFrame, message: str) -> None:
    with pytest.raises((InputError, MissingColumns), match=message):
        nw.EventFeatures(**parameters).fit(TRAINING, labels)  # type: ignore[arg-type]
