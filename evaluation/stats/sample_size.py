"""Sample sizes of prediction models of a binary outcome, by Riley's criteria: for development, and for external validation.

References
----------
Riley et al.: Minimum sample size for developing a multivariable prediction model: part II, binary and time-to-event outcomes (2019).
Riley et al.: Calculating the sample size required for developing a clinical prediction model (2020), BMJ 368:m441.
Riley et al.: Minimum sample size for external validation of a clinical prediction model with a binary outcome (2021).
Riley et al.: A note on estimating the Cox-Snell R² from a reported C statistic (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import integrate, special, stats
from scipy.optimize import brentq

from nearward.tabular.errors import InputError

_Z = 1.96
_DIFFERENCE = 0.05  # greatest optimism in Nagelkerke's R², and margin of error of the overall risk


@dataclass(frozen=True)
class SampleSize:
    """Rows that each criterion needs.

    Parameters
    ----------
    criteria : dict of criterion -> rows
    prevalence : float
    """

    criteria: dict[str, int]
    prevalence: float

    @property
    def rows(self) -> int:
        """Rows that all criteria need."""
        return max(self.criteria.values())

    @property
    def events(self) -> int:
        """Events among them."""
        return math.ceil(self.rows * self.prevalence)


def development_sample_size(parameters: int, prevalence: float, r2: float, shrinkage: float = 0.9) -> SampleSize:
    """Return the rows needed to develop a regression model.

    They are the least: a model with flexible learners needs more, so that a cohort which fails these criteria is too small for it.

    Parameters
    ----------
    parameters : int
        Candidate predictor parameters: one a number, one less than its categories a category.
    prevalence : float
        Share of events.
    r2 : float
        Anticipated Cox-Snell R² of the model, see ``cox_snell_r2``.
    shrinkage : float
        Expected shrinkage of the coefficients: .9 is an overfitting of 10 %.

    Raises
    ------
    InputError
        Numbers outside their ranges, or an R² that this prevalence cannot have.

    Examples
    --------
    >>> development_sample_size(24, 0.174, 0.288).criteria
    {'shrinkage': 623, 'optimism in R²': 662, 'overall risk': 221}
    """
    _check_shares(prevalence=prevalence, r2=r2, shrinkage=shrinkage)
    if parameters < 1:
        raise InputError(f"parameters must be at least 1, got parameters={parameters}")
    most = max_cox_snell_r2(prevalence)
    if r2 >= min(most, shrinkage):
        raise InputError(f"r2 must be below {min(most, shrinkage):.3f} at this prevalence and shrinkage, got r2={r2}")

    def rows(expected_shrinkage: float) -> int:
        return math.ceil(parameters / ((expected_shrinkage - 1) * math.log(1 - r2 / expected_shrinkage)))

    overall = math.ceil((_Z / _DIFFERENCE) ** 2 * prevalence * (1 - prevalence))
    criteria = {"shrinkage": rows(shrinkage), "optimism in R²": rows(r2 / (r2 + _DIFFERENCE * most)), "overall risk": overall}
    return SampleSize(criteria, prevalence)


def validation_sample_size(
    prevalence: float,
    c_statistic: float,
    mean: float,
    sd: float,
    *,
    oe_width: float = 0.2,
    slope_width: float = 0.2,
    c_width: float = 0.1,
) -> SampleSize:
    """Return the rows needed to validate a model, well calibrated, with 95 % intervals of given widths.

    Parameters
    ----------
    prevalence, c_statistic : float
        Anticipated.
    mean, sd : float
        Of the log-odds of the risks, which are taken to be normally distributed.
    oe_width, slope_width, c_width : float
        Widths of the intervals of observed over expected events, calibration slope, and C statistic.

    Raises
    ------
    InputError
        Numbers outside their ranges.

    Examples
    --------
    >>> validation_sample_size(0.018, 0.8, -5, 2.5, oe_width=1).criteria["C statistic"]
    4252
    """
    _check_shares(prevalence=prevalence, c_statistic=c_statistic)
    if c_statistic <= 0.5 or min(sd, oe_width, slope_width, c_width) <= 0:
        raise InputError("c_statistic must be above .5, and sd and widths above 0")
    oe_se = math.asinh(oe_width / 2) / _Z  # of its logarithm
    observed_expected = (1 - prevalence) / (prevalence * oe_se**2)
    constant, linear, square = (_information(power, mean, sd) for power in (0, 1, 2))
    slope_se = slope_width / (2 * _Z)
    slope = constant / (slope_se**2 * (constant * square - linear**2))
    criteria = {
        "observed / expected": observed_expected,
        "calibration slope": slope,
        "C statistic": _c_rows(prevalence, c_statistic, c_width),
    }
    return SampleSize({name: math.ceil(round(rows, 6)) for name, rows in criteria.items()}, prevalence)


def max_cox_snell_r2(prevalence: float) -> float:
    """Return the greatest Cox-Snell R² that an outcome of this prevalence allows.

    Examples
    --------
    >>> round(max_cox_snell_r2(0.05), 2)
    0.33
    """
    _check_shares(prevalence=prevalence)
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return 1 - math.exp(2 * null)


def cox_snell_r2(prevalence: float, c_statistic: float) -> float:
    """Return the Cox-Snell R² of a calibrated model with a C statistic, its log-odds normal with equal variance given the outcome.

    Riley et al. simulate such log-odds and fit a logistic regression; here its likelihood is integrated.

    Examples
    --------
    >>> round(cox_snell_r2(0.1, 0.8), 2)
    0.11
    """
    _check_shares(prevalence=prevalence, c_statistic=c_statistic)
    separation = _separation(c_statistic)
    odds = math.log(prevalence / (1 - prevalence))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    # by Bayes the log-odds at x are odds + separation * x - separation² / 2, where x is N(0, 1) without and N(separation, 1) with the event
    with_event, without = odds + separation * nodes + separation**2 / 2, odds + separation * nodes - separation**2 / 2
    log_likelihood = prevalence * weights @ special.log_expit(with_event) + (1 - prevalence) * weights @ special.log_expit(-without)
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return float(1 - math.exp(2 * (null - log_likelihood)))


def log_odds_moments(prevalence: float, c_statistic: float) -> tuple[float, float]:
    """Return mean and standard deviation of the log-odds of a calibrated model, under the assumptions of ``cox_snell_r2``.

    Examples
    --------
    >>> mean, sd = log_odds_moments(0.1, 0.8)
    >>> round(mean, 2), round(sd, 2)
    (-2.76, 1.26)
    """
    _check_shares(prevalence=prevalence, c_statistic=c_statistic)
    separation = _separation(c_statistic)
    mean = math.log(prevalence / (1 - prevalence)) + (2 * prevalence - 1) * separation**2 / 2
    return mean, math.sqrt(separation**2 + prevalence * (1 - prevalence) * separation**4)


def _separation(c_statistic: float) -> float:
    """Return the distance of the mean log-odds with and without the event, in units of their standard deviation."""
    if c_statistic <= 0.5:
        raise InputError(f"c_statistic must be above .5, got c_statistic={c_statistic}")
    return math.sqrt(2) * float(stats.norm.ppf(c_statistic))


def _information(power: int, mean: float, sd: float) -> float:
    """Return the mean of p (1 - p) z^power over normal log-odds z."""

    def density(z: float) -> float:
        return float(special.expit(z) * special.expit(-z) * z**power * stats.norm.pdf(z, mean, sd))

    return float(integrate.quad(density, mean - 9 * sd, mean + 9 * sd, limit=200)[0])


def _c_rows(prevalence: float, c: float, width: float) -> float:
    """Return the rows at which Newcombe's standard error of the C statistic gives an interval of this width."""

    def excess(log_rows: float) -> float:
        n = math.exp(log_rows)
        spread = 1 + (n / 2 - 1) * ((1 - c) / (2 - c)) + (n / 2 - 1) * c / (1 + c)
        return 2 * _Z * math.sqrt(c * (1 - c) * spread / (n**2 * prevalence * (1 - prevalence))) - width

    return math.exp(brentq(excess, math.log(2), math.log(1e12), xtol=1e-12))


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise InputError(f"{name} must lie between 0 and 1, got {name}={value!r}")
