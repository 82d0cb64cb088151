"""Timelines: which events are the most telling, worked by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from nearward.event_model.timelines import DEATH, MOST, check_timelines, choose_timelines, code_weights, format_timelines
from nearward.tabular.errors import ArtifactError
from nearward.tabular.events.code_columns import CodeColumns
from nearward.tabular.events.reading import read_events

NOON = datetime(2024, 1, 1, 12)
LACTATE = CodeColumns("L", "Lactate", "number", (0,), 90, unit="mmol/L", centre=2.0, spread=1.0)
SEPSIS = CodeColumns("S", "Sepsis", "code", (0,), 10)


def timelines(rows: list[tuple[float | None, str, float | None]], weights: dict[str, float], unit: str | None = None) -> pl.DataFrame:
    events = pl.DataFrame(
        {
            "subject_id": [1] * len(rows),
            "time": [None if hours is None else NOON + timedelta(hours=hours) for hours, _, _ in rows],
            "code": [code for _, code, _ in rows],
            "numeric_value": [value for _, _, value in rows],
            "unit": [unit] * len(rows),
        },
        schema_overrides={"time": pl.Datetime("us"), "numeric_value": pl.Float64, "unit": pl.String},
    )
    labels = pl.DataFrame({"subject_id": [2, 1], "prediction_time": [NOON, NOON]})
    return choose_timelines(read_events(events), labels, [LACTATE, SEPSIS], weights, 100)


def test_a_codes_weight_is_the_share_of_its_columns() -> None:
    gate = {"Lactate: max, 24h": 0.2, "Lactate: last": 0.1, "Sepsis: seen": 0.3, "Age": 0.4}
    assert code_weights([LACTATE, SEPSIS], gate) == {"L": 0.2 + 0.1, "S": 0.3}


def test_the_most_unusual_event_of_each_code_before_and_after() -> None:
    rows = [(-30.0, "L", 3.0), (-3.0, "L", 6.5), (-1.0, "L", float("nan")), (2.0, "L", 2.5), (5.0, "S", None), (None, "L", 99.0)]
    rows += [(-200.0, "L", 50.0), (-2.0, "unknown", 9.0)]
    chosen = timelines(rows, {"L": 0.5, "S": 0.5})
    assert chosen["subject_id"].to_list() == [2, 1]
    assert chosen["hours"].to_list() == [[], [-3.0, 2.0, 5.0]]  # within a week, of codes with columns, at a time
    assert format_timelines(chosen) == ["", "−3 h Lactate 6.5 mmol/L; +2 h Lactate 2.5 mmol/L; +5 h Sepsis"]


def test_a_death_comes_first_and_a_code_without_weight_never() -> None:
    assert timelines([(1.0, DEATH, None), (-1.0, "L", 9.0)], {"S": 1.0})["event"].to_list() == [[], [DEATH]]


def test_numbers_in_another_unit_are_left_out() -> None:
    assert timelines([(-1.0, "L", 60.0)], {"L": 1.0}, unit="mg/dL")["event"].to_list() == [[], []]
    assert timelines([(-1.0, "L", 6.0)], {"L": 1.0}, unit="mmol/L")["event"].to_list() == [[], ["Lactate 6 mmol/L"]]


def test_a_text_is_shown_where_it_is_a_category_and_never_else() -> None:
    culture = CodeColumns("C", "Culture", "code", (0,), 10, texts=("negative", "positive"))
    events = pl.DataFrame(
        {
            "subject_id": [1, 1, 2],
            "time": [NOON - timedelta(hours=2), NOON + timedelta(hours=1), NOON - timedelta(hours=2)],
            "code": ["C"] * 3,
            "numeric_value": pl.Series([None] * 3, dtype=pl.Float64),
            "text_value": [" positive", "Mrs Brown asked for tea", None],
        }
    )
    labels = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [NOON, NOON]})
    chosen = choose_timelines(read_events(events), labels, [culture], {"C": 1.0}, 100)
    assert chosen["event"].to_list() == [["Culture positive", "Culture"], ["Culture"]]


def test_a_timeline_has_ten_events_at_most() -> None:
    codes = [CodeColumns(f"C{i:02d}", f"C{i:02d}", "number", (0,), 90, centre=0.0) for i in range(30)]
    events = pl.DataFrame(
        {
            "subject_id": [1] * 30,
            "time": [NOON - timedelta(hours=i + 1) for i in range(30)],
            "code": [one.code for one in codes],
            "numeric_value": [float(i % 7) for i in range(30)],
        }
    )
    labels = pl.DataFrame({"subject_id": [1], "prediction_time": [NOON]})
    chosen = choose_timelines(read_events(events), labels, codes, {one.code: 1.0 for one in codes}, 100)
    assert len(chosen["event"][0]) == MOST
    assert {text[-1] for text in chosen["event"][0]} == {"6", "5", "4"}
    assert chosen["hours"][0].is_sorted()


def test_timelines_of_other_patients_are_refused() -> None:
    chosen = timelines([(-1.0, "L", 6.0)], {"L": 1.0}).insert_column(0, pl.Series("(id)", ["0", "1"]))
    records = pl.DataFrame({"(id)": ["0", "1", "2"]})
    check_timelines(chosen, records)
    for wrong in (chosen.drop("hours"), chosen.with_columns(hours=pl.lit(["soon"])), chosen.with_columns(pl.lit("1").alias("(id)"))):
        with pytest.raises(ArtifactError, match="do not belong to the stored patients"):
            check_timelines(wrong, records)
    with pytest.raises(ArtifactError, match="do not belong to the stored patients"):
        check_timelines(chosen, records[1:])
