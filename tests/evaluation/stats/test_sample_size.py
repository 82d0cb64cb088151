"""Riley's criteria against published worked examples.

Sources: the examples and tests of pmsampsize (24 parameters, prevalence .174, Cox-Snell R² .288 or C statistic .89: 623, 662, 221 and 615,
660, 221 rows) and of pmvalsampsize 0.1.0 (prevalence .018, C statistic .8, log-odds N(-5, 2.5), O/E interval of width 1: 905, 4501, 4252);
Riley et al. 2020, BMJ 368:m441 (30 parameters, R² .05: 5,249 rows by the criterion of shrinkage; greatest R² of a prevalence of .05: .33).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from nearward.evaluation.stats.sample_size import (
    cox_snell_r2,
    development_sample_size,
    log_odds_moments,
    max_cox_snell_r2,
    validation_sample_size,
)
from nearward.tabular.errors import InputError


def test_development_as_published() -> None:
    size = development_sample_size(24, 0.174, 0.288)
    assert list(size.criteria.values()) == [623, 662, 221]
    assert (size.rows, size.events) == (662, 116)
    assert list(development_sample_size(24, 0.174, cox_snell_r2(0.174, 0.89)).criteria.values()) == [615, 660, 221]
    assert development_sample_size(30, 0.05, 0.05).criteria["shrinkage"] == 5249
    assert round(max_cox_snell_r2(0.05), 2) == 0.33


def test_validation_as_published() -> None:
    """Published: 905 rows, by steps of .0001 of a standard error; 4501, by simulating 1000 log-odds. Here both are exact."""
    criteria = validation_sample_size(0.018, 0.8, -5, 2.5, oe_width=1).criteria
    assert criteria["C statistic"] == 4252
    assert criteria["observed / expected"] == pytest.approx(905, abs=1)
    assert criteria["calibration slope"] == pytest.approx(4501, rel=0.02)


def test_moments_and_r2_are_those_of_simulated_log_odds() -> None:
    rng = np.random.default_rng(0)
    mean, sd = log_odds_moments(0.2, 0.78)
    separation = 2**0.5 * 0.7722  # the 78 % quantile of the normal distribution
    outcome = rng.random(400_000) < 0.2
    log_odds = np.log(0.25) + separation * (rng.normal(size=400_000) + separation * (outcome - 0.5))
    assert (log_odds.mean(), log_odds.std()) == pytest.approx((mean, sd), abs=0.01)
    assert roc_auc_score(outcome, log_odds) == pytest.approx(0.78, abs=0.003)
    risk = expit(log_odds)
    gain = np.mean(np.log(np.where(outcome, risk / 0.2, (1 - risk) / 0.8)))
    assert 1 - np.exp(-2 * gain) == pytest.approx(cox_snell_r2(0.2, 0.78), abs=0.003)


@pytest.mark.parametrize("call", [lambda: development_sample_size(0, 0.1, 0.1), lambda: development_sample_size(5, 0.05, 0.4),
                                  lambda: development_sample_size(5, 1.0, 0.1), lambda: validation_sample_size(0.1, 0.5, 0, 1),
                                  lambda: cox_snell_r2(0.1, 0.4)])  # fmt: skip
def test_refusals(call) -> None:
    with pytest.raises(InputError, match=r"got|above"):
        call()
