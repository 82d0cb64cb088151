"""Interval honesty: of 250 simulated studies, how many 95 % intervals hold the truth, at event rates of 20 % and 1 %.

The truth is computed, not simulated: log-odds are normal, so that every metric of the whole population is an integral over them.
250 studies know a coverage of 95 % to within ± .027 (1.96 standard errors), and the bounds are that wide: a coverage of 90 % fails
with probability .88, one of 88 % with .98.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.thresholds import evaluate_thresholds
from nearward.evaluation.stats.confidence import Estimate

STUDIES, RESAMPLES, GRID = 250, 100, 400_000
LOW, HIGH = 0.923, 0.977  # of a coverage
SHIFT, SLOPE, SPREAD = 0.2, 1.2, 1.2  # the risk is too extreme, and a little too low or high
WITHIN = {
    **dict.fromkeys(("auprc", "auroc", "brier", "calibration_in_the_large", "recall_at_budget"), 0.0),
    **dict.fromkeys(("prevalence", "observed_expected", "ppv_at_budget", "calibration_slope", "calibration_intercept"), 0.01),
    **dict.fromkeys(("net_benefit", "net_benefit_all", "net_benefit_gain"), 0.01),
}  # metric -> how far beyond the bounds: nothing, or two thirds of a standard error


def expit(x):
    return 1 / (1 + np.exp(-x))


def population(middle: float, operating_point: OperatingPoint) -> dict[str, float]:
    """Every metric of infinitely many patients."""
    x = middle + SPREAD * stats.norm.ppf((np.arange(GRID) + 0.5) / GRID)[::-1]  # from the riskiest down
    p, logit = expit(x), SHIFT + SLOPE * x
    risk = expit(logit)
    rate, true_positives = p.mean(), np.cumsum(p)
    brier = np.mean(p * (1 - risk) ** 2 + (1 - p) * risk**2)
    budget = round(operating_point.alert_rate * GRID)
    odds = operating_point.threshold / (1 - operating_point.threshold)
    net_benefit = np.mean((risk >= operating_point.threshold) * (p - (1 - p) * odds))
    bins = np.minimum((risk * 10).astype(int), 9)
    return {
        "prevalence": rate,
        "auprc": np.sum(p * true_positives / np.arange(1, GRID + 1)) / true_positives[-1],
        "auroc": np.sum(p * ((1 - p).sum() - np.cumsum(1 - p) + 0.5 * (1 - p))) / (true_positives[-1] * (1 - p).sum()),
        "brier": brier,
        "scaled_brier": 1 - brier / (rate * (1 - rate)),
        "calibration_in_the_large": optimize.brentq(lambda c: (expit(logit + c) - p).mean(), -5, 5),
        "observed_expected": rate / risk.mean(),
        "calibration_slope": 1 / SLOPE,
        "calibration_intercept": -SHIFT / SLOPE,
        "ece": np.abs(np.bincount(bins, weights=p - risk)).sum() / GRID,
        "recall_at_budget": true_positives[budget - 1] / true_positives[-1],
        "ppv_at_budget": true_positives[budget - 1] / budget,
        "net_benefit": net_benefit,
        "net_benefit_all": rate - (1 - rate) * odds,
        "net_benefit_gain": net_benefit - rate + (1 - rate) * odds,
    }


def visit(rng: np.random.Generator, patients: int, visits: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal log-odds and uniform luck of each visit; a patient's visits share most of both, each visit alone is as any other."""
    alike = 0.8 if visits > 1 else 0.0
    shared, own = (rng.normal(0, 1, (2, patients, k)) for k in (1, visits))
    x, luck = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
    return x.ravel(), stats.norm.cdf(luck).ravel()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "middle", "patients", "visits"), [(0.20, -1.75, 2000, 1), (0.01, -5.29, 10_000, 1), (0.20, -1.75, 700, 3)]
)
def test_intervals_cover_the_truth_at_their_nominal_rate(rate: float, middle: float, patients: int, visits: int) -> None:
    operating_point = OperatingPoint(alert_rate=0.05, threshold=rate)
    truth = population(middle, operating_point)
    assert truth["prevalence"] == pytest.approx(rate, rel=0.03)
    covered: dict[str, list[bool]] = {key: [] for key in truth}
    for study in range(STUDIES):
        x, luck = visit(np.random.default_rng([study, patients]), patients, visits)
        x = middle + SPREAD * x
        event, patient_ids = (luck < expit(x)).astype(float), np.repeat(np.arange(patients), visits)
        sample = RiskSample(event, {"risk": expit(SHIFT + SLOPE * x)}, patient_ids)
        for key, estimate in bootstrap_metrics([sample], operating_point, RESAMPLES, study).results("risk").items():
            assert isinstance(estimate, Estimate)
            covered[key].append(estimate.low <= truth[key] <= estimate.high)
    coverage = {key: float(np.mean(hits)) for key, hits in covered.items()}
    print(f"\nevent rate {rate}, {patients} patients, {visits} visits each: {coverage}")
    within = WITHIN if visits == 1 else dict.fromkeys(WITHIN, 0.01)
    outside = {key: coverage[key] for key, more in within.items() if not LOW - more <= coverage[key] <= HIGH + more}
    assert not outside
    assert coverage["ece"] >= 0.95  # a safe interval, not a narrow one
    assert coverage["scaled_brier"] >= 0.88  # under what is asked for where events are rare: see docs/guide/judge-a-risk.md


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "visits", "alert_rate", "middle", "spread"),
    [
        (400, 1, 0.025, -1.5, 2.5),
        (1000, 1, 0.025, -1.5, 2.5),
        (1000, 1, 0.01, -1.5, 1.5),
        (1000, 1, 0.01, -3, 1.2),
        (300, 3, 0.02, -1.5, 2.5),
    ],
)
def test_shares_of_few_alerts_cover_the_truth(patients: int, visits: int, alert_rate: float, middle: float, spread: float) -> None:
    """10 to 25 alerts, of which .55 to .98 are right: resamples of such a share are often all alike."""
    p = expit(middle + spread * stats.norm.ppf((np.arange(GRID) + 0.5) / GRID)[::-1])
    alerted = round(alert_rate * GRID)
    truth = {"prevalence": p.mean(), "ppv_at_budget": p[:alerted].mean(), "recall_at_budget": p[:alerted].sum() / p.sum()}
    covered: dict[str, list[bool]] = {key: [] for key in truth}
    for study in range(STUDIES):
        x, luck = visit(np.random.default_rng([study, patients]), patients, visits)
        risk = expit(middle + spread * x)
        sample = RiskSample((luck < risk).astype(float), {"risk": risk}, np.repeat(np.arange(patients), visits))
        results = bootstrap_metrics([sample], OperatingPoint(alert_rate, 0.2), RESAMPLES, study).results("risk")
        for key, value in truth.items():
            estimate = results[key]
            assert isinstance(estimate, Estimate)
            covered[key].append(estimate.low <= value <= estimate.high)
    coverage = {key: float(np.mean(hits)) for key, hits in covered.items()}
    print(f"\n{alert_rate * patients * visits:.0f} alerts of {patients} patients, PPV {truth['ppv_at_budget']:.3f}: {coverage}")
    assert min(coverage.values()) >= LOW  # exact intervals may cover more than 95 %


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "visits"), [(1000, 1), (400, 3)])
def test_intervals_of_the_threshold_table_cover_the_truth(patients: int, visits: int) -> None:
    """At thresholds that alert half, a sixth and a thirtieth of the rows, and at those derived from a sensitivity and an alert rate."""
    middle, spread, thresholds = -1.75, 1.2, (0.15, 0.35, 0.6)
    p = expit(middle + spread * stats.norm.ppf((np.arange(GRID) + 0.5) / GRID)[::-1])
    covered: dict[str, list[bool]] = {}

    def truth(threshold: float) -> dict[str, float]:
        alerted = p >= threshold
        hits, alerts = p[alerted].sum() / GRID, alerted.mean()
        false, rate = alerts - hits, p.mean()
        shares = {"sensitivity": hits / rate, "specificity": 1 - false / (1 - rate), "ppv": hits / alerts}
        shares["npv"] = (1 - rate - false) / (1 - alerts)
        net_benefit = hits - false * threshold / (1 - threshold)
        counts = {"alerts_per_100": 100 * alerts, "number_needed_to_evaluate": alerts / hits}
        return {**shares, **counts, "net_benefit": net_benefit}

    sorted_risk, events_above = p, np.cumsum(p) / p.sum()
    targets = {"sensitivity": sorted_risk[np.searchsorted(events_above, 0.8)], "alert_rate": sorted_risk[round(0.1 * GRID)]}
    for study in range(100):
        x, luck = visit(np.random.default_rng([study, patients]), patients, visits)
        risk = expit(middle + spread * x)
        sample = RiskSample((luck < risk).astype(float), {"risk": risk}, np.repeat(np.arange(patients), visits))
        for one in evaluate_thresholds(sample, thresholds, [0.8], [0.1], RESAMPLES, study):
            name = "given" if one.target is None else one.target[0]
            if one.target is not None:
                assert isinstance(one.threshold, Estimate)
                covered.setdefault(f"{name}: threshold", []).append(one.threshold.low <= targets[name] <= one.threshold.high)
            name = f"{name} {one.threshold.value}" if one.target is None else name
            for key, value in truth(one.threshold.value).items():
                result = one.results[key]
                assert isinstance(result, Estimate)
                covered.setdefault(f"{name}: {key}", []).append(result.low <= value <= result.high)
    coverage = {key: float(np.mean(hits)) for key, hits in covered.items()}
    print(f"\n{patients} patients of {visits} visits: {coverage}")
    assert min(coverage.values()) >= 0.88  # 95 % less three standard errors of 100 studies; docs/log/2026-11.md has those of 500
