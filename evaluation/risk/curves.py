"""ROC, precision-recall, calibration and decision curves, each with a pointwise 95 % band from resampled patients.

Letters: ``n`` rows, ``g`` places of a curve, ``j`` cells of rows with neighbouring risks, ``c`` weightings at a time, ``r`` resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.risk.calibration_spline import Spline
from nearward.evaluation.risk.disclosure_control import covered
from nearward.evaluation.risk.inputs import FEWEST, Sample
from nearward.evaluation.risk.metrics import Use
from nearward.evaluation.stats.cluster_bootstrap import Undefined, resample
from nearward.evaluation.stats.confidence import LEVEL
from nearward.evaluation.stats.logistic_recalibration import log_odds
from nearward.evaluation.stats.ranking_metrics import Counts, Ranking
from nearward.tabular.typing import Floats, Ints

_PLACES = 101
_CELLS = 200  # more would not change a curve with three bends
_BARS = 20


@dataclass(frozen=True)
class Curves:
    """What is drawn of one risk.

    Parameters
    ----------
    roc : frame of (false_positive_rate, recall, low, high)
    precision_recall : frame of (recall, precision, low, high)
    decision : frame of (threshold, net_benefit, low, high, all)
        ``all`` is the net benefit of alerting everybody; of alerting nobody it is 0.
    calibration : frame of (risk, event_rate, low, high), or why there is none
    histogram : frame of (from, to, rows)
        Rows by risk; null where they are fewer than 10, or would give such away.
    """

    roc: pl.DataFrame
    precision_recall: pl.DataFrame
    decision: pl.DataFrame
    calibration: pl.DataFrame | Undefined
    histogram: pl.DataFrame


def draw_curves(sample: Sample, name: str, use: Use, resamples: int, seed: int) -> Curves:
    """Follow the curves of one risk over the same draws of patients that its metrics were measured on.

    Parameters
    ----------
    sample : Sample
    name : str
        Of the risk.
    use : Use
        The decision curve reaches past its threshold.
    resamples, seed : int
    """
    risk = sample.risks[name]
    ranking = Ranking(sample.outcome, risk)
    rate = sample.events / sample.rows
    fpr, recall = np.linspace(0, 1, _PLACES), np.linspace(0, 1, _PLACES)[1:]
    top = min(0.99, max(4 * rate, 2 * use.threshold, 0.05))
    thresholds = np.linspace(0, top, _PLACES)[1:]
    alerted = np.searchsorted(-ranking.risk, -thresholds, side="right")
    bounds = _cells(ranking)
    sizes = [_PLACES, _PLACES - 1, _PLACES - 1, len(bounds) - 1, len(bounds) - 1]

    def follow(weight: NDArray[Any]) -> Floats:
        counts = ranking.count(weight[:, ranking.order])
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = [
                _roc(counts, fpr),
                _precision(counts, recall),
                counts.net_benefit(alerted, thresholds),
                np.diff(counts.seen[:, bounds], axis=1),
                np.diff(counts.hits(bounds), axis=1),
            ]
        return np.concatenate(parts, axis=1)

    even = np.ones((1, sample.rows), dtype=np.uint16)
    point = np.split(follow(even)[0], np.cumsum(sizes)[:-1])
    draws = np.split(resample(sample.patient, follow, resamples, seed), np.cumsum(sizes)[:-1], axis=1)
    decision = _banded("threshold", thresholds, "net_benefit", point[2], draws[2])
    everyone = (rate - thresholds) / (1 - thresholds)
    return Curves(
        roc=_banded("false_positive_rate", fpr, "recall", point[0], draws[0]),
        precision_recall=_banded("recall", recall, "precision", point[1], draws[1]),
        decision=decision.with_columns(all=pl.Series(everyone)),
        calibration=_calibration(ranking, bounds, (point[3], point[4]), (draws[3], draws[4])),
        histogram=_histogram(risk),
    )


def _roc(counts: Counts, fpr: Floats) -> Floats:
    """Recall at each false positive rate (c, g): straight between thresholds, the upper end where the curve stands upright."""
    first, past = counts.ranking.first, counts.ranking.past
    hits = np.stack([counts.hits(first), counts.hits(past)], axis=2).reshape(len(counts.seen), -1)
    seen = np.stack([counts.seen[:, first], counts.seen[:, past]], axis=2).reshape(hits.shape)
    ends = [0.0], counts.rows - counts.events
    return np.array(
        [
            np.interp(fpr * end, np.concatenate([ends[0], s - h, [end]]), np.concatenate([[0.0], h, h[-1:]])) / h[-1]
            for s, h, end in zip(seen, hits, ends[1], strict=True)
        ]
    )


def _precision(counts: Counts, recall: Floats) -> Floats:
    """Precision where each recall is first reached (c, g): the steps that average precision sums up."""
    past = counts.ranking.past
    hits, seen = counts.hits(past), counts.seen[:, past]
    found = []
    for h, s in zip(hits, seen, strict=True):
        at = np.minimum(np.searchsorted(h, np.ceil(recall * h[-1] - 1e-9)), len(h) - 1)
        found.append(h[at] / s[at])
    return np.array(found)


def _cells(ranking: Ranking) -> Ints:
    """Bounds of at most 200 cells of about equally many neighbouring rows; equal risks are never parted."""
    wanted = np.linspace(0, len(ranking.risk), _CELLS + 1).round().astype(np.int64)
    ends = np.append(0, ranking.ends)
    return np.unique(ends[np.searchsorted(ends, wanted)])


def _calibration(ranking: Ranking, bounds: Ints, even: tuple[Floats, Floats], drawn: tuple[Floats, Floats]) -> pl.DataFrame | Undefined:
    """Smooth event rate over risk: logistic regression on a natural spline of the log-odds, fitted to cells."""
    if ranking.flat:
        return Undefined("the risks are all equal: there is one point, and no curve")
    if ranking.parted:
        return Undefined("the risk parts the outcomes without a fault: every curve that is steep enough fits")
    logit = log_odds(ranking.risk)
    cell = np.add.reduceat(logit, bounds[:-1]) / np.diff(bounds)  # (j,)
    spline = Spline.over(cell, even[0])
    high, low = logit[min(FEWEST - 1, len(logit) - 1)], logit[max(-FEWEST, -len(logit))]  # no curve where fewer than 10 rows are
    at = np.linspace(low, high, _PLACES) if high > low else np.array([low])
    risks = 1 / (1 + np.exp(-at))
    rates = spline.fit(even[0][None], even[1][None], at)[0]
    return _banded("risk", risks, "event_rate", rates, spline.fit(drawn[0], drawn[1], at))


def _banded(x: str, places: Floats, y: str, value: Floats, draws: Floats) -> pl.DataFrame:
    low, high = np.nanquantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return pl.DataFrame({x: places, y: value, "low": low, "high": high})


def _histogram(risk: Floats) -> pl.DataFrame:
    edges = np.linspace(0, max(float(risk.max()), 1e-6), _BARS + 1)
    rows = np.histogram(risk, edges)[0]
    hidden = covered((rows > 0) & (rows < FEWEST), np.where(rows > 0, rows, len(risk) + 1), [rows])
    shown = [None if gone else int(count) for count, gone in zip(rows, hidden, strict=True)]
    return pl.DataFrame({"from": edges[:-1], "to": edges[1:], "rows": pl.Series(shown, dtype=pl.Int64)})
