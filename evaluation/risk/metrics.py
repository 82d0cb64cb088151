"""The metrics of a risk of a rare outcome: discrimination, calibration, recall and PPV at an alert budget, net benefit.

Shapes: ``n`` rows, ``m`` metrics, ``c`` weightings at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.stats.cluster_bootstrap import Scale
from nearward.evaluation.stats.logistic_recalibration import EDGE, LOOSE, LogisticRecalibration
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

_ECE_BINS = 10


@dataclass(frozen=True)
class Metric:
    """A metric: its key, its title, the scale of its interval, which direction is better, and what it measures."""

    key: str
    title: str
    scale: Scale
    better: Literal["high", "low", "zero", "one", "none"]
    meaning: str


METRICS = (
    Metric("prevalence", "Event rate", "share", "none", "share of rows with the event; the AUPRC of an uninformative risk"),
    Metric("auprc", "AUPRC", "skewed", "high", "average precision: the share of right alerts, averaged over the events"),
    Metric("auroc", "AUROC", "odds", "high", "chance that an event gets a greater risk than a row without; .5: uninformative"),
    Metric("brier", "Brier score", "positive", "low", "mean squared distance of risk and outcome"),
    Metric("scaled_brier", "Scaled Brier score", "plain", "high", "reduction of the Brier score against a constant risk"),
    Metric(
        "calibration_in_the_large",
        "Calibration in the large",
        "plain",
        "zero",
        "log-odds to add to all to expect the observed events",
    ),
    Metric("observed_expected", "Observed / expected", "positive", "one", "observed events per expected event"),
    Metric("calibration_slope", "Calibration slope", "plain", "one", "below 1 the risks are too extreme, above 1 not extreme enough"),
    Metric(
        "calibration_intercept",
        "Calibration intercept",
        "plain",
        "zero",
        "of the same line: log-odds where the risk is one half",
    ),
    Metric("ece", "Calibration error (ECE)", "positive", "low", "mean distance of event rate and risk, over ten bins of equal width"),
    Metric("recall_at_budget", "Recall at the alert budget", "share", "high", "share of events among the rows alerted"),
    Metric("ppv_at_budget", "PPV at the alert budget", "share", "high", "share of alerts that are right"),
    Metric("net_benefit", "Net benefit", "plain", "high", "true less false alerts at the threshold's odds, per row; of none: 0"),
    Metric("net_benefit_all", "Net benefit of alerting all", "plain", "none", "the same when all rows are alerted"),
    Metric("net_benefit_gain", "Net benefit over alerting all", "plain", "high", "what the risk adds to alerting all"),
)
THRESHOLD_METRICS = (
    Metric("sensitivity", "Sensitivity", "share", "high", "share of events that are alerted; the recall"),
    Metric("specificity", "Specificity", "share", "high", "share of rows without the event that are not alerted"),
    Metric("ppv", "PPV", "share", "high", "share of alerts that are right"),
    Metric("npv", "NPV", "share", "high", "share of rows without an alert that have no event"),
    Metric("alerts_per_100", "Alerts per 100 rows", "positive", "none", "rows at or above the threshold"),
    Metric("number_needed_to_evaluate", "Number needed to evaluate", "positive", "low", "alerts for each right one: 1 / PPV"),
    next(metric for metric in METRICS if metric.key == "net_benefit"),
)
USEFULNESS = Metric(
    "usefulness",
    "Net benefit over the better default",
    "plain",
    "high",
    "over the better of alerting all and alerting none; above 0 the risk is worth using",
)
METRIC_BY_KEY = {metric.key: metric for metric in (*METRICS, *THRESHOLD_METRICS, USEFULNESS)}
# The gain in net benefit of two risks differs as their net benefit does.
COMPARED_METRICS = tuple(m for m in METRICS if m.better != "none" and m.key != "net_benefit_gain")


@dataclass(frozen=True)
class OperatingPoint:
    """The alert budget and the decision threshold at which a risk is used.

    Parameters
    ----------
    alert_rate : float
        Share of rows that can be alerted: .05 is 5 alerts per 100 patients.
    threshold : float
        Decision threshold; its odds are the number of true alerts that one false alert costs.
    """

    alert_rate: float
    threshold: float

    def __post_init__(self) -> None:
        for name, value in (("alert_rate", self.alert_rate), ("threshold", self.threshold)):
            if not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {name}={value!r}")


class WeightedMetrics:
    """All metrics of one risk as a function of row weights.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risk : (n,), in [0, 1]
    operating_point : OperatingPoint
    """

    def __init__(self, outcome: Floats, risk: Floats, operating_point: OperatingPoint) -> None:
        self.operating_point = operating_point
        self.ranking = ranking = Ranking(outcome, risk)
        self._alerted = ranking.alerted(operating_point.threshold)
        self._sums = np.column_stack([(ranking.risk - ranking.outcome) ** 2, ranking.risk])  # (n, 2)
        self._residual = ranking.outcome - ranking.risk
        self._bins = bin_starts(ranking.risk)
        self._bin_residuals = np.add.reduceat(self._residual, self._bins) / len(risk)
        self._recalibration = LogisticRecalibration(logit(ranking.risk, EDGE), ranking.outcome)
        self.no_slope = ""  # why there is no calibration line
        if ranking.is_constant:
            self.no_slope = "the risks are all equal"
        elif ranking.is_separating:
            self.no_slope = "the risk separates the outcomes perfectly"
        equal_weights = np.ones((1, len(risk)))
        self._in_the_large = float(self._recalibration.in_the_large(equal_weights)[0])
        intercept, slope = (np.nan, np.nan) if self.no_slope else self._recalibration.intercept_and_slope(equal_weights)[0]
        self._line = (float(intercept), float(slope))
        self.point: Floats = self._on_ranked(equal_weights)[0]  # (m + 1,)

    def __call__(self, weight: NDArray[Any]) -> Floats:
        """Metrics, and the shift of the bins' residuals (c, m + 1), under row weights (c, n) in the sample's order."""
        return self._on_ranked(weight[:, self.ranking.order].astype(np.float64))

    def _on_ranked(self, weight: Floats) -> Floats:
        counts = self.ranking.count(weight)
        rows, events = counts.rows, counts.events
        threshold = self.operating_point.threshold
        with np.errstate(invalid="ignore", divide="ignore"):
            event_rate = events / rows
            squared_error, expected = (weight @ self._sums).T
            brier = squared_error / rows
            bin_residuals = np.add.reduceat(weight * self._residual, self._bins, axis=1) / rows[:, None]
            recall, ppv = counts.at_budget(self.operating_point.alert_rate)
            net_benefit = counts.net_benefit(self._alerted, threshold)
            net_benefit_all = (event_rate - threshold) / (1 - threshold)
            line = np.full((len(weight), 2), np.nan)
            if np.isfinite(self._line[1]):
                line = self._recalibration.intercept_and_slope(weight, self._line, LOOSE)
            metrics = {
                "prevalence": event_rate,
                "auprc": counts.auprc(),
                "auroc": counts.auroc(),
                "brier": brier,
                "scaled_brier": 1 - brier / (event_rate * (1 - event_rate)),
                "calibration_in_the_large": self._recalibration.in_the_large(weight, float(np.nan_to_num(self._in_the_large)), LOOSE),
                "observed_expected": events / expected,
                "calibration_slope": line[:, 1],
                "calibration_intercept": line[:, 0],
                "ece": np.abs(bin_residuals).sum(axis=1),
                "recall_at_budget": recall,
                "ppv_at_budget": ppv,
                "net_benefit": net_benefit,
                "net_benefit_all": net_benefit_all,
                "net_benefit_gain": net_benefit - net_benefit_all,
            }
        shift = np.abs(bin_residuals - self._bin_residuals).sum(axis=1)
        return np.stack([*(metrics[metric.key] for metric in METRICS), shift], axis=1)


def bin_starts(risk: Floats) -> Ints:
    """First row of each bin of equal width in sorted risks (n,); bins without rows are left out."""
    number = np.minimum((risk * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    return np.flatnonzero(np.append(True, number[1:] != number[:-1]))
