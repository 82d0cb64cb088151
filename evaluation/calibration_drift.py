"""Drift of a deployed risk once outcomes are known: its level, its slope and its ranking, and the step that would mend it.

As with the drift of columns, two things must come together: the interval excludes no drift, and the drift is large enough to matter.

The level is compared with 0: the calibrator sets it on all training events. The slope is compared with 1 in the first run of a model. A
slope that is off there is how the model began, as that of risks that are a little too cautious: later runs have drifted where theirs lies
beyond that one as well. Otherwise the model has been miscalibrated since its first run, which is no drift. The ranking, which depends on
who the patients are, is compared with the first run alone.

References
----------
Davis et al.: Calibration drift in regression and machine learning models for acute kidney injury (2017).
Vergouwe et al.: A closed testing procedure to select an appropriate method for updating prediction models (2017).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import polars as pl

from nearward.evaluation.risk.inputs import MIN_COUNT, read_risk_sample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.results import results_dict
from nearward.evaluation.stats.confidence import Estimate, Result, defined, newcombe
from nearward.tabular.data.validation import validate_target
from nearward.tabular.errors import DataWarning

TOLERANCE = 0.1  # log-odds of level, units of slope: a well calibrated risk lies within
_RANKING_LOSS = 0.02  # AUROC
_KEYS = ("observed_expected", "calibration_in_the_large", "calibration_slope", "auroc")
_RESAMPLES = 500
_ALERT_RATE = 0.05  # of metrics that are not among these keys


@dataclass(frozen=True)
class CalibrationDrift:
    """A risk beside the outcomes that followed.

    Parameters
    ----------
    rows, events : int
        Rows with a known outcome.
    unknown : int
        Scored rows without an outcome.
    metrics : metric's key -> Estimate or why it is undefined
        Observed / expected, calibration in the large, calibration slope, AUROC; empty with fewer than 10 events or rows without.
    """

    rows: int
    events: int
    unknown: int
    metrics: dict[str, Result]

    @property
    def level(self) -> bool:
        """Whether the level has drifted."""
        return _beyond(defined(self.metrics.get("calibration_in_the_large")), 0.0, 0.0)

    @property
    def slope_is_off(self) -> bool:
        """Whether the slope clearly differs from 1."""
        return _beyond(defined(self.metrics.get("calibration_slope")), 1.0, 1.0)

    def slope_drifted_from(self, first: CalibrationDrift | None) -> bool:
        """Whether the slope lies beyond 1 and, where it was off in an earlier first run, beyond that slope too."""
        began = defined(first.metrics.get("calibration_slope")) if first is not None and first is not self else None
        ends = (1.0, began.value if began is not None and _beyond(began, 1.0, 1.0) else 1.0)
        return _beyond(defined(self.metrics.get("calibration_slope")), min(ends), max(ends))

    def drifted_from(self, first: CalibrationDrift | None) -> tuple[str, ...]:
        """Return what has drifted: "level", "slope", "ranking".

        Parameters
        ----------
        first : CalibrationDrift or None
            The first run of the same model whose outcomes are known; the run itself where it is that one.
        """
        ranking = first is not None and self.ranks_worse_than(first)
        drifted = {"level": self.level, "slope": self.slope_drifted_from(first), "ranking": ranking}
        return tuple(name for name, has_drifted in drifted.items() if has_drifted)

    def ranks_worse_than(self, first: CalibrationDrift) -> bool:
        """Whether the AUROC has fallen clearly since the first run; the two are taken as independent."""
        now, before = (defined(one.metrics.get("auroc")) for one in (self, first))
        if now is None or before is None:
            return False
        return before.value - now.value > _RANKING_LOSS and newcombe(now, before)[1] < 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {"rows": self.rows, "events": self.events, "unknown": self.unknown, "metrics": results_dict(self.metrics)}


def measure_calibration_drift(
    scored: pl.DataFrame, outcome: str, risk: str, group: str | None = None, positive: Any = None, seed: int = 0
) -> CalibrationDrift:
    """Compare risks with outcomes.

    Parameters
    ----------
    scored : n rows
        Rows without an outcome, or without a risk, are left out and counted.
    outcome, risk : names of columns
    group : str, optional
        Column of patient identifiers, where patients have several rows.
    positive : value, optional
        The outcome's value that is the event; by default the greater of the two.
    seed : int

    Raises
    ------
    InputError
        An outcome that has more than two values, or a risk outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.uniform(0, 0.4, 2000)
    >>> drift = measure_calibration_drift(pl.DataFrame({"died": rng.random(2000) < 1.5 * risk, "risk": risk}), "died", "risk")
    >>> drift.level, propose_step(drift, drift)
    (True, 'intercept')
    """
    known = scored.drop_nulls([outcome, risk])
    unknown = scored.height - known.height
    if not known.height:
        return CalibrationDrift(0, 0, unknown, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the event may be the commoner value by now
        events = validate_target(known.get_column(outcome), positive=positive, min_classes=1, name=f"outcome {outcome!r}").events
        if min(events, known.height - events) < MIN_COUNT:
            return CalibrationDrift(known.height, events, unknown, {})
        sample, _ = read_risk_sample(known, outcome, [risk], group, positive)
    results = bootstrap_metrics([sample], OperatingPoint(_ALERT_RATE, sample.event_rate), _RESAMPLES, seed).results(risk)
    return CalibrationDrift(sample.rows, sample.events, unknown, {key: results[key] for key in _KEYS})


def propose_step(now: CalibrationDrift | None, first: CalibrationDrift | None) -> str | None:
    """Return the step of an adaptation (``nearward adapt``) that would mend the risks; None where none is needed, or it is not known.

    The weakest step that can mend it: the level alone, level and slope, or the stored patients, which change the ranking.
    """
    if now is None or not now.metrics:
        return None
    if first is not None and now.ranks_worse_than(first):
        return "local patients stored"
    if now.slope_is_off:
        return "intercept and slope"
    return "intercept" if now.level else None


def _beyond(estimate: Estimate | None, low: float, high: float) -> bool:
    """Whether an interval excludes all values that mean no drift, and the estimate lies beyond them by more than the tolerance."""
    if estimate is None:
        return False
    above = estimate.low > high and estimate.value - high > TOLERANCE
    below = estimate.high < low and low - estimate.value > TOLERANCE
    return above or below
