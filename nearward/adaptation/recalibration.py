"""A local recalibration of log-odds: the level, or level and spread, shrunk towards leaving them as they are.

Shapes: n local rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.typing import Floats, Ints

Kind = Literal["none", "prevalence", "intercept", "intercept and slope"]
# Standard deviations of the prior over sites: levels differ by half a log-odds, slopes by a fifth (Debray et al. 2014 and later
# validations over centres find as much). A few events then move neither far.
_INTERCEPT_SD, _SLOPE_SD = 0.5, 0.2
_STEPS, _TOLERANCE = 50, 1e-10


@dataclass(frozen=True)
class Recalibration:
    """Local log-odds ``intercept + slope * z`` of log-odds ``z``."""

    intercept: float = 0.0
    slope: float = 1.0

    @classmethod
    def fit(cls, log_odds: Floats, outcome: Ints, kind: Kind, prevalence: float) -> Recalibration:
        """Fit on log-odds (n,) and outcomes (n,).

        Parameters
        ----------
        log_odds, outcome : (n,)
        kind : "none", "prevalence", "intercept" or "intercept and slope"
            "prevalence" is the prior correction in closed form (Saerens 2002): only the outcome's frequency is different.
        prevalence : float
            That the log-odds are calibrated to, for the prior correction.
        """
        if kind == "none":
            return cls()
        if kind == "prevalence":
            return cls(float(logit((outcome.sum() + 0.5) / (len(outcome) + 1)) - logit(prevalence)))
        centre = float(log_odds.mean())  # level and spread are then nearly independent
        design = np.column_stack([np.ones_like(log_odds), log_odds - centre])[:, : 2 if kind == "intercept and slope" else 1]
        precision = np.diag([_INTERCEPT_SD**-2, _SLOPE_SD**-2][: design.shape[1]])
        free = np.zeros(design.shape[1])
        for _ in range(_STEPS):
            risk = expit(log_odds + design @ free)
            hessian = design.T @ (design * (risk * (1 - risk))[:, None]) + precision
            step = np.linalg.solve(hessian, design.T @ (outcome - risk) - precision @ free)
            step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
            free += step
            if np.abs(step).max() < _TOLERANCE:
                break
        intercept, change = float(free[0]), float(free[1]) if len(free) > 1 else 0.0
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


def cross_fit(log_odds: Floats, outcome: Ints, fold: Ints, kind: Kind, prevalence: float) -> Floats:
    """Return each row's log-odds (n,) recalibrated on the rows of the other folds."""
    out = np.empty(len(log_odds))
    for f in np.unique(fold):
        train = fold != f
        out[~train] = Recalibration.fit(log_odds[train], outcome[train], kind, prevalence).log_odds(log_odds[~train])
    return out
