"""The numbers by which a risk of a rare outcome is judged, and what each says.

Letters: ``n`` rows, ``m`` metrics, ``c`` weightings at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.stats.cluster_bootstrap import Scale
from nearward.evaluation.stats.logistic_recalibration import NEAR, Recalibration, log_odds
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats

_BINS = 10


@dataclass(frozen=True)
class Metric:
    """A number: its key, its title, the scale its interval is made on, which way is better, and what it says."""

    key: str
    title: str
    scale: Scale
    better: Literal["high", "low", "zero", "one", "none"]
    says: str


METRICS = (
    Metric("prevalence", "Event rate", "share", "none", "share of rows with the event; the AUPRC of a risk that knows nothing"),
    Metric("auprc", "AUPRC", "skewed", "high", "average precision: how many alerts are right, averaged over the events as they are found"),
    Metric("auroc", "AUROC", "odds", "high", "chance that an event gets a greater risk than a row without; .5 knows nothing"),
    Metric("brier", "Brier score", "positive", "low", "mean squared distance of risk and outcome"),
    Metric("scaled_brier", "Scaled Brier score", "plain", "high", "share of the event rate's Brier score taken away"),
    Metric("calibration_in_the_large", "Calibration in the large", "plain", "zero", "log-odds to add to all so that their mean is right"),
    Metric("observed_expected", "Observed / expected", "positive", "one", "events that happened for each that was expected"),
    Metric("calibration_slope", "Calibration slope", "plain", "one", "below 1 the risks are too extreme, above 1 too timid"),
    Metric("calibration_intercept", "Calibration intercept", "plain", "zero", "of the same line: the log-odds where the risk is one half"),
    Metric("ece", "Calibration error (ECE)", "positive", "low", "mean distance of event rate and risk, over ten bins of equal width"),
    Metric("recall_at_budget", "Recall at the alert budget", "share", "high", "share of events among the rows alerted"),
    Metric("ppv_at_budget", "PPV at the alert budget", "share", "high", "share of alerts that are right"),
    Metric("net_benefit", "Net benefit", "plain", "high", "true alerts a row less false ones at the threshold's odds; of none: 0"),
    Metric("net_benefit_all", "Net benefit of alerting all", "plain", "none", "the same when everybody is alerted"),
    Metric("net_benefit_gain", "Net benefit over alerting all", "plain", "high", "what the risk adds to alerting everybody"),
)
BY_KEY = {metric.key: metric for metric in METRICS}
COMPARED = tuple(m for m in METRICS if m.better != "none" and m.key != "net_benefit_gain")  # of two risks it differs as net benefit does


@dataclass(frozen=True)
class Use:
    """How the risk is to be used.

    Parameters
    ----------
    alert_rate : float
        Share of rows that can be alerted: .05 is 5 alerts per 100 patients.
    threshold : float
        Risk from which on one acts; its odds say how many false alerts one true alert is worth.
    """

    alert_rate: float
    threshold: float

    def __post_init__(self) -> None:
        for name, value in (("alert_rate", self.alert_rate), ("threshold", self.threshold)):
            if not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {name}={value!r}")


class Measure:
    """All metrics of one risk as a function of row weights.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risk : (n,), in [0, 1]
    use : Use
    """

    def __init__(self, outcome: Floats, risk: Floats, use: Use) -> None:
        self.use = use
        self.ranking = ranking = Ranking(outcome, risk)
        self._place = ranking.alerted(use.threshold)
        self._sums = np.column_stack([(ranking.risk - ranking.outcome) ** 2, ranking.risk])  # (n, 2)
        self._gap = ranking.outcome - ranking.risk
        self._bins = bin_starts(ranking.risk)
        self._gaps = np.add.reduceat(self._gap, self._bins) / len(risk)
        self._recalibration = Recalibration(log_odds(ranking.risk), ranking.outcome)
        even = np.ones((1, len(risk)))
        self.lacking = (
            "the risks are all equal" if ranking.flat else "the risk parts the outcomes without a fault" if ranking.parted else ""
        )
        self._shift = float(self._recalibration.shift(even)[0])
        a, b = (np.nan, np.nan) if self.lacking else self._recalibration.line(even)[0]
        self._line = (float(a), float(b))
        self.point: Floats = self._on_sorted(even)[0]  # (m + 1,)

    def __call__(self, weight: NDArray[Any]) -> Floats:
        """Metrics, and how far the bins' gaps moved (c, m + 1), under row weights (c, n) in the sample's order."""
        return self._on_sorted(weight[:, self.ranking.order].astype(np.float64))

    def _on_sorted(self, weight: Floats) -> Floats:
        counts = self.ranking.count(weight)
        rows, events = counts.rows, counts.events
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = events / rows
            error, expected = (weight @ self._sums).T
            brier = error / rows
            bins = np.add.reduceat(weight * self._gap, self._bins, axis=1) / rows[:, None]
            recall, ppv = counts.at_budget(self.use.alert_rate)
            benefit = counts.net_benefit(self._place, self.use.threshold)
            everyone = (rate - self.use.threshold) / (1 - self.use.threshold)
            lines = np.full((len(weight), 2), np.nan)
            if np.isfinite(self._line[1]):
                lines = self._recalibration.line(weight, self._line, NEAR)
            found = {
                "prevalence": rate,
                "auprc": counts.auprc(),
                "auroc": counts.auroc(),
                "brier": brier,
                "scaled_brier": 1 - brier / (rate * (1 - rate)),
                "calibration_in_the_large": self._recalibration.shift(weight, float(np.nan_to_num(self._shift)), NEAR),
                "observed_expected": events / expected,
                "calibration_slope": lines[:, 1],
                "calibration_intercept": lines[:, 0],
                "ece": np.abs(bins).sum(axis=1),
                "recall_at_budget": recall,
                "ppv_at_budget": ppv,
                "net_benefit": benefit,
                "net_benefit_all": everyone,
                "net_benefit_gain": benefit - everyone,
            }
        moved = np.abs(bins - self._gaps).sum(axis=1)
        return np.stack([*(found[metric.key] for metric in METRICS), moved], axis=1)


def bin_starts(risk: Floats) -> NDArray[np.int64]:
    """Where the bins of equal width begin in sorted risks (n,); bins without rows are left out."""
    place = np.minimum((risk * _BINS).astype(np.int64), _BINS - 1)
    return np.flatnonzero(np.append(True, place[1:] != place[:-1]))
