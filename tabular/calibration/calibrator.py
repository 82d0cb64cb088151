"""From scores to honest probabilities: monotone calibration, prior correction, a conformal band, novelty.

Everything here is fitted on scores of rows that the scoring model had not seen.

Letters: n calibration rows, q query rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

_Pool = tuple[float, float, Any]  # events, rows, the next pool further away or None

_HUGE = 1e150  # squares of numbers up to here are still numbers
_BINS = 400  # of the band's step functions


def log_odds(risk: ArrayLike, floor: float = 1e-4) -> Floats:
    """Return log(p / (1 - p)), with p kept ``floor`` away from 0 and 1."""
    p = np.clip(np.asarray(risk, dtype=np.float64), floor, 1 - floor)
    return np.asarray(np.log(p) - np.log1p(-p))


def logistic(log_odds: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-z)), without overflow."""
    z = np.asarray(log_odds, dtype=np.float64)
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1 / (1 + small), small / (1 + small)))


def log_loss(log_odds: Floats, outcome: NDArray[Any]) -> float:
    """Return the mean negative log-likelihood of outcomes, or of probabilities of them, in nats."""
    return float(np.mean(np.logaddexp(0, log_odds) - outcome * log_odds))


@dataclass(frozen=True)
class Calibrator:
    """A monotone map from a score to log-odds: ``rise * softplus(z) - fall * softplus(-z) + shift``, ``z`` standardised.

    With rise = fall it is Platt's sigmoid; the two slopes let the upper and the lower tail bend differently, as beta
    calibration does on log-odds.

    Parameters
    ----------
    centre, scale : float, of the scores it was fitted on
    rise, fall : float, not negative
    shift : float

    References
    ----------
    Platt (1999); Kull, Silva Filho, Flach: Beta calibration (2017).
    """

    centre: float
    scale: float
    rise: float
    fall: float
    shift: float

    @classmethod
    def fit(cls, score: Floats, outcome: Ints, slopes: int = 2) -> Calibrator:
        """Fit by penalised maximum likelihood; ``slopes`` is 1 (sigmoid) or 2 (beta), and 0 where the score is constant."""
        score = score.clip(-_HUGE, _HUGE)
        centre, scale = float(score.mean()), float(score.std())
        events = float(outcome.sum())
        target = np.where(outcome == 1, (events + 1) / (events + 2), 1 / (len(outcome) - events + 2))  # Platt's: no slope runs off
        prevalence = float(target.mean())
        if scale <= 1e-9 * float(np.abs(score).max()):  # a constant score says nothing, rounding apart, wherever a new one lies
            return cls(centre, max(1.0, abs(centre)), 0.0, 0.0, float(np.log(prevalence / (1 - prevalence))))
        up, down = _halves((score - centre) / scale)
        shrinkage = 1.0 / len(outcome)  # towards equal slopes, as strong as one row

        def objective(free: Floats) -> tuple[float, Floats]:
            rise, fall, shift = free[0], free[slopes - 1], free[-1]
            z = rise * up - fall * down + shift
            error = (logistic(z) - target) / len(outcome)
            grad = np.zeros(len(free))
            grad[0] += error @ up + 2 * shrinkage * (rise - fall)
            grad[slopes - 1] += -error @ down - 2 * shrinkage * (rise - fall)
            grad[-1] = error.sum()
            return log_loss(z, target) + shrinkage * (rise - fall) ** 2, grad

        start = np.append(np.ones(slopes), np.log(prevalence / (1 - prevalence)))
        bounds = [(0.0, None)] * slopes + [(None, None)]
        best = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-9}).x
        return cls(centre, scale, float(best[0]), float(best[slopes - 1]), float(best[-1]))

    def log_odds(self, score: Floats) -> Floats:
        """Return calibrated log-odds for scores (q,)."""
        up, down = _halves((score.clip(-_HUGE, _HUGE) - self.centre) / self.scale)
        out: Floats = self.rise * up - self.fall * down + self.shift
        return out


def _halves(z: Floats) -> tuple[Floats, Floats]:
    return np.logaddexp(0, z), np.logaddexp(0, -z)


