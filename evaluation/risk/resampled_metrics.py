"""Metrics of one risk or several, measured over resampled patients, and the intervals that follow.

Letters: ``n`` rows, ``m`` metrics, ``r`` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.risk.inputs import Sample
from nearward.evaluation.risk.metrics import BY_KEY, COMPARED, METRICS, Measure, Use, bin_starts
from nearward.evaluation.stats.cluster_bootstrap import Undefined, interval, resample
from nearward.evaluation.stats.confidence import LEVEL, Estimate
from nearward.tabular.typing import Floats

Result = Estimate | Undefined

_FAULTLESS = 200  # made-up outcomes behind the calibration error that chance alone shows
_AT = {metric.key: at for at, metric in enumerate(METRICS)}
_LINE = ("calibration_slope", "calibration_intercept")


@dataclass(frozen=True)
class BootstrapMetrics:
    """Metrics of several risks, on the rows as they are and over resamples, the same ones for all risks.

    Parameters
    ----------
    point : name of the risk -> (m + 1,)
    draws : name of the risk -> (r, m + 1)
        The last column is how far the gaps behind the calibration error moved.
    lacking : name of the risk -> why no line of calibration can be laid, or an empty text
    independent : int
        Patients of the rarer outcome: what the width of most intervals hangs on.
    rows : int
    """

    point: dict[str, Floats]
    draws: dict[str, Floats]
    lacking: dict[str, str]
    independent: int
    rows: int

    def results(self, name: str) -> dict[str, Result]:
        """Each metric of one risk: key -> Estimate, or why there is none."""
        found: dict[str, Result] = {}
        for key, at in _AT.items():
            value, drawn = float(self.point[name][at]), self.draws[name][:, at]
            if self.lacking[name] and key in _LINE:
                found[key] = Undefined(f"{self.lacking[name]}: no line can be laid through them")
            elif key == "ece":
                found[key] = _error_interval(value, self.draws[name][:, -1], self.rows)
            else:
                found[key] = interval(value, drawn, BY_KEY[key].scale, self.independent, self.rows)
        return found

    def gap(self, first: str, other: str) -> dict[str, Result]:
        """The first risk's metrics less the other's, paired: key -> Estimate, or why there is none."""
        found: dict[str, Result] = {}
        for metric in COMPARED:
            at = _AT[metric.key]
            lacking = next((self.lacking[name] for name in (first, other) if self.lacking[name]), "")
            if lacking and metric.key in _LINE:
                found[metric.key] = Undefined(f"{lacking}: no line can be laid through them")
                continue
            value, drawn = self.point[first][at] - self.point[other][at], self.draws[first][:, at] - self.draws[other][:, at]
            found[metric.key] = interval(float(value), drawn, "plain", self.independent, self.rows)
        return found


def measure(samples: Sequence[Sample], use: Use, resamples: int, seed: int) -> BootstrapMetrics:
    """Measure every risk on one sample or, as a mean, on several test folds, with patients drawn within each fold.

    Parameters
    ----------
    samples : Sample, each with the same risks
        No patient in two of them.
    use : Use
    resamples, seed : int
    """
    names = list(samples[0].risks)
    points, drawn, lacking = [], [], dict.fromkeys(names, "")
    for at, sample in enumerate(samples):
        measures = [Measure(sample.outcome, sample.risks[name], use) for name in names]
        lacking = {name: lacking[name] or one.lacking for name, one in zip(names, measures, strict=True)}
        points.append(np.stack([one.point for one in measures]))
        drawn.append(_draw(sample, measures, resamples, seed + at))
    point, draws = np.mean(points, axis=0), np.mean(drawn, axis=0)
    return BootstrapMetrics(
        {name: point[at] for at, name in enumerate(names)},
        {name: draws[:, at] for at, name in enumerate(names)},
        lacking,
        sum(sample.independent for sample in samples),
        sum(sample.rows for sample in samples),
    )


def _draw(sample: Sample, measures: Sequence[Measure], resamples: int, seed: int) -> Floats:
    """Metrics over resamples (r, risks, m + 1)."""

    def each(weight: NDArray[Any]) -> Floats:
        return np.stack([one(weight) for one in measures], axis=1)

    return resample(sample.patient, each, resamples, seed)


def _error_interval(value: float, moved: Floats, n: int) -> Estimate:
    """Interval of the calibration error that holds at least 95 %.

    Distances are never negative, so that chance adds to them and draws add to it once more: quantiles of the draws would mostly miss the
    truth. But the error is never further off than the bins' gaps are, all told (the triangle inequality), and how far those move from draw
    to draw is known.
    """
    reach = float(np.nanquantile(moved, LEVEL))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), n)


def error_by_chance(risk: Floats, seed: int) -> Estimate:
    """Calibration error that faultless risks (n,) would show on so few rows, and the range in which 95 % of such errors lie.

    Rows are drawn one by one: with several rows a patient it is, if anything, greater.
    """
    draw = np.random.default_rng(seed)
    ranked = np.sort(risk)
    starts = bin_starts(ranked)
    errors = [np.abs(np.add.reduceat((draw.random(len(ranked)) < ranked) - ranked, starts)).sum() / len(ranked) for _ in range(_FAULTLESS)]
    return Estimate(float(np.mean(errors)), float(np.quantile(errors, 0.025)), float(np.quantile(errors, 0.975)), len(risk))


def as_dict(results: Mapping[str, Result]) -> dict[str, Any]:
    """Write results for JSON: a value with its interval, or null with the reason."""
    told: dict[str, Any] = {}
    for key, result in results.items():
        title = BY_KEY[key].title if key in BY_KEY else key
        if isinstance(result, Undefined):
            told[key] = {"title": title, "value": None, "why": result.why}
        else:
            told[key] = {"title": title, "value": result.value, "low": result.low, "high": result.high, "n": result.n}
    return told
