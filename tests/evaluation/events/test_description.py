"""Description of events: counts, quantiles, units and labels worked by hand; no code of a few patients on the page."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from nearward.evaluation.events.description import EventsDescription, describe_events
from nearward.evaluation.events.html_report import codes_in_short, events_page, facts_table

START = datetime(2024, 1, 1)


@pytest.fixture(scope="module")
def description() -> EventsDescription:
    rows = []
    for subject in range(12):
        rows.append((subject, None, "SEX//F", None, None))
        rows.append((subject, START - timedelta(days=365 * (40 + subject)), "MEDS_BIRTH", None, None))
        rows.append((subject, START, "ADMISSION//EW//EMERGENCY ROOM", None, None))
        rows += [(subject, START + timedelta(hours=6 * i), "Lactate", 1.0 + i, "mmol/L" if i else "mg/dL") for i in range(3)]
        rows.append((subject, START + timedelta(hours=1), "Note", float("inf"), None))
    rows.append((3, START, "Rare disease", None, None))
    events = pl.DataFrame(rows, ["subject_id", "time", "code", "numeric_value", "unit"], orient="row")
    labels = pl.DataFrame(
        {
            "subject_id": [1, 2, 3],
            "prediction_time": [START + timedelta(hours=h) for h in (-1, 4, 24)],
            "boolean_value": [False, True, None],
        }
    )
    return describe_events(events, labels)


def test_counts(description: EventsDescription) -> None:
    facts = description.facts
    assert (facts["subjects"], facts["events"], facts["codes"]) == (12, 85, 6)
    assert facts["static facts (without a time)"] == 12
    assert facts["numbers that are NaN or infinite"] == 12
    assert (facts["first time, but for births"], facts["last time"]) == (START, START + timedelta(hours=12))
    spans = dict(zip(description.quantiles["what"], description.quantiles["50 %"], strict=True))
    assert spans == {"events of a subject": 7, "hours from first to last event": 12, "hours between a subject's successive times": 5.0}


def test_births_do_not_stretch_the_times(description: EventsDescription) -> None:
    assert description.over_time["period"].min() == START.date()
    assert description.over_time["events"].sum() == 12 * 5 + 1


def test_codes_have_units_ranges_and_gaps(description: EventsDescription) -> None:
    codes = {row["code"]: row for row in description.codes.iter_rows(named=True)}
    lactate = codes["Lactate"]
    assert (lactate["subjects"], lactate["events"], lactate["numbers"]) == (12, 36, 1.0)
    assert (lactate["50 %"], lactate["hours between"]) == (2.0, 6.0)
    assert lactate["units"] == "mmol/L (24), mg/dL (12)"
    assert codes["Note"]["numbers"] == 0
    assert codes["SEX//F"]["hours between"] is None
    assert codes["ADMISSION//EW//EMERGENCY ROOM"]["units"] is None  # no numbers, no unit


def test_a_code_of_a_few_subjects_is_not_named(description: EventsDescription) -> None:
    assert description.rare_codes == 1
    assert "Rare disease" not in description.codes["code"]
    page = events_page(description, "ward")
    assert "Rare disease" not in page
    assert "1 codes of fewer than 10 subjects" in page
    assert page.count("<svg") == 3
    assert "2024-01-01 12:00<" in page


def test_counts_have_the_separator_that_is_named() -> None:
    facts = {"events": 12345, "last time": START, "unknown": None}
    assert facts_table(facts)["value"].to_list() == ["12,345", "2024-01-01 00:00", ""]
    assert facts_table(facts, "\u202f")["value"][0] == "12\u202f345"


def test_labels(description: EventsDescription) -> None:
    assert description.labels["labels before any event of their subject"] == 1
    assert description.labels["labels with the outcome"] == 1
    assert description.labels["labels without an answer (null: censored)"] == 1
    before = dict(zip(description.before_labels["what"], description.before_labels["50 %"], strict=True))
    assert before["hours from the latest event to the label"] == (3 + 12) / 2
    assert before["events before a label"] == (3 + 6) / 2


def test_codes_are_printed_by_their_description_and_cut_to_a_length(description: EventsDescription) -> None:
    named = pl.when(pl.col("code") == "Lactate").then(pl.lit("Lactate in blood, by any of the usual methods"))
    rows = {row["code"]: row for row in codes_in_short(description.codes.with_columns(named.alias("description"))).iter_rows(named=True)}
    lactate = rows["Lactate in blood, by any of the…"]
    assert (lactate["numeric, %"], lactate["5 / 50 / 95 %"], lactate["gap, h"]) == (100, "1 / 2 / 3", 6.0)
    assert rows["SEX//F"]["5 / 50 / 95 %"] is None


def test_units_in_codes_and_descriptions_that_two_codes_share(tmp_path: Path) -> None:
    codes = ["LAB//50813//mmol/L", "LAB//RESULT//50813//mmol/L", "RxNorm//956874//start", "LAB//50813", "LAB//227969//UNK"]
    (tmp_path / "data").mkdir()
    (tmp_path / "metadata").mkdir()
    rows = [(subject, START, code, 1.0) for subject in range(12) for code in codes]
    pl.DataFrame(rows, ["subject_id", "time", "code", "numeric_value"], orient="row").write_parquet(tmp_path / "data" / "0.parquet")
    described = pl.DataFrame({"code": codes, "description": ["Lactate", "Lactate", "Furosemide", None, None]})
    described.write_parquet(tmp_path / "metadata" / "codes.parquet")
    found = describe_events(tmp_path).codes
    assert dict(found.select("code", "units").iter_rows()) == dict(zip(codes, ["mmol/L", "mmol/L", None, None, None], strict=True))
    assert set(codes_in_short(found)["code"]) == {"Furosemide", *codes} - {"RxNorm//956874//start"}
