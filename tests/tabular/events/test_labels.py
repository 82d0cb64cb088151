"""Labels from a rule: true, false and censored, worked by hand."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import nearward as nw
from nearward.tabular.errors import DataWarning, InputError

DAY = datetime(2020, 1, 1)


def table(*rows: tuple[int, float, str]) -> pl.DataFrame:
    """Events of subjects at days after the first of January."""
    return pl.DataFrame(
        [(subject, DAY + timedelta(days=day), code, None) for subject, day, code in rows],
        {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float64},
        orient="row",
    )


ADMITTED, LEFT = "HOSPITAL_ADMISSION//URGENT", "HOSPITAL_DISCHARGE"


def test_death_within_thirty_days_is_told_apart_from_a_lost_patient() -> None:
    events = table((1, 0, ADMITTED), (1, 20, "MEDS_DEATH"), (2, 0, ADMITTED), (2, 40, "VISIT"), (3, 0, ADMITTED), (3, 20, "VISIT"))
    made = nw.labels(events, at="admission + 24h", outcome="MEDS_DEATH", within="30d")
    assert made["boolean_value"].to_list() == [True, False, None]
    assert made["censored"].to_list() == [False, False, True]
    assert made["prediction_time"].unique().to_list() == [DAY + timedelta(days=1)]
    registry = nw.labels(events, at="admission + 24h", outcome="MEDS_DEATH", within="30d", followed_until=DAY + timedelta(days=60))
    assert registry["boolean_value"].to_list() == [True, False, False]


def test_moments_after_death_discharge_or_the_first_outcome_are_left_out() -> None:
    events = table(
        *((subject, 0, ADMITTED) for subject in range(1, 5)),
        *((1, 0.5, "MEDS_DEATH"), (2, 0.5, LEFT), (2, 90, "VISIT"), (3, 0.5, "SEPSIS"), (3, 5, LEFT), (4, 3, "SEPSIS"), (4, 5, LEFT)),
    )
    made = nw.labels(events, at="admission + 24h", outcome="SEPSIS", until="discharge")
    assert made.rows() == [(4, DAY + timedelta(days=1), True, False)]
    again = nw.labels(events, at="admission + 24h", outcome="SEPSIS", until="discharge", recurrent=True)
    assert again.select("subject_id", "boolean_value").rows() == [(3, False), (4, True)]


def test_an_outcome_after_the_stay_does_not_count_and_an_open_stay_is_censored() -> None:
    events = table((1, 0, ADMITTED), (1, 5, LEFT), (1, 6, "SEPSIS"), (2, 0, ADMITTED), (2, 9, "VISIT"))
    made = nw.labels(events, at="admission", outcome="SEPSIS", until="discharge")
    assert made["boolean_value"].to_list() == [False, None]


def test_each_stay_is_a_label_and_a_readmission_may_recur() -> None:
    events = table(*((1, day, code) for day, code in [(0, ADMITTED), (2, LEFT), (10, ADMITTED), (12, LEFT), (60, "VISIT")]))
    made = nw.labels(events, at="discharge", outcome="admission", within="30d", recurrent=True)
    assert made["boolean_value"].to_list() == [True, False]


def test_an_outcome_at_the_very_moment_has_happened() -> None:
    events = table((1, 0, ADMITTED), (1, 1, "SEPSIS"), (1, 90, "VISIT"))
    assert nw.labels(events, at="admission + 24h", outcome="SEPSIS", within="7d").height == 0


def test_first_event_is_not_the_birth_and_zones_stay() -> None:
    events = table((1, -9000, "MEDS_BIRTH"), (1, 0, "LAB"), (1, 9, "SEPSIS"))
    zoned = events.with_columns(pl.col("time").dt.replace_time_zone("Europe/Berlin"))
    made = nw.labels(zoned, at="first event + 2d", outcome="SEPSIS", within="30d")
    assert made["prediction_time"].to_list() == [datetime(2020, 1, 2, 23, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"at": "admission - 6h", "outcome": "LAB", "within": "1d"}, "lies before its event"),
        ({"at": "admission", "outcome": "LAB"}, "within or until is needed"),
        ({"at": "admission", "outcome": "LABS", "within": "1d"}, "outcome: no event has a code 'LABS'.*did you mean 'LAB'"),
        ({"at": "ADMISION", "outcome": "LAB", "within": "1d"}, "at: no event has a code"),
    ],
)
def test_a_rule_that_cannot_be_used(rule: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nw.labels(table((1, 0, ADMITTED), (1, 1, "LAB")), **rule)


def test_many_censored_moments_are_warned_of_unless_it_is_known_until_when_all_were_followed() -> None:
    lost = [(subject, day, code) for subject in range(3, 9) for day, code in ((0, ADMITTED), (20, "VISIT"))]
    events = table((1, 0, ADMITTED), (1, 20, "MEDS_DEATH"), (2, 0, ADMITTED), (2, 40, "VISIT"), *lost)
    rule = {"at": "admission + 24h", "outcome": "MEDS_DEATH", "within": "30d"}
    with pytest.warns(DataWarning, match=r"6 of 8 moments are censored.* 50%, is too high \(at least 12% of all have it\)"):
        nw.labels(events, **rule)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nw.labels(events, **rule, followed_until=DAY + timedelta(days=60))
        nw.labels(events.filter(pl.col("subject_id") < 3), **rule)
