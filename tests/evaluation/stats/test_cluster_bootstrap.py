"""Resampling and intervals: the same draws for the same seed, whole patients, scales, edges, what has no value."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import METRICS, OperatingPoint
from nearward.evaluation.risk.resampled_metrics import BootstrapMetrics, bootstrap_metrics, calibration_error_by_chance
from nearward.evaluation.stats.cluster_bootstrap import Undefined, bootstrap_interval, cluster_bootstrap
from nearward.evaluation.stats.confidence import Estimate, clopper_pearson


def study(seed: int, rows: int = 800) -> RiskSample:
    draw = np.random.default_rng(seed)
    risk = draw.beta(1, 6, rows)
    return RiskSample((draw.random(rows) < risk).astype(float), {"risk": risk}, np.arange(rows))


def test_draws_are_multinomial_and_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 50
    draws = cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=3)
    assert draws.shape == (400, n)
    assert (draws.sum(axis=1) == n).all()
    assert draws.var(axis=0).mean() == pytest.approx(1 - 1 / n, rel=0.05)
    monkeypatch.setattr("nearward.tabular.parallel.cpu_count", lambda: 1)
    np.testing.assert_array_equal(draws, cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=3))
    assert not np.array_equal(draws, cluster_bootstrap(np.arange(n), lambda w: w.astype(float), 400, seed=4))


def test_a_patients_rows_come_together() -> None:
    patient = np.array([0, 1, 0, 2, 1, 0])
    draws = cluster_bootstrap(patient, lambda w: w.astype(float), 200, seed=0)
    assert (draws[:, 0] == draws[:, 2]).all()
    assert (draws[:, 0] == draws[:, 5]).all()
    assert (draws[:, 1] == draws[:, 4]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_spread_of_the_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(0, 1, 300)
    draws = cluster_bootstrap(np.arange(300), lambda w: w @ values / 300, 4000, seed=0)
    assert draws.std() == pytest.approx(values.std() / np.sqrt(300), rel=0.05)


def test_repeated_rows_widen_by_the_root_of_their_number() -> None:
    one = study(0)
    four = RiskSample(np.repeat(one.outcome, 4), {"risk": np.repeat(one.risks["risk"], 4)}, np.repeat(one.patient_ids, 4))
    blind = RiskSample(four.outcome, four.risks, np.arange(four.rows))
    use = OperatingPoint(0.1, 0.15)
    widths = {}
    for name, sample in {"one": one, "four": four, "blind": blind}.items():
        found = bootstrap_metrics([sample], use, 600, 0).results("risk")["auroc"]
        assert isinstance(found, Estimate)
        widths[name] = found.high - found.low
    assert widths["four"] == pytest.approx(widths["one"], rel=0.1)  # copies tell nothing new …
    assert widths["blind"] == pytest.approx(widths["one"] / 2, rel=0.15)  # … unless one forgets whose they are


@pytest.mark.parametrize(("scale", "value"), [("share", 0.03), ("skewed", 0.03), ("odds", 0.97), ("positive", 0.01), ("plain", -0.2)])
def test_interval_holds_its_value_and_stays_possible(scale, value) -> None:
    found = bootstrap_interval(value, np.random.default_rng(0).normal(value, 0.05, 500), scale, 20, 100)
    assert isinstance(found, Estimate)
    assert found.low < value < found.high
    assert scale == "plain" or found.low >= 0
    assert scale not in ("share", "odds", "skewed") or found.high <= 1


def test_few_events_widen() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.05, 500)
    few, many = (bootstrap_interval(0.5, draws, "plain", events, 100) for events in (10, 1000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2.262 / 1.962, rel=0.01)  # Student's t, 9 degrees of freedom


@pytest.mark.parametrize("scale", ["share", "odds", "skewed"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_at_the_edge_the_interval_is_that_of_as_many_trials(scale, value) -> None:
    found = bootstrap_interval(value, np.full(100, value), scale, 18, 90)
    trials = clopper_pearson(int(18 * value), 18)
    assert (found.low, found.high) == pytest.approx((trials.low, trials.high))


def test_what_has_no_value_says_why() -> None:
    lacking = bootstrap_interval(float("nan"), np.ones(100), "plain", 20, 100)
    assert isinstance(lacking, Undefined)
    draws = np.ones(100)
    draws[:10] = np.nan
    found = bootstrap_interval(0.5, draws, "plain", 20, 100)
    assert isinstance(found, Undefined)
    assert "10 of 100 resamples" in found.why


def test_folds_are_averaged() -> None:
    folds, use = [study(1), study(2)], OperatingPoint(0.1, 0.15)
    both = bootstrap_metrics(folds, use, 200, 0)
    alone = [bootstrap_metrics([fold], use, 200, 0).point["risk"] for fold in folds]
    np.testing.assert_allclose(both.point["risk"], np.mean(alone, axis=0))
    assert both.rows == 1600
    assert both.resampled["risk"].std(axis=0)[2] < bootstrap_metrics([folds[0]], use, 200, 0).resampled["risk"].std(axis=0)[2]


def test_a_risk_less_itself_is_nothing() -> None:
    sample = study(5)
    twice = RiskSample(sample.outcome, {"a": sample.risks["risk"], "b": sample.risks["risk"]}, sample.patient_ids)
    for found in bootstrap_metrics([twice], OperatingPoint(0.1, 0.15), 200, 0).difference("a", "b").values():
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairing_narrows() -> None:
    sample = study(6, 2000)
    near = np.clip(sample.risks["risk"] + np.random.default_rng(1).normal(0, 0.01, 2000), 0, 1)
    measured: BootstrapMetrics = bootstrap_metrics(
        [RiskSample(sample.outcome, {"a": sample.risks["risk"], "b": near}, sample.patient_ids)], OperatingPoint(0.1, 0.15), 300, 0
    )
    gap, alone = measured.difference("a", "b")["auprc"], measured.results("a")["auprc"]
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)


def test_error_by_chance_is_what_faultless_risks_show() -> None:
    risk = study(7, 2000).risks["risk"]
    chance = calibration_error_by_chance(risk, seed=0)
    place = [metric.key for metric in METRICS].index("ece")
    draw = np.random.default_rng(9)
    seen = [
        bootstrap_metrics(
            [RiskSample((draw.random(2000) < risk).astype(float), {"r": risk}, np.arange(2000))], OperatingPoint(0.1, 0.1), 2, 0
        ).point["r"][place]
        for _ in range(40)
    ]
    assert np.mean(seen) == pytest.approx(chance.value, rel=0.15)
    assert np.mean([chance.low <= one <= chance.high for one in seen]) > 0.8
