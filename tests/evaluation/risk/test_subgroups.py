"""Subgroups: the same metrics as on their rows alone, and no count that identifies a patient, by subtraction either."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.subgroups import MISSING, REST, calendar_periods, evaluate_subgroups, event_strata
from nearward.tabular.errors import InputError

OPERATING_POINT = OperatingPoint(0.1, 0.2)


def sample(rows: int = 1200, seed: int = 0) -> RiskSample:
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, 4, rows)
    return RiskSample((rng.random(rows) < risk).astype(float), {"risk": risk}, rng.integers(0, rows // 2, rows))


def test_a_subgroup_is_evaluated_as_if_alone() -> None:
    whole = sample()
    sex = pl.Series("sex", np.where(np.arange(1200) % 3 == 0, "F", "M"))
    subgroups = evaluate_subgroups(whole, sex, OPERATING_POINT, 100, 1)
    assert [subgroup.level for subgroup in subgroups] == ["F", "M"]
    mask = (sex == "F").to_numpy()
    alone = whole.subset(mask)
    assert subgroups[0].results == bootstrap_metrics([alone], OPERATING_POINT, 100, 1).results("risk")
    assert subgroups[0].rows == 400
    assert subgroups[0].events == alone.events
    assert alone.patients == len(np.unique(whole.patient_ids[mask]))


def test_missing_values_are_a_category_and_numbers_stay_ordered() -> None:
    band = pl.Series("band", [[10, 9, None, float("nan")][i % 4] for i in range(1200)], dtype=pl.Float64, strict=False)
    subgroups = evaluate_subgroups(sample(), band, OPERATING_POINT, 100, 0)
    assert [subgroup.level for subgroup in subgroups] == ["9.0", "10.0", MISSING]
    assert subgroups[2].rows == 600


def test_ten_visits_of_a_few_patients_are_few() -> None:
    outcome = np.array([1.0, 0.0] * 300)
    ward = pl.Series("ward", ["A"] * 40 + ["B"] * 260 + ["C"] * 300)
    patient = np.where(np.arange(600) < 40, np.arange(600) % 4, np.arange(600))
    risk = np.random.default_rng(0).random(600)
    clustered = evaluate_subgroups(
        RiskSample(outcome, {"risk": risk}, np.unique(patient, return_inverse=True)[1]), ward, OPERATING_POINT, 100, 0
    )
    assert [subgroup.rows for subgroup in clustered] == [None, None, 300]  # A is four patients, B would give it away
    independent = evaluate_subgroups(RiskSample(outcome, {"risk": risk}, np.arange(600)), ward, OPERATING_POINT, 100, 0)
    assert [subgroup.rows for subgroup in independent] == [40, 260, 300]


def test_a_suppressed_subgroup_has_no_number() -> None:
    whole = sample()
    ward = pl.Series("ward", ["ICU" if i < 6 else "surgical" if i < 500 else "medical" for i in range(1200)])
    subgroups = {subgroup.level: subgroup for subgroup in evaluate_subgroups(whole, ward, OPERATING_POINT, 100, 0)}
    assert subgroups["ICU"].rows is None
    assert subgroups["ICU"].events is None
    assert not subgroups["ICU"].results
    assert [level for level, subgroup in subgroups.items() if subgroup.results] == ["medical"]


def test_strata_by_number_of_events() -> None:
    events = {"a": 100, "b": 30, "c": 10, "d": 5, "e": 6}
    site = [name for name, count in events.items() for _ in range(count)] + list(events) * 31
    outcome = np.repeat([1.0, 0.0], [151, 155])
    whole = RiskSample(outcome, {"risk": np.linspace(0, 1, 306)}, np.arange(306))
    strata = event_strata(pl.Series("site", site), whole)
    stratum_of = dict(zip(site, strata.to_list(), strict=True))
    assert stratum_of == {
        "a": "100 to 299 events",
        "b": "30 to 99 events",
        "c": "10 to 29 events",
        "d": "0 to 9 events",
        "e": "0 to 9 events",
    }
    assert strata.unique().sort().to_list()[0] == "0 to 9 events"


def test_strata_that_would_be_suppressed_are_pooled() -> None:
    """Of 15 events a level has 12, another 3: the names of their strata would give that away."""
    outcome, sex = np.zeros(600), np.repeat(["F", "M", "?"], 200)
    for begin, events in ((0, 80), (200, 12), (400, 3)):
        outcome[begin : begin + events] = 1
    whole = RiskSample(outcome, {"risk": np.random.default_rng(0).random(600)}, np.arange(600))
    strata = event_strata(pl.Series("sex", sex), whole)
    assert dict(zip(sex, strata.to_list(), strict=True)) == {"F": "30 to 99 events", "M": REST, "?": REST}
    subgroups = evaluate_subgroups(whole, strata, OPERATING_POINT, 100, 0)
    assert [(subgroup.level, subgroup.rows, subgroup.events) for subgroup in subgroups] == [(REST, 400, 15), ("30 to 99 events", 200, 80)]


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(InputError, match=r"'age' has 31 different values.*bands"):
        evaluate_subgroups(sample(), pl.Series("age", np.arange(1200) % 31), OPERATING_POINT, 100, 0)


def test_periods_are_the_shortest_with_enough_events() -> None:
    days = pl.date_range(date(2021, 1, 1), date(2022, 12, 31), eager=True).alias("seen")
    risk = np.full(len(days), 0.5)
    for events, first, n in ((720, "2021-01", 24), (240, "2021 Q1", 8), (60, "2021", 2), (10, "2021", 2)):
        outcome = (np.arange(len(days)) < events).astype(float)
        periods = calendar_periods(days, RiskSample(outcome, {"risk": risk}, np.arange(len(days))))
        assert (periods[0], periods.n_unique()) == (first, n)
        as_text = calendar_periods(days.cast(pl.String), RiskSample(outcome, {"risk": risk}, np.arange(len(days))))
        assert as_text.equals(periods)


def test_periods_need_times() -> None:
    with pytest.raises(InputError, match=r"time 'seen' must be a date or datetime, got String"):
        calendar_periods(pl.Series("seen", ["soon"] * 1200), sample())
