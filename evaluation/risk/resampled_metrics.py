"""Metrics of one risk or several with cluster-bootstrap intervals, and paired differences of risks.

Shapes: ``n`` rows, ``m`` metrics, ``r`` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import (
    COMPARED_METRICS,
    METRIC_BY_KEY,
    METRICS,
    USEFULNESS,
    OperatingPoint,
    WeightedMetrics,
    bin_starts,
)
from nearward.evaluation.stats.cluster_bootstrap import (
    Scale,
    Support,
    bootstrap_interval,
    cluster_bootstrap,
    share_interval,
    with_standard_error,
)
from nearward.evaluation.stats.confidence import LEVEL, Estimate, Result, Undefined, newcombe
from nearward.tabular.typing import Floats

_SIMULATIONS = 200  # of outcomes, for the calibration error that chance alone shows
_COLUMN = {metric.key: column for column, metric in enumerate(METRICS)}
_CALIBRATION_LINE = ("calibration_slope", "calibration_intercept")


@dataclass(frozen=True)
class BootstrapMetrics:
    """Metrics of several risks, on the rows as they are and over the same resamples for all risks.

    Parameters
    ----------
    point : name of the risk -> (m + 1,)
    resampled : name of the risk -> (r, m + 1)
        The last column is the shift of the residuals behind the calibration error.
    no_slope : name of the risk -> why there is no calibration line, or an empty text
    independent : int
        Patients of the rarer outcome.
    rows : int
    alert_rate : float
    support : name of the risk -> key of a share -> patients and rows behind it
        All for the event rate, those with an alert for the PPV, those with the event for the recall.
    """

    point: Mapping[str, Floats]
    resampled: Mapping[str, Floats]
    no_slope: Mapping[str, str]
    independent: int
    rows: int
    alert_rate: float
    support: Mapping[str, Mapping[str, Support]]

    def results(self, name: str) -> dict[str, Result]:
        """Metrics of one risk with their intervals: key -> Estimate, or why it is undefined."""
        results: dict[str, Result] = {}
        for key, column in _COLUMN.items():
            if key == "ece":
                results[key] = _calibration_error_interval(float(self.point[name][column]), self.resampled[name][:, -1], self.rows)
                continue
            point, resampled = self.point[name][column], self.resampled[name][:, column]
            if key in ("prevalence", "ppv_at_budget"):
                results[key] = share_interval(float(point), resampled, self.support[name][key], self.rows)
            else:
                independent = self.support[name][key].patients if key == "recall_at_budget" else self.independent
                results[key] = self._interval(key, point, resampled, METRIC_BY_KEY[key].scale, [name], independent)
        results["recall_at_budget"] = self._with_few_alerts(results)
        return results

    def usefulness(self, name: str) -> Result:
        """Net benefit over the better of alerting all and alerting none, with its interval."""
        value, resampled = self._values(name, USEFULNESS.key)
        return bootstrap_interval(value, resampled, USEFULNESS.scale, self.independent, self.rows)

    def on_scale(self, name: str, key: str) -> tuple[float, float] | None:
        """A metric and its standard error on the scale of its interval; None where there is none."""
        if self.no_slope[name] and key in _CALIBRATION_LINE:
            return None
        return with_standard_error(*self._values(name, key), METRIC_BY_KEY[key].scale)

    def _values(self, name: str, key: str) -> tuple[float, Floats]:
        """A metric on the rows as they are and over the resamples (r,)."""
        if key == USEFULNESS.key:
            benefit, gain = (self._values(name, other) for other in ("net_benefit", "net_benefit_gain"))
            return min(benefit[0], gain[0]), np.minimum(benefit[1], gain[1])
        column = _COLUMN[key]
        return float(self.point[name][column]), self.resampled[name][:, column]

    def _with_few_alerts(self, results: Mapping[str, Result]) -> Result:
        """The recall, its interval as wide at least as the PPV's makes it with the missed events as they are.

        With every alert right, or none, resamples of the recall vary only by the number of events.
        """
        recall, ppv, rate = (results[key] for key in ("recall_at_budget", "ppv_at_budget", "prevalence"))
        if not (isinstance(recall, Estimate) and isinstance(ppv, Estimate) and isinstance(rate, Estimate)):
            return recall
        missed = max(rate.value / self.alert_rate - ppv.value, 0.0)  # events without an alert, per alert
        low, high = (limit / (limit + missed) if limit + missed > 0 else 0.0 for limit in (ppv.low, ppv.high))
        return replace(recall, low=min(recall.low, low), high=max(recall.high, high))

    def difference(self, first: str, other: str) -> dict[str, Result]:
        """Metrics of the first risk less the other's, paired: key -> Estimate, or why it is undefined.

        Where one of two shares is exactly 0 or 1, resamples of it are all alike: the interval of the difference is then at least as wide
        as the intervals of the two make it (Newcombe's hybrid, which takes them for independent).
        """
        results: dict[str, Result] = {}
        of_first, of_other = self.results(first), self.results(other)
        for metric in COMPARED_METRICS:
            column = _COLUMN[metric.key]
            point = self.point[first][column] - self.point[other][column]
            resampled = self.resampled[first][:, column] - self.resampled[other][:, column]
            difference = self._interval(metric.key, point, resampled, "plain", [first, other], self.independent)
            if metric.scale in ("share", "odds", "skewed"):
                difference = _with_edges(difference, of_first[metric.key], of_other[metric.key])
            results[metric.key] = difference
        return results

    def _interval(self, key: str, point: float, resampled: Floats, scale: Scale, names: Sequence[str], independent: int) -> Result:
        reason = next((self.no_slope[name] for name in names if self.no_slope[name]), "")
        if reason and key in _CALIBRATION_LINE:
            return Undefined(f"{reason}: no calibration line can be fitted")
        return bootstrap_interval(float(point), resampled, scale, independent, self.rows)


def _with_edges(difference: Result, first: Result, other: Result) -> Result:
    """The difference of two shares, its interval at least as wide as theirs make it where one of them is 0 or 1.

    References
    ----------
    Newcombe: Interval estimation for the difference between independent proportions: comparison of eleven methods (1998).
    """
    if not (isinstance(difference, Estimate) and isinstance(first, Estimate) and isinstance(other, Estimate)):
        return difference
    if not {first.value, other.value} & {0.0, 1.0}:
        return difference
    low, high = newcombe(first, other)
    return replace(difference, low=max(min(difference.low, low), -1.0), high=min(max(difference.high, high), 1.0))


def bootstrap_metrics(samples: Sequence[RiskSample], operating_point: OperatingPoint, resamples: int, seed: int) -> BootstrapMetrics:
    """Evaluate every risk on one sample or, as a mean, on several test folds, with patients resampled within each fold.

    Parameters
    ----------
    samples : RiskSample, each with the same risks
        No patient in two of them.
    operating_point : OperatingPoint
    resamples, seed : int
    """
    names = list(samples[0].risks)
    points, resampled, supports, no_slope = [], [], [], dict.fromkeys(names, "")
    for fold, sample in enumerate(samples):
        by_risk = [WeightedMetrics(sample.outcome, sample.risks[name], operating_point) for name in names]
        no_slope = {name: no_slope[name] or metrics.no_slope for name, metrics in zip(names, by_risk, strict=True)}
        points.append(np.stack([metrics.point for metrics in by_risk]))
        supports.append({name: _supports(sample, metrics) for name, metrics in zip(names, by_risk, strict=True)})
        resampled.append(_resample(sample, by_risk, resamples, seed + fold))
    point, draws = np.mean(points, axis=0), np.mean(resampled, axis=0)
    return BootstrapMetrics(
        {name: point[index] for index, name in enumerate(names)},
        {name: draws[:, index] for index, name in enumerate(names)},
        no_slope,
        sum(sample.independent for sample in samples),
        sum(sample.rows for sample in samples),
        operating_point.alert_rate,
        {name: {key: _total([fold[name][key] for fold in supports]) for key in supports[0][name]} for name in names},
    )


def _supports(sample: RiskSample, metrics: WeightedMetrics) -> dict[str, Support]:
    """Patients and rows behind each share."""
    alerted = metrics.ranking.order[: metrics.ranking.alerted_at_budget(metrics.operating_point.alert_rate)]
    rows = {"prevalence": slice(None), "ppv_at_budget": alerted, "recall_at_budget": sample.outcome == 1}
    return {key: Support.of(sample.patient_ids[index]) for key, index in rows.items()}


def _total(supports: Sequence[Support]) -> Support:
    return Support(sum(support.patients for support in supports), sum(support.rows for support in supports))


def _resample(sample: RiskSample, by_risk: Sequence[WeightedMetrics], resamples: int, seed: int) -> Floats:
    """Metrics over resamples (r, risks, m + 1)."""

    def statistic(weight: NDArray[Any]) -> Floats:
        return np.stack([metrics(weight) for metrics in by_risk], axis=1)

    return cluster_bootstrap(sample.patient_ids, statistic, resamples, seed)


def _calibration_error_interval(value: float, shift: Floats, n: int) -> Estimate:
    """Interval of the calibration error with a coverage of at least 95 %.

    Distances are never negative, so that chance adds to them, and resampling adds to it once more: quantiles of the resamples would
    mostly miss the truth. But the error of the calibration error is at most the sum of the errors of the bins' residuals (the triangle
    inequality), and how far those shift from resample to resample is known.
    """
    reach = float(np.nanquantile(shift, LEVEL))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), n)


def calibration_error_by_chance(risk: Floats, seed: int) -> Estimate:
    """Calibration error that perfectly calibrated risks (n,) would show on these rows, and the range of 95 % of such errors.

    Outcomes are simulated row by row: with several rows a patient it is, if anything, greater.
    """
    rng = np.random.default_rng(seed)
    ranked = np.sort(risk)
    bins = bin_starts(ranked)
    errors = [np.abs(np.add.reduceat((rng.random(len(ranked)) < ranked) - ranked, bins)).sum() / len(ranked) for _ in range(_SIMULATIONS)]
    return Estimate(float(np.mean(errors)), float(np.quantile(errors, 0.025)), float(np.quantile(errors, 0.975)), len(risk))
