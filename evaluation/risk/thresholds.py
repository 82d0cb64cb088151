"""The threshold table: what a risk does at thresholds that are given, and at those that reach a sensitivity or keep to an alert rate.

A row is alerted where its risk is at least the threshold. A threshold that is derived from a wanted sensitivity or alert rate is used as
if it had been given: its interval is that of the threshold that each resample would choose, and the other intervals hold for the shown one.

Shapes: ``n`` rows, ``e`` rows with the event, ``k`` thresholds, ``m`` metrics, ``c`` resamples at a time.

References
----------
Romero-Brufau et al.: Why the C-statistic is not informative to evaluate early warning scores and what metrics to use (2015), for the number
needed to evaluate. Vickers and Elkin: Decision curve analysis (2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import THRESHOLD_METRICS
from nearward.evaluation.risk.results import ThresholdResults
from nearward.evaluation.stats.cluster_bootstrap import Support, bootstrap_interval, cluster_bootstrap, share_interval
from nearward.evaluation.stats.confidence import LEVEL, Estimate, PointEstimate, Result, Undefined, clopper_pearson
from nearward.evaluation.stats.ranking_metrics import RankedCounts, Ranking
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

_SHARES = ("sensitivity", "specificity", "ppv", "npv", "alert_rate")
_ROUNDING = 1e-9  # by which a share may miss its target


def check_targets(**targets: Sequence[float]) -> None:
    """Raise ``InputError`` on thresholds, sensitivities or alert rates that are not between 0 and 1."""
    for name, values in targets.items():
        if isinstance(values, str | float | int):
            raise InputError(f"{name} must be a list of numbers, got {name}={values!r}")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
                raise InputError(f"each of {name} must lie between 0 and 1, got {value!r}")


def evaluate_thresholds(
    sample: RiskSample,
    thresholds: Sequence[float],
    sensitivities: Sequence[float],
    alert_rates: Sequence[float],
    resamples: int,
    seed: int,
) -> tuple[ThresholdResults, ...]:
    """Evaluate the only risk of a sample at thresholds.

    Parameters
    ----------
    sample : RiskSample of n rows and one risk
    thresholds : in (0, 1)
    sensitivities : in (0, 1)
        For each, the greatest threshold at which the share of events that are alerted is at least this.
    alert_rates : in (0, 1)
        For each, the least threshold at which the share of rows that are alerted is at most this.
    resamples, seed : int

    Returns
    -------
    tuple of ThresholdResults
        In order: of thresholds, sensitivities, alert rates.
    """
    check_targets(thresholds=thresholds, sensitivities=sensitivities, alert_rates=alert_rates)
    ranking = Ranking(sample.outcome, next(iter(sample.risks.values())))
    equal_weights = ranking.count(np.ones((1, sample.rows)))
    at_sensitivity = _thresholds_of_sensitivity(equal_weights, sensitivities)[0]
    at_alert_rate = _thresholds_of_alert_rate(equal_weights, alert_rates)[0]
    derived = [_short(ranking, value) for value in (*at_sensitivity, *at_alert_rate)]
    values = np.array([*map(float, thresholds), *derived])  # (k,), NaN where none keeps to an alert rate
    alerted = np.array([0 if np.isnan(value) else ranking.alerted(value) for value in values], dtype=np.int64)

    def statistic(weight: NDArray[Any]) -> Floats:
        counts = ranking.count(weight[:, ranking.order].astype(np.float64))
        again = (_thresholds_of_sensitivity(counts, sensitivities), _thresholds_of_alert_rate(counts, alert_rates))
        return np.concatenate([_metrics(counts, alerted, values).reshape(len(weight), -1), *again], axis=1)

    resampled = cluster_bootstrap(sample.patient_ids, statistic, resamples, seed)
    metrics, again = np.split(resampled, [len(values) * (len(_SHARES) + 1)], axis=1)
    point = _metrics(equal_weights, alerted, values)[0]  # (k, m)
    metrics = metrics.reshape(resamples, len(values), -1)
    targets = [None] * len(thresholds) + [("sensitivity", x) for x in sensitivities] + [("alert_rate", x) for x in alert_rates]
    rows = []
    for index, (threshold, target) in enumerate(zip(values, targets, strict=True)):
        if np.isnan(threshold):
            tied = int(ranking.run_ends[0])
            why = f"the greatest risk is shared by {tied} of {sample.rows} rows: more than were to be alerted"
            rows.append(ThresholdResults(Undefined(why), target, {metric.key: Undefined(why) for metric in THRESHOLD_METRICS}))
            continue
        supports = _supports(sample, ranking, int(alerted[index]))
        results = _results(point[index], metrics[:, index], supports, float(threshold), sample)
        shown = _threshold(float(threshold), None if target is None else again[:, index - len(thresholds)], sample.rows)
        rows.append(ThresholdResults(shown, target, results))
    return tuple(rows)


def _thresholds_of_sensitivity(counts: RankedCounts, sensitivities: Sequence[float]) -> Floats:
    """Risk of the row with which each sensitivity is reached (c, s)."""
    risk_of_event = counts.ranking.risk[counts.ranking.event_rows]  # (e,)
    goals = np.asarray(sensitivities, dtype=np.float64) - _ROUNDING
    at = [np.searchsorted(events, goals * events[-1], side="left") for events in counts.cumulative_events]
    return np.asarray(risk_of_event[np.clip(np.array(at).reshape(len(at), -1) - 1, 0, None)])


def _thresholds_of_alert_rate(counts: RankedCounts, alert_rates: Sequence[float]) -> Floats:
    """Least risk from which on at most each share of the rows is alerted (c, s); NaN where there is none."""
    ranking = counts.ranking
    risk = np.append(np.nan, ranking.risk[ranking.run_starts])
    limits = np.asarray(alert_rates, dtype=np.float64) + _ROUNDING
    within = [np.searchsorted(rows, limits * rows[-1], side="right") - 1 for rows in counts.cumulative_rows]  # rows that can be alerted
    return np.asarray(risk[np.searchsorted(ranking.run_ends, np.array(within).reshape(len(within), -1), side="right")])


def _short(ranking: Ranking, risk: float) -> float:
    """The shortest decimal number that alerts the same rows as a risk does; NaN stays."""
    if math.isnan(risk):
        return risk
    below = ranking.risk[ranking.risk < risk]
    next_lower = float(below[0]) if len(below) else -1.0
    for digits in range(1, 16):
        rounded = math.floor(risk * 10**digits) / 10**digits
        if next_lower < rounded <= risk:
            return float(rounded)
    return float(risk)


def _metrics(counts: RankedCounts, alerted: Ints, thresholds: Floats) -> Floats:
    """The shares, and the net benefit, at each threshold (c, k, m)."""
    hits, alerts = counts.true_positives(alerted), counts.cumulative_rows[:, alerted]  # (c, k)
    rows, events = counts.rows[:, None], counts.events[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        true_negatives = rows - events - (alerts - hits)
        shares = [hits / events, true_negatives / (rows - events), hits / alerts, true_negatives / (rows - alerts), alerts / rows]
        net_benefit = (hits - (alerts - hits) * thresholds / (1 - thresholds)) / rows
    return np.stack([*shares, net_benefit], axis=2)


def _supports(sample: RiskSample, ranking: Ranking, alerted: int) -> dict[str, Support]:
    """Patients and rows behind each share."""
    events = sample.outcome == 1
    order = ranking.order
    rows = {"sensitivity": events, "specificity": ~events, "ppv": order[:alerted], "npv": order[alerted:], "alert_rate": slice(None)}
    return {key: Support.of(sample.patient_ids[index]) for key, index in rows.items()}


def _results(point: Floats, resampled: Floats, supports: Mapping[str, Support], threshold: float, sample: RiskSample) -> dict[str, Result]:
    shares = {key: _share(key, float(point[i]), resampled[:, i], supports[key]) for i, key in enumerate(_SHARES)}
    alert_rate = shares.pop("alert_rate")
    results: dict[str, Result] = dict(shares)
    if isinstance(alert_rate, Estimate):
        results["alerts_per_100"] = Estimate(100 * alert_rate.value, 100 * alert_rate.low, 100 * alert_rate.high, alert_rate.n)
    results["number_needed_to_evaluate"] = _reciprocal(shares["ppv"])
    results["net_benefit"] = _net_benefit(float(point[-1]), resampled[:, -1], shares, threshold, sample)
    return results


def _share(key: str, value: float, resampled: Floats, support: Support) -> Result:
    """A share; where many resamples have no row behind it, its interval is that of as many trials as it has patients."""
    if not support.rows:
        return Undefined("no row is alerted" if key == "ppv" else "every row is alerted")
    result = share_interval(value, resampled, support, support.rows)
    if isinstance(result, PointEstimate):
        return replace(clopper_pearson(support.patients * value, support.patients, support.rows), value=value)
    return result


def _reciprocal(ppv: Result) -> Result:
    """Number needed to evaluate: alerts for each right one."""
    if not isinstance(ppv, Estimate):
        return ppv
    if ppv.value == 0:
        return Undefined("no alert is right")
    return Estimate(1 / ppv.value, 1 / ppv.high, 1 / ppv.low, ppv.n)


def _net_benefit(value: float, resampled: Floats, shares: Mapping[str, Result], threshold: float, sample: RiskSample) -> Result:
    """Net benefit, its interval as wide at least as that of the sensitivity or of the specificity alone makes it.

    Where all alerts are right, or no row is alerted, resamples vary too little.
    """
    if threshold >= 1:
        return Undefined("the odds of a threshold of 1 are infinite")
    result = bootstrap_interval(value, resampled, "plain", sample.independent, sample.rows)
    sensitivity, specificity = shares["sensitivity"], shares["specificity"]
    if not (isinstance(result, Estimate) and isinstance(sensitivity, Estimate) and isinstance(specificity, Estimate)):
        return result
    rate, cost = sample.event_rate, threshold / (1 - threshold)
    limits = [rate * x - (1 - rate) * (1 - specificity.value) * cost for x in (sensitivity.low, sensitivity.high)]
    limits += [rate * sensitivity.value - (1 - rate) * (1 - x) * cost for x in (specificity.low, specificity.high)]
    return replace(result, low=min(result.low, *limits), high=max(result.high, *limits))


def _threshold(value: float, again: Floats | None, n: int) -> Result:
    """A threshold: as given, or with the range of those that resamples would choose."""
    if again is None:
        return PointEstimate(value, "it was given", n)
    finite = again[np.isfinite(again)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(finite, [tail, 1 - tail], method="weibull") if len(finite) else (value, value)
    return Estimate(value, min(float(low), value), max(float(high), value), n)
