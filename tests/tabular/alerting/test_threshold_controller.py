"""The controller reaches its target, does not wind up, and uses no later batch."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.tabular.alerting.pid import PID
from nearward.tabular.alerting.threshold_controller import ThresholdController
from nearward.tabular.errors import InputError, MissingColumns


def weeks(rates: list[float], rows: int, seed: int) -> pl.DataFrame:
    """Batches whose event rate follows the list: calibrated risks about it, and outcomes."""
    rng = np.random.default_rng(seed)
    parts = []
    for week, rate in enumerate(rates):
        risk = rng.beta(2, 2 * (1 - rate) / rate, rows)
        parts.append(pl.DataFrame({"week": week, "risk": risk, "event": (rng.random(rows) < risk).astype(int)}))
    return pl.concat(parts)


def test_pid_by_hand() -> None:
    pid = PID(bias=1.0, low=0.0, high=3.0, proportional=1.0, integral=0.5, derivative=0.25)
    assert pid.step(1.0) == 1.0 + 1.0 + 0.5 + 0.25
    assert pid.step(0.0) == 1.0 + 0.0 + 0.5 - 0.25
    assert pid.step(5.0) == 3.0
    assert pid.error_sum == 1.0  # at the limit, the error is not integrated


def test_the_alert_rate_is_controlled_while_the_prevalence_trebles() -> None:
    drift = [0.05] * 10 + [0.15] * 40
    start = weeks([0.05] * 5, 400, 9)["risk"]
    controlled = ThresholdController(target_alert_rate=0.05).start(start).run(weeks(drift, 400, 0), "risk", "week")
    fixed = (weeks(drift, 400, 0)["risk"] >= np.quantile(start, 0.95)).reshape((-1, 400)).to_numpy().mean(axis=1)
    assert fixed[20:].mean() > 0.2  # a fixed threshold: four times the alerts
    assert controlled["alert_rate"][20:].mean() == pytest.approx(0.05, abs=0.005)
    assert controlled["alert_rate"][20:].std() < 0.03
    assert controlled["threshold"][20:].min() > controlled["threshold"][:10].max()


@pytest.mark.parametrize("delay", [0, 4])
def test_recall_is_controlled_with_delayed_outcomes(delay: int) -> None:
    start = weeks([0.1] * 5, 1000, 9)
    controller = ThresholdController(target_recall=0.8, delay=delay).start(start["risk"], start["event"])
    history = controller.run(weeks([0.1] * 5 + [0.03] * 60, 1000, 1), "risk", "week", "event")
    assert history["recall"][5:9].mean() < 0.65  # as the patients change, the old threshold misses
    assert history["recall"][30:].mean() == pytest.approx(0.8, abs=0.03)


def test_it_does_not_wind_up() -> None:
    """For a long time no risk is high enough; when they come back, the old threshold is back within a few batches."""
    controller = ThresholdController(target_alert_rate=0.05, lowest=0.05).start(np.linspace(0, 1, 1001))
    before = controller.threshold
    wound = PID(**{**vars(controller._pid)})
    for _ in range(300):
        controller.learn(controller.alert(np.full(400, 0.01)))
        wound.step(-3.0)
        wound.error_sum = -3.0 * 300  # the integral without anti-windup
    assert controller.threshold == pytest.approx(0.05)
    rates = []
    for _ in range(25):
        alerts = controller.alert(np.linspace(0, 1, 400))
        rates.append(alerts.mean())
        controller.learn(alerts)
    assert rates[0] > 0.9
    assert rates[-1] == pytest.approx(0.05, abs=0.02)
    assert controller.threshold == pytest.approx(before, abs=0.03)
    assert all(wound.step(3.0) == wound.low for _ in range(25))


def test_thresholds_depend_on_earlier_batches_only() -> None:
    drift = weeks([0.05, 0.1, 0.2, 0.1, 0.05], 300, 4)
    other = pl.concat([drift.filter(pl.col("week") < 3), weeks([0.3] * 5, 300, 5).filter(pl.col("week") >= 3)])
    first, second = (ThresholdController(target_alert_rate=0.1).run(frame, "risk", "week") for frame in (drift, other))
    assert first["threshold"][:4].to_list() == second["threshold"][:4].to_list()
    assert first["threshold"][4] != second["threshold"][4]
    shuffled = drift.sample(fraction=1, shuffle=True, seed=1)
    assert ThresholdController(target_alert_rate=0.1).run(shuffled.lazy(), "risk", "week").equals(first)


def test_delayed_outcomes_are_not_used_early() -> None:
    frame = weeks([0.1] * 8, 300, 6)
    changed = frame.with_columns(event=pl.when(pl.col("week") == 2).then(1 - pl.col("event")).otherwise("event"))
    first, second = (ThresholdController(target_recall=0.7, delay=3).run(f, "risk", "week", "event") for f in (frame, changed))
    assert first["threshold"][:6].to_list() == second["threshold"][:6].to_list()
    assert first["threshold"][6] != second["threshold"][6]


def test_a_batch_without_events_changes_nothing() -> None:
    controller = ThresholdController(target_recall=0.5)
    before = controller.threshold
    assert controller.learn(np.ones(50, dtype=bool), np.zeros(50)) == before


def test_small_batches_move_it_less() -> None:
    moved = []
    for rows in (20, 2000):
        controller = ThresholdController(target_alert_rate=0.05)
        before = controller.threshold
        moved.append(abs(controller.learn(np.arange(rows) < 0.1 * rows) - before))
    assert moved[0] < 0.5 * moved[1]


def test_refusals() -> None:
    recall = {"target_recall": 0.5}
    both, upside_down = recall | {"target_alert_rate": 0.1}, recall | {"lowest": 0.9, "highest": 0.1}
    for arguments in ({}, both, {"target_alert_rate": 1.5}, upside_down, recall | {"delay": -1}):
        with pytest.raises(InputError):
            ThresholdController(**arguments)
    controller = ThresholdController(target_recall=0.5)
    frame = weeks([0.1], 50, 0)
    with pytest.raises(InputError, match="outcome="):
        controller.run(frame, "risk", "week")
    with pytest.raises(MissingColumns):
        controller.run(frame, "risks", "week", "event")
    with pytest.raises(InputError, match="probabilities"):
        controller.alert([0.1, np.nan])
    with pytest.raises(InputError, match="no event"):
        controller.start([0.1, 0.2], [0, 0])
    with pytest.raises(InputError, match="2 values of 0 or 1"):
        controller.learn([True, False])
    for alerts in ([[True], [False]], [0.3, 0.1], pl.Series([True, None])):
        with pytest.raises(InputError, match="alerts must be"):
            ThresholdController(target_alert_rate=0.1).learn(alerts)
    with pytest.raises(InputError, match="risks must be one column of numbers"):
        controller.alert(["high"])
    with pytest.raises(InputError, match=r"1 missing values .* in 50 rows"):
        controller.run(frame.with_columns(week=pl.when(pl.int_range(pl.len()) > 0).then("week")), "risk", "week", "event")
    with pytest.raises(InputError, match="overwritten"):
        controller.run(frame.rename({"week": "rows"}), "risk", "rows", "event")


def test_a_batch_without_rows_changes_nothing() -> None:
    for target in ({"target_alert_rate": 0.05}, {"target_recall": 0.5}):
        controller = ThresholdController(**target)
        assert controller.learn([], []) == controller.threshold == ThresholdController(**target).threshold
