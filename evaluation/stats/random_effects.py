"""Random-effects pooling of one estimate per site: REML, Hartung and Knapp's interval, and a prediction interval for the next site.

The model is ``estimate = mean + site effect + sampling error``, with normal site effects of variance ``tau²`` and sampling variances that
are taken as known. DerSimonian and Laird's estimator is not used: with few sites its ``tau²`` is too small and its interval too narrow.

Shapes: ``k`` sites.

References
----------
Viechtbauer: Bias and efficiency of meta-analytic variance estimators in the random-effects model (2005), for REML.
Hartung and Knapp (2001), Sidik and Jonkman (2002); Knapp and Hartung (2003) for the factor of at least 1.
Higgins, Thompson and Spiegelhalter: A re-evaluation of random-effects meta-analysis (2009), for the prediction interval; as in the R
package metafor it has k - 1 degrees of freedom.
Debray et al.: A guide to systematic review and meta-analysis of prediction model performance (2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from nearward.evaluation.stats.cluster_bootstrap import TRANSFORMS, Scale
from nearward.evaluation.stats.confidence import LEVEL, Estimate
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats

MIN_SITES = 3  # two sites say next to nothing about the variance between sites


@dataclass(frozen=True)
class RandomEffects:
    """A random-effects model of k estimates.

    Parameters
    ----------
    mean : float
    standard_error : float
        Of the mean, by Hartung and Knapp; never below that of the model with known variances.
    tau2 : float
        Variance between sites.
    i2 : float
        Share of the total variance that lies between sites.
    q : float
        Cochran's Q.
    sites : int, k
    """

    mean: float
    standard_error: float
    tau2: float
    i2: float
    q: float
    sites: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over sites."""
        return self._around_mean(self.standard_error)

    @property
    def prediction_interval(self) -> tuple[float, float]:
        """Interval that holds the true value of a next site, drawn from the same population of sites, with a probability of 95 %."""
        return self._around_mean(self._standard_deviation)

    def probability_above(self, value: float) -> float:
        """Probability that the true value of a next site exceeds ``value``.

        References
        ----------
        Wynants et al.: Random-effects meta-analysis of the clinical utility of tests and prediction models (2018).
        """
        return float(stats.t.sf((value - self.mean) / self._standard_deviation, self.sites - 1))

    @property
    def _standard_deviation(self) -> float:
        return float(np.sqrt(self.tau2 + self.standard_error**2))

    def _around_mean(self, deviation: float) -> tuple[float, float]:
        reach = float(stats.t.ppf(0.5 + LEVEL / 2, self.sites - 1)) * deviation
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class PooledEstimate:
    """A metric over sites, on its own scale.

    Parameters
    ----------
    mean : Estimate
        Mean over sites with its interval; ``n`` is the number of sites.
    next_site : Estimate
        The same mean with the interval that holds the true value of a next site with a probability of 95 %.
    tau, i2 : float
        Standard deviation between sites, on the scale on which the sites were pooled, and ``RandomEffects.i2``.
    scale : str
        That scale, see ``bootstrap_interval``.
    """

    mean: Estimate
    next_site: Estimate
    tau: float
    i2: float
    scale: Scale

    @classmethod
    def of(cls, model: RandomEffects, scale: Scale) -> PooledEstimate:
        """Bring a model that was fitted on a scale back to the metric's own."""
        inverse = TRANSFORMS[scale].inverse
        value = inverse(model.mean)
        ends = [tuple(map(inverse, interval)) for interval in (model.interval, model.prediction_interval)]
        mean, next_site = (Estimate(value, low, high, model.sites) for low, high in ends)
        return cls(mean, next_site, float(model.tau2**0.5), model.i2, scale)


def fit_random_effects(estimates: Floats, standard_errors: Floats) -> RandomEffects:
    """Pool estimates of independent sites.

    Parameters
    ----------
    estimates : (k,), finite, on a scale where their errors are about normal
    standard_errors : (k,), above 0

    Raises
    ------
    InputError
        Fewer than 3 sites, or values that are not finite.

    Examples
    --------
    >>> model = fit_random_effects(np.array([0.7, 0.9, 1.4, 1.1]), np.array([0.1, 0.2, 0.2, 0.1]))
    >>> print(f"{model.mean:.2f} ({model.interval[0]:.2f} to {model.interval[1]:.2f}), tau {model.tau2 ** 0.5:.2f}")
    1.00 (0.54 to 1.47), tau 0.25
    """
    y, variance = np.asarray(estimates, dtype=np.float64), np.asarray(standard_errors, dtype=np.float64) ** 2
    if len(y) < MIN_SITES:
        raise InputError(f"{len(y)} sites are too few to pool; at least {MIN_SITES} are needed")
    if not (np.isfinite(y).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise InputError("every site needs a finite estimate and a standard error above 0")
    k = len(y)
    tau2 = _restricted_maximum_likelihood(y, variance)
    weight = 1 / (variance + tau2)
    mean = float(weight @ y / weight.sum())
    spread = max(1.0, float(weight @ (y - mean) ** 2) / (k - 1))
    fixed = 1 / variance
    q = float(fixed @ (y - fixed @ y / fixed.sum()) ** 2)
    typical = (k - 1) * fixed.sum() / (fixed.sum() ** 2 - fixed @ fixed)  # Higgins and Thompson's typical sampling variance
    return RandomEffects(mean, float(np.sqrt(spread / weight.sum())), tau2, float(tau2 / (tau2 + typical)), q, k)


def _restricted_maximum_likelihood(y: Floats, variance: Floats) -> float:
    """Variance between sites at which the score of the restricted likelihood is zero; 0 where it falls from there on."""

    def score(tau2: float) -> float:
        weight = 1 / (variance + tau2)
        residual = y - weight @ y / weight.sum()
        return float(weight**2 @ residual**2 - weight.sum() + weight @ weight / weight.sum())

    if score(0.0) <= 0:
        return 0.0
    upper = max(float(np.var(y, ddof=1)), float(variance.max()))
    while score(upper) > 0:
        upper *= 2
    return float(optimize.brentq(score, 0.0, upper, xtol=1e-12, rtol=1e-12))
