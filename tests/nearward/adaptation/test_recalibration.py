"""A local recalibration lies between the model as it came and the site: nearer to the site, the more events bear it."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.adaptation.recalibration import Recalibration, cross_fit
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.typing import Floats, Ints


def site(n: int, shift: float = 0.0, slope: float = 1.0, seed: int = 0) -> tuple[Floats, Ints]:
    """Log-odds of a model, and outcomes of a site with another level and slope."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-2, 1, n)
    return log_odds, (rng.random(n) < expit(shift + slope * log_odds)).astype(np.int64)


def test_many_events_say_what_the_site_is() -> None:
    fitted = Recalibration.fit(*site(40_000, 0.7, 0.6), "intercept and slope")
    assert (fitted.intercept, fitted.slope) == pytest.approx((0.7, 0.6), abs=0.06)
    level = Recalibration.fit(*site(40_000, -1.2), "intercept")
    assert (level.intercept, level.slope) == (pytest.approx(-1.2, abs=0.06), 1)


def test_few_events_move_it_little_unless_the_model_is_clearly_wrong() -> None:
    same = [Recalibration.fit(*site(60, seed=seed), "intercept").intercept for seed in range(40)]
    assert np.sqrt(np.mean(np.square(same))) < 0.15  # the estimate of the site alone errs by about .4
    other = [Recalibration.fit(*site(60, 2.0, seed=seed), "intercept").intercept for seed in range(40)]
    assert np.mean(other) > 1.2


def test_each_row_is_recalibrated_by_the_others() -> None:
    log_odds, outcome = site(50, 1.0)
    fold = np.arange(50) % 5
    before = cross_fit(log_odds, outcome, fold, "intercept and slope")
    changed = outcome.copy()
    changed[fold == 2] = 1 - changed[fold == 2]
    after = cross_fit(log_odds, changed, fold, "intercept and slope")
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert (before[fold != 2] != after[fold != 2]).all()
    np.testing.assert_array_equal(cross_fit(log_odds, outcome, fold, "none"), log_odds)