def correct_prior(risk: ArrayLike, trained: float, deployed: float) -> Floats:
    """Carry risks from one prevalence to another, in closed form.

    Holds where the outcome became more or less frequent and patients with (and without) it still look the same.

    Parameters
    ----------
    risk : (q,), probability
    trained : float, prevalence the risks are calibrated to
    deployed : float, prevalence where they will be used

    Raises
    ------
    InputError
        A prevalence outside (0, 1).

    References
    ----------
    Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori probabilities (2002).

    Examples
    --------
    >>> correct_prior([0.5], trained=0.5, deployed=0.1).round(3).tolist()
    [0.1]
    """
    for name, value in (("trained", trained), ("deployed", deployed)):
        if not 0 < value < 1:
            raise InputError(f"prevalence {name}={value} must lie between 0 and 1")
    p = np.asarray(risk, dtype=np.float64)
    with_it, without = p * deployed / trained, (1 - p) * (1 - deployed) / (1 - trained)
    return np.asarray(with_it / (with_it + without))


@dataclass(frozen=True)
class Band:
    """A Venn-Abers band: what the risk would be if this patient were a calibration patient without, and with, the outcome.

    The conformal method for probabilities: with scores of one fixed model and exchangeable patients, one of the two ends is perfectly
    calibrated. Fitted on cross-fitted scores it is approximate: new rows are scored by the mean of the folds' models. It is narrow where
    many calibration patients had such a score and wide where few had; it says how well the *risk* is known, not what will happen.

    Parameters
    ----------
    edge : (bins - 1,), score that begins each bin but the first
    low, high : (bins,), probability

    References
    ----------
    Vovk, Petej: Venn-Abers predictors (2014).
    """

    edge: Floats
    low: Floats
    high: Floats

    @classmethod
    def fit(cls, score: Floats, outcome: Ints) -> Band:
        """Fit on out-of-fold scores (n,), cut into at most 400 bins of equal size, the upper tail finer."""
        n = len(score)
        reach = 1 - np.geomspace(1, 1 / n, _BINS // 2)
        cut = np.unique(np.quantile(score, np.concatenate([np.linspace(0, 1, _BINS // 2, endpoint=False), reach])))[1:]
        place = np.searchsorted(cut, score, side="right")
        rows = np.bincount(place, minlength=len(cut) + 1).astype(float)
        events = np.bincount(place, weights=outcome, minlength=len(cut) + 1)
        bins = list(zip(events.tolist(), rows.tolist(), strict=True))
        below, above = _pooled(bins, 1), _pooled(bins[::-1], -1)[::-1]
        ends = [
            [_rising_at((e + imagined, r + 1), left, right) for (e, r), left, right in zip(bins, below, above, strict=True)]
            for imagined in (0, 1)
        ]
        return cls(cut, np.maximum.accumulate(ends[0]), np.maximum.accumulate(ends[1]))

    def around(self, score: Floats, risk: Floats) -> tuple[Floats, Floats]:
        """Return the band (q,), (q,) for scores and their calibrated risks; it always holds the risk."""
        place = np.searchsorted(self.edge, score, side="right")
        return np.minimum(self.low[place], risk), np.maximum(self.high[place], risk)


def _pooled(bins: list[tuple[float, float]], sign: int) -> list[_Pool | None]:
    """Pool the (events, rows) of the bins before each bin until rates rise (sign 1) or fall (-1); of each the pool nearest to the bin.

    A pool knows the next one, so that all bins share their pools with those before them.
    """
    last: _Pool | None = None
    before = []
    for e, r in bins:
        before.append(last)
        while last is not None and sign * (last[0] * r - e * last[1]) >= 0:
            e, r, last = e + last[0], r + last[1], last[2]  # noqa: PLW2901
        last = (e, r, last)
    return before


def _rising_at(one: tuple[float, float], below: _Pool | None, above: _Pool | None) -> float:
    """Event rate of one bin, with rows, between pools that rise: it is pooled with those that it does not rise from or to."""
    e, r = one
    while True:
        if below is not None and below[0] * r >= e * below[1]:
            e, r, below = e + below[0], r + below[1], below[2]
        elif above is not None and e * above[1] >= above[0] * r:
            e, r, above = e + above[0], r + above[1], above[2]
        else:
            return e / r


@dataclass(frozen=True)
class DistanceQuantiles:
    """How unusual a distance is among the stored patients' own distances: 0 the most usual, 1 further than any.

    Parameters
    ----------
    knots : (m,), quantiles of the stored rows' leave-one-out distances, evenly spaced
    """

    knots: Floats

    @classmethod
    def fit(cls, distance: Floats, knots: int = 1001) -> DistanceQuantiles:
        """Fit on leave-one-out distances (n,)."""
        return cls(np.quantile(distance, np.linspace(0, 1, knots)))

    def score(self, distance: Floats) -> Floats:
        """Return the share of stored patients whose distance is smaller (q,)."""
        out: Floats = np.searchsorted(self.knots, distance, side="left") / len(self.knots)
        return out
