"""The threshold table: against confusion matrices, targets that are met, few alerts, errors, and all ways to show it."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import nearward as nw
from nearward.cli.main import app
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.results import ThresholdResults
from nearward.evaluation.risk.thresholds import evaluate_thresholds
from nearward.evaluation.stats.confidence import Estimate, Undefined
from nearward.tabular.errors import InputError


def sample_of(outcome: np.ndarray, risk: np.ndarray) -> RiskSample:
    return RiskSample(outcome.astype(float), {"risk": risk}, np.arange(len(outcome)))


def table(outcome, risk, thresholds=(), sensitivities=(), alert_rates=()) -> tuple[ThresholdResults, ...]:
    return evaluate_thresholds(sample_of(outcome, risk), thresholds, sensitivities, alert_rates, 100, 0)


def scored(rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    risk = rng.beta(1, 4, rows).round(2)
    return pl.DataFrame({"died": rng.random(rows) < risk, "risk": risk})


def test_by_hand() -> None:
    """20 alerts, 12 of them right; 80 rows without an alert, 8 of them with the event."""
    outcome = np.repeat([1, 0, 1, 0], [12, 8, 8, 72])
    risk = np.repeat([0.5, 0.2], [20, 80])
    (at,) = table(outcome, risk, [0.5])
    values = {key: result.value for key, result in at.results.items()}
    expected = {
        "sensitivity": 12 / 20,
        "specificity": 72 / 80,
        "ppv": 12 / 20,
        "npv": 72 / 80,
        "alerts_per_100": 20,
        "number_needed_to_evaluate": 20 / 12,
        "net_benefit": (12 - 8 * 1) / 100,
    }
    assert values == pytest.approx(expected)
    assert all(result.low < result.value < result.high for result in at.results.values())
    needed, ppv = at.results["number_needed_to_evaluate"], at.results["ppv"]
    assert (needed.low, needed.high) == pytest.approx((1 / ppv.high, 1 / ppv.low))
    assert at.results["sensitivity"].n == 20


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_targets_are_met_as_closely_as_ties_permit(seed, sensitivity, alert_rate) -> None:
    rng = np.random.default_rng(seed)
    risk = rng.integers(0, 12, 60) / 12
    outcome = (rng.random(60) < 0.4).astype(float)
    outcome[:2] = 0, 1
    reached, kept = table(outcome, risk, (), [sensitivity], [alert_rate])
    threshold = reached.threshold.value
    assert (risk[outcome == 1] >= threshold).mean() >= sensitivity - 1e-9
    next_higher = risk[risk >= threshold].min() + 1 / 24
    assert (risk[outcome == 1] >= next_higher).mean() < sensitivity
    if isinstance(kept.threshold, Undefined):
        assert (risk == risk.max()).mean() > alert_rate
        assert all(isinstance(result, Undefined) for result in kept.results.values())
    else:
        assert (risk >= kept.threshold.value).mean() <= alert_rate + 1e-9
        below = risk[risk < kept.threshold.value]
        assert len(below) == 0 or (risk >= below.max()).mean() > alert_rate
        assert kept.threshold.low <= kept.threshold.value <= kept.threshold.high


def test_a_derived_threshold_is_short_and_alerts_the_same_rows() -> None:
    risk = np.array([0.123456789, 0.119, 0.4, 0.5])
    outcome = np.array([1, 0, 0, 1])
    (reached,) = table(outcome, risk, (), [0.9])
    assert reached.threshold.value == 0.12


def test_few_alerts_have_wide_intervals() -> None:
    """Three of three alerts right, and no alert at all: every resample agrees, and no interval is a point."""
    outcome = np.repeat([1, 1, 0], [3, 27, 170])
    risk = np.repeat([0.9, 0.3, 0.1], [3, 27, 170])
    few, none = table(outcome, risk, [0.8, 0.95])
    assert few.results["ppv"].value == 1
    assert few.results["ppv"].low == pytest.approx(0.025 ** (1 / 3))
    assert few.results["number_needed_to_evaluate"].high == pytest.approx(1 / 0.025 ** (1 / 3))
    assert few.results["net_benefit"].low < few.results["net_benefit"].value < few.results["net_benefit"].high
    assert none.results["sensitivity"].high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert none.results["ppv"] == Undefined("no row is alerted")
    assert none.results["net_benefit"].low < 0 < none.results["net_benefit"].high


def test_edges_of_the_risk() -> None:
    outcome, risk = np.repeat([1, 0], [20, 20]), np.repeat([1.0, 0.0], [20, 20])
    everything, perfect = table(outcome, risk, (), [0.5], [0.5])
    assert everything.threshold.value == perfect.threshold.value
    assert perfect.results["sensitivity"].value == perfect.results["npv"].value == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": 0.1}, "thresholds must be a list of numbers, got thresholds=0.1"),
        ({"thresholds": [0.1, 1.0]}, "each of thresholds must lie between 0 and 1, got 1.0"),
        ({"sensitivities": [95]}, "each of sensitivities must lie between 0 and 1, got 95"),
        ({"alert_rates": [True]}, "each of alert_rates must lie between 0 and 1, got True"),
    ],
)
def test_errors(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        nw.evaluate_risk(scored(), "died", "risk", resamples=100, **arguments)


def test_report_page_json_and_command_line(tmp_path) -> None:
    frame = scored()
    report = nw.evaluate_risk(frame, "died", "risk", thresholds=[0.2], sensitivities=[0.9], alert_rates=[0.1], resamples=100)
    assert [one.label for one in report.thresholds] == ["given", "sensitivity of at least 0.9", "at most 10 alerts per 100"]
    long = report.threshold_table()
    assert long.height == 3 * 7
    assert long.select("value", "low", "high").null_count().row(0) == (0, 0, 0)
    default = nw.evaluate_risk(frame, "died", "risk", resamples=100)
    assert default.thresholds[0].threshold.value == default.facts.threshold
    assert [one.target for one in default.thresholds] == [None, ("alert_rate", 0.05)]
    frame.write_parquet(tmp_path / "scored.parquet")
    arguments = ["evaluate", "risk", str(tmp_path / "scored.parquet"), "--outcome", "died", "--positive", "true", "--resamples", "100"]
    arguments += ["--thresholds", "0.2", "--sensitivities", "0.9", "--alert-rates", "0.1"]
    arguments += ["--report", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "at thresholds (95 %)" in result.output
    assert "Specificity" in result.output
    page = (tmp_path / "r.html").read_text()
    assert "sensitivity of at least 0.9" in page
    at = json.loads((tmp_path / "r.json").read_text())["items"]["23a"]["content"]["thresholds"]
    assert [one["target"] for one in at] == [one.label for one in report.thresholds]
    sensitivity = report.thresholds[1].results["sensitivity"]
    assert isinstance(sensitivity, Estimate)
    assert at[1]["metrics"]["sensitivity"]["value"] == sensitivity.value
