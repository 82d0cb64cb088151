"""A local recalibration of log-odds, the level or level and spread: an empirical-Bayes estimate between the model as it came and the site.

Most sites are like the source, a few are not. So the prior is a mixture of a narrow and a wide normal distribution, for the level and for
the slope each. The estimate is the posterior mean, with Laplace's approximation of the evidence: a few events move it little, events that
only another level explains move it all the way.

Shapes: n local rows, p parameters (1 or 2).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.typing import Floats, Ints

Kind = Literal["none", "intercept", "intercept and slope"]
# Standard deviation over sites -> how many sites are such. Validations over centres find levels that differ by .1 to .5 log-odds; of the
# priors that were tried at 26 sites of four cohorts this one lost least with few events (docs/benchmarks/another-site.md).
_INTERCEPT_SD = {0.15: 0.95, 1.0: 0.05}
_SLOPE_SD = {0.1: 0.95, 0.5: 0.05}
_STEPS, _TOLERANCE = 50, 1e-10


@dataclass(frozen=True)
class Recalibration:
    """Local log-odds ``intercept + slope * z`` of log-odds ``z``."""

    intercept: float = 0.0
    slope: float = 1.0

    @classmethod
    def fit(cls, log_odds: Floats, outcome: Ints, kind: Kind) -> Recalibration:
        """Fit on log-odds (n,) and outcomes (n,)."""
        if kind == "none":
            return cls()
        centre = float(log_odds.mean())  # level and spread are then nearly independent
        design = np.column_stack([np.ones_like(log_odds), log_odds - centre])
        spreads = [_INTERCEPT_SD, _SLOPE_SD] if kind == "intercept and slope" else [_INTERCEPT_SD]
        modes, log_weight = [], []
        for deviations in itertools.product(*spreads):
            mode, evidence = _posterior_mode(design[:, : len(spreads)], log_odds, outcome, np.array(deviations) ** -2.0)
            modes.append(mode)
            log_weight.append(evidence + sum(np.log(sd_weights[sd]) for sd_weights, sd in zip(spreads, deviations, strict=True)))
        weight = np.exp(np.array(log_weight) - max(log_weight))
        intercept, change = np.append(weight @ np.array(modes) / weight.sum(), 0.0)[:2].tolist()
        return cls(intercept - change * centre, max(1 + change, 0.0))

    def log_odds(self, log_odds: Floats) -> Floats:
        """Return the local log-odds (n,)."""
        return np.asarray(self.intercept + self.slope * log_odds)

    def calibrator(self, calibrator: Calibrator) -> Calibrator:
        """Return a calibrator whose log-odds are those of the one given, recalibrated."""
        return Calibrator(
            calibrator.centre,
            calibrator.scale,
            self.slope * calibrator.rise,
            self.slope * calibrator.fall,
            self.slope * calibrator.shift + self.intercept,
        )

    def band(self, band: VennAbersBand) -> VennAbersBand:
        """Return a band whose ends are those of the one given, recalibrated."""
        low, high = (expit(self.log_odds(logit(end, 1e-6))) for end in (band.low, band.high))
        return VennAbersBand(band.edge, low, high)


def cross_fit(log_odds: Floats, outcome: Ints, fold: Ints, kind: Kind) -> Floats:
    """Return each row's log-odds (n,) recalibrated on the rows of the other folds."""
    out = np.empty(len(log_odds))
    for f in np.unique(fold):
        train = fold != f
        out[~train] = Recalibration.fit(log_odds[train], outcome[train], kind).log_odds(log_odds[~train])
    return out


def _posterior_mode(design: Floats, offset: Floats, outcome: Ints, precision: Floats) -> tuple[Floats, float]:
    """Return the mode (p,) of a logistic regression with an offset (n,) and a normal prior around 0, and Laplace's log evidence."""
    mode = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        risk = expit(offset + design @ mode)
        hessian = design.T @ (design * (risk * (1 - risk))[:, None]) + np.diag(precision)
        step = np.linalg.solve(hessian, design.T @ (outcome - risk) - precision * mode)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
        mode = mode + step
        if np.abs(step).max() < _TOLERANCE:
            break
    log_odds = offset + design @ mode
    log_likelihood = float(outcome @ log_odds - np.logaddexp(0, log_odds).sum())
    log_prior = 0.5 * float(np.log(precision).sum() - precision @ mode**2)
    return mode, log_likelihood + log_prior - 0.5 * float(np.linalg.slogdet(hessian)[1])
