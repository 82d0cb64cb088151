"""Cluster bootstrap and its intervals: seeds, patients resampled whole, scales, boundaries, undefined statistics."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import METRICS, OperatingPoint
from nearward.evaluation.risk.resampled_metrics import BootstrapMetrics, bootstrap_metrics, calibration_error_by_chance
from nearward.evaluation.stats.cluster_bootstrap import bootstrap_interval, cluster_bootstrap
from nearward.evaluation.stats.confidence import Estimate, PointEstimate, Undefined, clopper_pearson


def study(seed: int, rows: int = 800) -> RiskSample:
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, 6, rows)
    return RiskSample((rng.random(rows) < risk).astype(float), {"risk": risk}, np.arange(rows))


def test_resamples_are_multinomial_and_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 50
    resampled = cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=3)
    assert resampled.shape == (400, n)
    assert (resampled.sum(axis=1) == n).all()
    assert resampled.var(axis=0).mean() == pytest.approx(1 - 1 / n, rel=0.05)
    monkeypatch.setattr("nearward.tabular.parallel.cpu_count", lambda: 1)
    np.testing.assert_array_equal(resampled, cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=3))
    assert not np.array_equal(resampled, cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=4))


def test_rows_of_a_patient_are_drawn_together() -> None:
    patient_ids = np.array([0, 1, 0, 2, 1, 0])
    resampled = cluster_bootstrap(patient_ids, lambda w: w.astype(float), 200, seed=0)
    assert (resampled[:, 0] == resampled[:, 2]).all()
    assert (resampled[:, 0] == resampled[:, 5]).all()
    assert (resampled[:, 1] == resampled[:, 4]).all()
    assert (resampled[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(0, 1, 300)
    resampled = cluster_bootstrap(np.arange(300), lambda w: w @ values / 300, 4000, seed=0)
    assert resampled.std() == pytest.approx(values.std() / np.sqrt(300), rel=0.05)


def test_repeated_rows_widen_by_the_root_of_their_number() -> None:
    one = study(0)
    four = RiskSample(np.repeat(one.outcome, 4), {"risk": np.repeat(one.risks["risk"], 4)}, np.repeat(one.patient_ids, 4))
    unclustered = RiskSample(four.outcome, four.risks, np.arange(four.rows))
    operating_point = OperatingPoint(0.1, 0.15)
    widths = {}
    for name, sample in {"one": one, "four": four, "unclustered": unclustered}.items():
        auroc = bootstrap_metrics([sample], operating_point, 600, 0).results("risk")["auroc"]
        assert isinstance(auroc, Estimate)
        widths[name] = auroc.high - auroc.low
    assert widths["four"] == pytest.approx(widths["one"], rel=0.1)  # copies add no information …
    assert widths["unclustered"] == pytest.approx(widths["one"] / 2, rel=0.15)  # … unless their patients are ignored


@pytest.mark.parametrize(("scale", "value"), [("share", 0.03), ("skewed", 0.03), ("odds", 0.97), ("positive", 0.01), ("plain", -0.2)])
def test_interval_holds_its_value_and_stays_possible(scale, value) -> None:
    interval = bootstrap_interval(value, np.random.default_rng(0).normal(value, 0.05, 500), scale, 20, 100)
    assert isinstance(interval, Estimate)
    assert interval.low < value < interval.high
    assert scale == "plain" or interval.low >= 0
    assert scale not in ("share", "odds", "skewed") or interval.high <= 1


def test_few_events_widen() -> None:
    resampled = np.random.default_rng(0).normal(0.5, 0.05, 500)
    few, many = (bootstrap_interval(0.5, resampled, "plain", events, 100) for events in (10, 1000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2.262 / 1.962, rel=0.01)  # Student's t, 9 degrees of freedom


@pytest.mark.parametrize("scale", ["share", "odds", "skewed"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_boundary_interval_is_clopper_pearson(scale, value) -> None:
    interval = bootstrap_interval(value, np.full(100, value), scale, 18, 90)
    trials = clopper_pearson(int(18 * value), 18)
    assert (interval.low, interval.high) == pytest.approx((trials.low, trials.high))


def test_undefined_statistics_give_a_reason() -> None:
    not_finite = bootstrap_interval(float("nan"), np.ones(100), "plain", 20, 100)
    assert isinstance(not_finite, Undefined)
    resampled = np.ones(100)
    resampled[:10] = np.nan
    partly_finite = bootstrap_interval(0.5, resampled, "plain", 20, 100)
    assert isinstance(partly_finite, PointEstimate)  # the value stays, without an interval
    assert partly_finite.value == 0.5
    assert "10 of 100 resamples" in partly_finite.why


def test_folds_are_averaged() -> None:
    folds, operating_point = [study(1), study(2)], OperatingPoint(0.1, 0.15)
    both = bootstrap_metrics(folds, operating_point, 200, 0)
    alone = [bootstrap_metrics([fold], operating_point, 200, 0).point["risk"] for fold in folds]
    np.testing.assert_allclose(both.point["risk"], np.mean(alone, axis=0))
    assert both.rows == 1600
    assert both.resampled["risk"].std(axis=0)[2] < bootstrap_metrics([folds[0]], operating_point, 200, 0).resampled["risk"].std(axis=0)[2]


def test_a_risk_less_itself_is_zero() -> None:
    sample = study(5)
    twice = RiskSample(sample.outcome, {"a": sample.risks["risk"], "b": sample.risks["risk"]}, sample.patient_ids)
    for difference in bootstrap_metrics([twice], OperatingPoint(0.1, 0.15), 200, 0).difference("a", "b").values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_pairing_narrows() -> None:
    sample = study(6, 2000)
    noisy = np.clip(sample.risks["risk"] + np.random.default_rng(1).normal(0, 0.01, 2000), 0, 1)
    metrics: BootstrapMetrics = bootstrap_metrics(
        [RiskSample(sample.outcome, {"a": sample.risks["risk"], "b": noisy}, sample.patient_ids)], OperatingPoint(0.1, 0.15), 300, 0
    )
    difference, alone = metrics.difference("a", "b")["auprc"], metrics.results("a")["auprc"]
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_calibration_error_by_chance_is_that_of_perfect_calibration() -> None:
    risk = study(7, 2000).risks["risk"]
    chance = calibration_error_by_chance(risk, seed=0)
    column = [metric.key for metric in METRICS].index("ece")
    rng = np.random.default_rng(9)
    errors = [
        bootstrap_metrics(
            [RiskSample((rng.random(2000) < risk).astype(float), {"r": risk}, np.arange(2000))], OperatingPoint(0.1, 0.1), 2, 0
        ).point["r"][column]
        for _ in range(40)
    ]
    assert np.mean(errors) == pytest.approx(chance.value, rel=0.15)
    assert np.mean([chance.low <= error <= chance.high for error in errors]) > 0.8
