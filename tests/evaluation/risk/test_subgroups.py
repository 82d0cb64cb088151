"""Subgroups: the same numbers as on the rows alone, and nothing that names a patient, by subtraction either."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.subgroups import MISSING, REST, evaluate_subgroups, event_strata
from nearward.tabular.errors import InputError

USE = OperatingPoint(0.1, 0.2)


def sample(rows: int = 1200, seed: int = 0) -> RiskSample:
    draw = np.random.default_rng(seed)
    risk = draw.beta(1, 4, rows)
    return RiskSample((draw.random(rows) < risk).astype(float), {"risk": risk}, draw.integers(0, rows // 2, rows))


def test_a_part_is_judged_as_if_alone() -> None:
    whole = sample()
    sex = pl.Series("sex", np.where(np.arange(1200) % 3 == 0, "F", "M"))
    parts = evaluate_subgroups(whole, sex, USE, 100, 1)
    assert [part.level for part in parts] == ["F", "M"]
    chosen = (sex == "F").to_numpy()
    alone = whole.subset(chosen)
    assert parts[0].results == bootstrap_metrics([alone], USE, 100, 1).results("risk")
    assert parts[0].rows == 400
    assert parts[0].events == alone.events
    assert alone.patients == len(np.unique(whole.patient_ids[chosen]))


def test_missing_values_are_a_level_and_numbers_keep_their_order() -> None:
    band = pl.Series("band", [[10, 9, None, float("nan")][i % 4] for i in range(1200)], dtype=pl.Float64, strict=False)
    parts = evaluate_subgroups(sample(), band, USE, 100, 0)
    assert [part.level for part in parts] == ["9.0", "10.0", MISSING]
    assert parts[2].rows == 600


def test_ten_visits_of_a_few_patients_are_few() -> None:
    outcome = np.array([1.0, 0.0] * 300)
    ward = pl.Series("ward", ["A"] * 40 + ["B"] * 260 + ["C"] * 300)
    patient = np.where(np.arange(600) < 40, np.arange(600) % 4, np.arange(600))
    risk = np.random.default_rng(0).random(600)
    seen = evaluate_subgroups(RiskSample(outcome, {"risk": risk}, np.unique(patient, return_inverse=True)[1]), ward, USE, 100, 0)
    assert [part.rows for part in seen] == [None, None, 300]  # A is four patients, B would give it away
    apart = evaluate_subgroups(RiskSample(outcome, {"risk": risk}, np.arange(600)), ward, USE, 100, 0)
    assert [part.rows for part in apart] == [40, 260, 300]


def test_a_withheld_part_has_no_number() -> None:
    whole = sample()
    ward = pl.Series("ward", ["ICU" if i < 6 else "surgical" if i < 500 else "medical" for i in range(1200)])
    parts = {part.level: part for part in evaluate_subgroups(whole, ward, USE, 100, 0)}
    assert parts["ICU"].rows is None
    assert parts["ICU"].events is None
    assert not parts["ICU"].results
    assert [level for level, part in parts.items() if part.results] == ["medical"]


def test_strata_by_number_of_events() -> None:
    events = {"a": 100, "b": 30, "c": 10, "d": 5, "e": 6}
    site = [name for name, count in events.items() for _ in range(count)] + list(events) * 31
    outcome = np.repeat([1.0, 0.0], [151, 155])
    whole = RiskSample(outcome, {"risk": np.linspace(0, 1, 306)}, np.arange(306))
    strata = event_strata(pl.Series("site", site), whole)
    told = dict(zip(site, strata.to_list(), strict=True))
    assert told == {"a": "100 to 299 events", "b": "30 to 99 events", "c": "10 to 29 events", "d": "0 to 9 events", "e": "0 to 9 events"}
    assert strata.unique().sort().to_list()[0] == "0 to 9 events"


def test_strata_that_would_be_withheld_are_put_together() -> None:
    """Of 15 events a level has 12, another 3: the names of their strata would give that away."""
    outcome, sex = np.zeros(600), np.repeat(["F", "M", "?"], 200)
    for begin, events in ((0, 80), (200, 12), (400, 3)):
        outcome[begin : begin + events] = 1
    whole = RiskSample(outcome, {"risk": np.random.default_rng(0).random(600)}, np.arange(600))
    strata = event_strata(pl.Series("sex", sex), whole)
    assert dict(zip(sex, strata.to_list(), strict=True)) == {"F": "30 to 99 events", "M": REST, "?": REST}
    parts = evaluate_subgroups(whole, strata, USE, 100, 0)
    assert [(part.level, part.rows, part.events) for part in parts] == [(REST, 400, 15), ("30 to 99 events", 200, 80)]


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(InputError, match=r"'age' has 31 different values.*bands"):
        evaluate_subgroups(sample(), pl.Series("age", np.arange(1200) % 31), USE, 100, 0)
