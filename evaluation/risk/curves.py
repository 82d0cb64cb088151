"""ROC, precision-recall, calibration and decision curves, each with a pointwise 95 % band from resampled patients.

Shapes: ``n`` rows, ``g`` points of a curve, ``j`` bins of rows with neighbouring risks, ``c`` weightings at a time, ``r`` resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from nearward.evaluation.risk.disclosure_control import secondary_suppression
from nearward.evaluation.risk.inputs import MIN_COUNT, RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.results import Curves
from nearward.evaluation.stats.calibration_spline import CalibrationSpline
from nearward.evaluation.stats.cluster_bootstrap import cluster_bootstrap
from nearward.evaluation.stats.confidence import LEVEL, Undefined
from nearward.evaluation.stats.logistic_recalibration import EDGE
from nearward.evaluation.stats.ranking_metrics import RankedCounts, Ranking
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.typing import Floats, Ints

_POINTS = 101
_CALIBRATION_BINS = 200  # more would not change a curve with three bends
_HISTOGRAM_BINS = 20


def compute_curves(sample: RiskSample, name: str, operating_point: OperatingPoint, resamples: int, seed: int) -> Curves:
    """Compute the curves of one risk over the same resamples of patients as its metrics.

    Parameters
    ----------
    sample : RiskSample
    name : str
        Of the risk.
    operating_point : OperatingPoint
        The decision curve extends beyond its threshold.
    resamples, seed : int
    """
    risk = sample.risks[name]
    ranking = Ranking(sample.outcome, risk)
    rate = sample.event_rate
    fpr, recall = np.linspace(0, 1, _POINTS), np.linspace(0, 1, _POINTS)[1:]
    max_threshold = min(0.99, max(4 * rate, 2 * operating_point.threshold, 0.05))
    thresholds = np.linspace(0, max_threshold, _POINTS)[1:]
    alerted = np.searchsorted(-ranking.risk, -thresholds, side="right")
    bounds = _calibration_bins(ranking)
    ends = np.cumsum([_POINTS, _POINTS - 1, _POINTS - 1, len(bounds) - 1])

    def statistic(weight: NDArray[Any]) -> Floats:
        counts = ranking.count(weight[:, ranking.order])
        with np.errstate(invalid="ignore", divide="ignore"):
            curves = [
                _recall_at(fpr, counts),
                _precision_at(recall, counts),
                counts.net_benefit(alerted, thresholds),
                np.diff(counts.cumulative_rows[:, bounds], axis=1),
                np.diff(counts.true_positives(bounds), axis=1),
            ]
        return np.concatenate(curves, axis=1)

    equal_weights = np.ones((1, sample.rows), dtype=np.uint16)
    point = np.split(statistic(equal_weights)[0], ends)
    resampled = np.split(cluster_bootstrap(sample.patient_ids, statistic, resamples, seed), ends, axis=1)
    decision = _band("threshold", thresholds, "net_benefit", point[2], resampled[2])
    net_benefit_all = (rate - thresholds) / (1 - thresholds)
    with_event = np.full(_POINTS, float(len(np.unique(sample.patient_ids[sample.outcome == 1]))))
    with_event[-1] = np.inf  # where every row is alerted the recall is 1 by definition
    return Curves(
        roc=_band("false_positive_rate", fpr, "recall", point[0], resampled[0], with_event),
        precision_recall=_band("recall", recall, "precision", point[1], resampled[1], _patients_alerted(sample, ranking, recall)),
        decision=decision.with_columns(all=pl.Series(net_benefit_all)),
        calibration=_calibration(ranking, bounds, (point[3], point[4]), (resampled[3], resampled[4])),
        histogram=_histogram(risk),
    )


def _recall_at(fpr: Floats, counts: RankedCounts) -> Floats:
    """Recall at each false positive rate (c, g): linear between thresholds, the upper end where the curve is vertical."""
    starts, ends = counts.ranking.event_run_starts, counts.ranking.event_run_ends
    hits = np.stack([counts.true_positives(starts), counts.true_positives(ends)], axis=2).reshape(len(counts.rows), -1)
    rows = np.stack([counts.cumulative_rows[:, starts], counts.cumulative_rows[:, ends]], axis=2).reshape(hits.shape)
    return np.array(
        [
            np.interp(fpr * total, np.concatenate([[0.0], r - h, [total]]), np.concatenate([[0.0], h, h[-1:]])) / h[-1]
            for r, h, total in zip(rows, hits, counts.rows - counts.events, strict=True)
        ]
    )


def _precision_at(recall: Floats, counts: RankedCounts) -> Floats:
    """Precision where each recall is first reached (c, g): the steps that average precision sums up."""
    ends = counts.ranking.event_run_ends
    precision = []
    for hits, rows in zip(counts.true_positives(ends), counts.cumulative_rows[:, ends], strict=True):
        run = np.minimum(np.searchsorted(hits, np.ceil(recall * hits[-1] - 1e-9)), len(hits) - 1)
        precision.append(hits[run] / rows[run])
    return np.array(precision)


def _patients_alerted(sample: RiskSample, ranking: Ranking, recall: Floats) -> Floats:
    """Patients with an alert where each recall is first reached (g,)."""
    last_event = np.ceil(recall * len(ranking.event_rows) - 1e-9).astype(np.int64) - 1
    last_row = ranking.run_ends[ranking.run[ranking.event_rows[last_event]]] - 1
    first_row_of_patient = np.zeros(sample.rows)
    first_row_of_patient[np.unique(sample.patient_ids[ranking.order], return_index=True)[1]] = 1
    return np.asarray(np.cumsum(first_row_of_patient)[last_row])


def _calibration_bins(ranking: Ranking) -> Ints:
    """Bounds of at most 200 bins of about equally many neighbouring rows; tied risks stay in one bin."""
    bounds = np.linspace(0, len(ranking.risk), _CALIBRATION_BINS + 1).round().astype(np.int64)
    ends = np.append(0, ranking.run_ends)
    return np.unique(ends[np.searchsorted(ends, bounds)])


def _calibration(
    ranking: Ranking, bounds: Ints, point: tuple[Floats, Floats], resampled: tuple[Floats, Floats]
) -> pl.DataFrame | Undefined:
    """Smooth event rate over risk: logistic regression on a natural spline of the log-odds, fitted to rows and events of bins."""
    if ranking.is_constant:
        return Undefined("the risks are all equal: there is one point, and no curve")
    if ranking.is_separating:
        return Undefined("the risk separates the outcomes perfectly: every curve that is steep enough fits")
    log_odds = logit(ranking.risk, EDGE)
    bin_logit = np.add.reduceat(log_odds, bounds[:-1]) / np.diff(bounds)  # (j,)
    spline = CalibrationSpline.fit_basis(bin_logit, point[0])
    high, low = (
        log_odds[min(MIN_COUNT - 1, len(log_odds) - 1)],
        log_odds[max(-MIN_COUNT, -len(log_odds))],
    )  # no curve over fewer than 10 rows
    x = np.linspace(low, high, _POINTS) if high > low else np.array([low])
    rates = spline.event_rates(point[0][None], point[1][None], x)[0]
    return _band("risk", np.asarray(expit(x)), "event_rate", rates, spline.event_rates(resampled[0], resampled[1], x))


def _band(x_name: str, x: Floats, y_name: str, y: Floats, resampled: Floats, patients: Floats | None = None) -> pl.DataFrame:
    """Curve with percentiles of its resamples; those of a share of 0 or 1 are all alike, and Clopper–Pearson of its patients limits it."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail], axis=0)
    if patients is not None:
        reach = tail ** (1 / patients)
        low, high = np.where(y >= 1, np.minimum(low, reach), low), np.where(y <= 0, np.maximum(high, 1 - reach), high)
    return pl.DataFrame({x_name: x, y_name: y, "low": low, "high": high})


def _histogram(risk: Floats) -> pl.DataFrame:
    edges = np.linspace(0, max(float(risk.max()), 1e-6), _HISTOGRAM_BINS + 1)
    rows = np.histogram(risk, edges)[0]
    suppressed = secondary_suppression((rows > 0) & (rows < MIN_COUNT), np.where(rows > 0, rows, len(risk) + 1), [rows])
    shown = [None if hidden else int(count) for count, hidden in zip(rows, suppressed, strict=True)]
    return pl.DataFrame({"from": edges[:-1], "to": edges[1:], "rows": pl.Series(shown, dtype=pl.Int64)})
