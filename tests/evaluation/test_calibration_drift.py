"""Calibration drift: what counts as drift, and which step would mend it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.adaptation.ladder import STEPS
from nearward.evaluation.calibration_drift import CalibrationDrift, measure_calibration_drift, propose_step
from nearward.evaluation.stats.confidence import Estimate


def measure(shift: float = 0.0, slope: float = 1.0, noise: float = 0.0, rows: int = 3000, seed: int = 0) -> CalibrationDrift:
    """Outcomes whose log-odds are ``shift + slope * log-odds`` of the risk; ``noise`` makes the risk rank worse at the same slope."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2, 1, rows)
    died = rng.random(rows) < 1 / (1 + np.exp(-(shift + slope * (z + 2) - 2) - noise * rng.normal(size=rows)))
    return measure_calibration_drift(pl.DataFrame({"died": died, "risk": 1 / (1 + np.exp(-z))}), "died", "risk")


def test_no_drift_has_no_step() -> None:
    drift = measure()
    assert not drift.level
    assert not drift.slope_is_off
    assert drift.drifted_from(drift) == ()
    assert propose_step(drift, drift) is None


@pytest.mark.parametrize(
    ("drift", "step"),
    [(measure(shift=0.6), "intercept"), (measure(slope=0.5), "intercept and slope"), (measure(slope=0.0), "local patients stored")],
    ids=["level", "slope", "ranking"],
)
def test_the_weakest_step_that_can_mend_it(drift: CalibrationDrift, step: str) -> None:
    first = measure(seed=1) if step == "local patients stored" else drift
    assert propose_step(drift, first) == step
    assert step in STEPS  # the names that nearward adapt shows


def test_a_large_cohort_does_not_make_a_small_shift_a_drift() -> None:
    drift = CalibrationDrift(60_000, 9_000, 0, {"calibration_in_the_large": Estimate(0.07, 0.04, 0.10, 60_000)})
    assert not drift.level
    assert CalibrationDrift(60_000, 9_000, 0, {"calibration_in_the_large": Estimate(0.12, 0.09, 0.15, 60_000)}).level


def run_with(slope: float, reach: float = 0.05) -> CalibrationDrift:
    return CalibrationDrift(5000, 500, 0, {"calibration_slope": Estimate(slope, slope - reach, slope + reach, 5000)})


@pytest.mark.parametrize(
    ("first", "now", "drifted"),
    [
        (None, 1.3, True),  # no earlier run: beside 1
        (1.0, 1.3, True),
        (1.3, 1.3, False),  # as the model began
        (1.3, 1.12, False),  # nearer to 1
        (1.3, 1.5, True),
        (1.3, 0.7, True),  # past 1
        (1.3, 0.95, False),
        (0.7, 0.5, True),
        (0.7, 0.72, False),
        (1.08, 1.13, True),  # the first slope is not off: beside 1
    ],
)
def test_a_slope_drifts_beyond_1_and_beyond_what_it_was_in_the_first_run(first: float | None, now: float, drifted: bool) -> None:
    run = run_with(now)
    assert run.slope_drifted_from(None if first is None else run_with(first)) == drifted
    assert propose_step(run, None) == ("intercept and slope" if run.slope_is_off else None)


def test_the_first_run_is_beside_1_and_a_wide_interval_is_no_drift() -> None:
    first = run_with(1.3)
    assert first.drifted_from(first) == ("slope",)
    assert not run_with(1.3, reach=0.31).slope_drifted_from(None)
    assert run_with(1.3, reach=0.29).slope_drifted_from(run_with(0.7, reach=0.4))  # a first slope that may be 1 excuses nothing


def test_few_events_are_not_judged_and_missing_outcomes_are_counted() -> None:
    frame = pl.DataFrame({"died": [True] * 9 + [False] * 300 + [None] * 20, "risk": [0.1] * 329})
    drift = measure_calibration_drift(frame, "died", "risk")
    assert (drift.rows, drift.events, drift.unknown, drift.metrics) == (309, 9, 20, {})
    assert propose_step(drift, None) is None
    alone = measure_calibration_drift(frame.filter(~pl.col("died")), "died", "risk")
    assert (alone.events, alone.metrics) == (0, {})
