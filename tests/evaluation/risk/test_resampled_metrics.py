"""Intervals of shares with few alerts behind them: by hand, at the edges, and by patient rather than by row."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.stats.confidence import Estimate, Result, clopper_pearson


def study(right: int, alerts: int, rows: int = 400, other_events: int = 60, visits: int = 1) -> RiskSample:
    """Of the ``alerts`` greatest risks ``right`` have the event, spread evenly, and so do ``other_events`` of the other rows."""
    risk = np.concatenate([np.linspace(0.99, 0.9, alerts), np.linspace(0.5, 0.01, rows - alerts)])
    outcome = np.zeros(rows)
    outcome[np.linspace(0, alerts - 1, right).astype(int)] = 1
    outcome[np.linspace(alerts, rows - 1, other_events).astype(int)] = 1
    return RiskSample(outcome, {"risk": risk}, np.arange(rows) // visits)


def results(sample: RiskSample, alerts: int) -> dict[str, Result]:
    return bootstrap_metrics([sample], OperatingPoint(alerts / sample.rows, 0.2), 300, 0).results("risk")


def limits(result: Result) -> tuple[float, float]:
    assert isinstance(result, Estimate)
    return result.low, result.high


@pytest.mark.parametrize("rows", [400, 1000, 5000])
def test_ten_right_alerts_of_ten_are_ten_trials(rows) -> None:
    metrics = results(study(10, 10, rows, other_events=rows // 5), 10)
    assert limits(metrics["ppv_at_budget"]) == pytest.approx((0.6915, 1), abs=1e-4)
    recall = metrics["recall_at_budget"]
    low = 10 * 0.6915
    assert recall.low <= low / (low + rows // 5) + 1e-6  # with 6.9 of the ten right, and all other events missed
    assert recall.low < recall.value < recall.high


def test_no_right_alert_of_ten() -> None:
    metrics = results(study(0, 10), 10)
    assert limits(metrics["ppv_at_budget"]) == pytest.approx((0, 0.3085), abs=1e-4)
    assert limits(metrics["recall_at_budget"]) == pytest.approx((0, clopper_pearson(0, 60).high))


def test_trials_are_patients_not_visits() -> None:
    assert limits(results(study(10, 10, visits=2), 10)["ppv_at_budget"]) == pytest.approx((0.025 ** (1 / 5), 1))


def test_nine_right_alerts_of_ten_have_no_narrower_interval_than_ten_trials() -> None:
    low, high = limits(results(study(9, 10), 10)["ppv_at_budget"])
    trials = clopper_pearson(9, 10)
    assert low <= trials.low + 1e-9
    assert high >= trials.high - 1e-9


def test_every_event_alerted() -> None:
    sample = RiskSample(np.repeat([1.0, 0.0], [15, 385]), {"risk": np.linspace(1, 0, 400)}, np.arange(400))
    assert limits(results(sample, 40)["recall_at_budget"]) == pytest.approx((clopper_pearson(15, 15).low, 1))


def test_alerts_drawn_among_ties_rest_on_all_of_them() -> None:
    """All risks are equal: the PPV is the event rate, and as certain."""
    sample = RiskSample(np.tile([1.0, 0, 0, 0], 100), {"risk": np.full(400, 0.25)}, np.arange(400))
    metrics = results(sample, 10)
    assert limits(metrics["ppv_at_budget"]) == pytest.approx(limits(metrics["prevalence"]), abs=1e-6)


def test_many_trials_are_as_wide_as_the_resamples() -> None:
    metrics = results(study(50, 100, 2000, other_events=350), 100)
    low, high = limits(metrics["ppv_at_budget"])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 100), rel=0.15)
    low, high = limits(metrics["prevalence"])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / 2000), rel=0.15)


def two_risks(other_right: int) -> dict[str, Result]:
    """Ten alerts of the first risk, all right; of the other, some. Among 400 rows with 70 events."""
    first = study(10, 10)
    n = first.rows
    rng = np.random.default_rng(1)
    other = rng.random(n) / 2
    events, rest = np.flatnonzero(first.outcome == 1)[-other_right:] if other_right else [], np.flatnonzero(first.outcome == 0)
    other[[*events, *rest[: 10 - other_right]]] = 0.9
    sample = RiskSample(first.outcome, {"first": next(iter(first.risks.values())), "other": other}, first.patient_ids)
    return bootstrap_metrics([sample], OperatingPoint(10 / n, 0.5), 100, 0).difference("first", "other")


def test_the_difference_of_two_shares_of_one_is_not_certain() -> None:
    difference = two_risks(10)["ppv_at_budget"]
    reach = 1 - clopper_pearson(10, 10).low
    assert isinstance(difference, Estimate)
    assert difference.value == 0
    assert -reach - 0.05 < difference.low <= -reach
    assert reach <= difference.high < reach + 0.05


def test_the_difference_of_one_and_less_is_as_wide_as_both_make_it() -> None:
    difference = two_risks(6)["ppv_at_budget"]
    assert isinstance(difference, Estimate)
    assert difference.value == pytest.approx(0.4)
    assert difference.high - difference.value >= clopper_pearson(6, 10).value - clopper_pearson(6, 10).low - 0.02
    assert difference.value - difference.low >= 1 - clopper_pearson(10, 10).low - 0.02
    apart = two_risks(0)["ppv_at_budget"]
    assert isinstance(apart, Estimate)
    assert apart.value == 1
    assert apart.low < 0.7
    assert apart.high == 1
