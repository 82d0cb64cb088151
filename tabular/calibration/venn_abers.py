"""A Venn-Abers band around a calibrated risk.

References
----------
Vovk, Petej: Venn-Abers predictors (2014).
Tibshirani, Barber, Candès, Ramdas: Conformal prediction under covariate shift (2019), for weights.

Shapes: n calibration rows, q query rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.tabular.statistics import row_weights, weighted_quantile
from nearward.tabular.typing import Floats, Ints

_BINS = 400  # of the band's step functions

_Pool = tuple[float, float, Any]  # events, rows, the next pool further away or None


@dataclass(frozen=True)
class VennAbersBand:
    """The isotonic risk of a score if its patient were a calibration patient without the outcome (low), and with it (high).

    The conformal method for probabilities: with scores of one fixed model and exchangeable patients, one of the two ends is perfectly
    calibrated. Fitted on cross-fitted scores it is approximate: new rows are scored by the mean of the folds' models. It is narrow where
    many calibration patients had such a score and wide where few had. It is no confidence interval, but several times narrower: a
    single patient hardly moves the rate of many, while their sampling error remains (docs/log, 2026-11-30).

    Parameters
    ----------
    edge : (bins - 1,), score that begins each bin but the first
    low, high : (bins,), probability
    """

    edge: Floats
    low: Floats
    high: Floats

    @classmethod
    def fit(cls, score: Floats, outcome: Ints, weight: Floats | None = None) -> VennAbersBand:
        """Fit on out-of-fold scores, cut into at most 400 bins of equal size, the upper tail finer.

        Parameters
        ----------
        score : (n,)
        outcome : (n,), 0 or 1
        weight : (n,), optional
            Sampling weights. The patient of the score then counts as much as a calibration patient of the same outcome: where few rows
            stand for many, the band is as wide as these few make it (conformal prediction under sampling, Tibshirani et al. 2019).
        """
        row_weight = row_weights(len(score), weight)
        n = float(row_weight.sum())
        upper_tail = 1 - np.geomspace(1, 1 / n, _BINS // 2)
        shares = np.concatenate([np.linspace(0, 1, _BINS // 2, endpoint=False), upper_tail])
        edge = np.unique(weighted_quantile(score, shares, weight))[1:]
        bin_of_row = np.searchsorted(edge, score, side="right")
        rows = np.bincount(bin_of_row, weights=row_weight, minlength=len(edge) + 1)
        events = np.bincount(bin_of_row, weights=row_weight * outcome, minlength=len(edge) + 1)
        bins = list(zip(events.tolist(), rows.tolist(), strict=True))
        below, above = _pools_before(bins, 1), _pools_before(bins[::-1], -1)[::-1]
        own_weight = [float(row_weight[outcome == value].mean()) if (outcome == value).any() else 1.0 for value in (0, 1)]
        low, high = (
            [_isotonic_rate((e + value * own, r + own), pools[0], pools[1]) for (e, r), *pools in zip(bins, below, above, strict=True)]
            for value, own in enumerate(own_weight)
        )
        return cls(edge, np.maximum.accumulate(low), np.maximum.accumulate(high))

    def interval(self, score: Floats, risk: Floats) -> tuple[Floats, Floats]:
        """Return the band (q,), (q,) of scores and their calibrated risks; it always contains the risk."""
        index = np.searchsorted(self.edge, score, side="right")
        return np.minimum(self.low[index], risk), np.maximum(self.high[index], risk)


def _pools_before(bins: list[tuple[float, float]], sign: int) -> list[_Pool | None]:
    """Pool the (events, rows) of the bins before each bin until rates rise (sign 1) or fall (-1); return the pool nearest to each bin.

    A pool refers to the next one, so that all bins share their pools with those before them.
    """
    last: _Pool | None = None
    before = []
    for e, r in bins:
        before.append(last)
        while last is not None and sign * (last[0] * r - e * last[1]) >= 0:
            e, r, last = e + last[0], r + last[1], last[2]  # noqa: PLW2901
        last = (e, r, last)
    return before


def _isotonic_rate(one: tuple[float, float], below: _Pool | None, above: _Pool | None) -> float:
    """Return the event rate of one (events, rows) bin after pooling it with the neighbouring pools that violate the order."""
    e, r = one
    while True:
        if below is not None and below[0] * r >= e * below[1]:
            e, r, below = e + below[0], r + below[1], below[2]
        elif above is not None and e * above[1] >= above[0] * r:
            e, r, above = e + above[0], r + above[1], above[2]
        else:
            return e / r
