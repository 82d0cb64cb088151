"""Gaussian and exponential mechanism and thresholded histograms; each release is charged to the accountant.

Counts of rows are whole numbers, and so is their noise: the sampler is exact (``discrete_noise.py``), and no floating-point number is
rounded before or after. Noise comes from the operating system's cryptographic generator, never from a seed: with a known seed, or a
generator that can be predicted, the noise could be subtracted.

Shapes: c bins, categories or candidates.

References
----------
Canonne, Kamath, Steinke: The discrete Gaussian for differential privacy (2020): theorem 14 for rho of several counts, proposition 25 for
the tail. Korolova et al.: Releasing search queries and clicks privately (2009), thresholds for undeclared categories. Cesar and Rogers:
Bounding, concentrating, and truncating (2021), the exponential mechanism's rho of epsilon² / 8.
"""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.discrete_noise import discrete_gaussian, exponential_choice, noise_source
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Bools, Floats

Counts = Floats

_STEPS = 2**20  # variances and epsilons are fractions of this denominator
_SCORE_STEPS = 2**10  # scores of the exponential mechanism are rounded down to whole multiples of 1 / this


class Mechanisms:
    """Differentially private mechanisms with one accountant.

    Parameters
    ----------
    accountant : PrivacyAccountant
    noise_seed : int, optional
        For tests only: reproducible noise is not private. By default the noise is the operating system's.
    """

    def __init__(self, accountant: PrivacyAccountant, noise_seed: int | None = None) -> None:
        self.accountant = accountant
        self._source = noise_source(noise_seed)

    @property
    def sensitivity(self) -> int:
        """Sensitivity of counts, also of sums of absolute differences of counts: the contribution bound."""
        return self.accountant.rows_per_patient

    def noise_variance(self, rho: float) -> Fraction:
        """Return the variance parameter of the discrete Gaussian for counts with a privacy loss of at most rho, in rows².

        All rows of a patient may be in one bin: the L2 sensitivity of a histogram is the number of rows per patient. The variance is
        rounded up, so that the loss is not above the rho that is charged.
        """
        exact = Fraction(self.sensitivity**2) / (2 * Fraction(rho))
        return Fraction(math.ceil(exact * _STEPS), _STEPS)

    def noise_scale(self, rho: float) -> float:
        """Return the square root of ``noise_variance``: the standard deviation of the noise is at most that, in rows."""
        return math.sqrt(self.noise_variance(rho))

    def counts(self, counts: Counts, rho: float, what: str) -> Counts:
        """Discrete Gaussian mechanism: return noisy counts of the same shape, whole numbers of any sign.

        Raises
        ------
        InputError
            A count is no whole number: the sensitivity would be another.
        """
        self.accountant = self.accountant.charge(what, rho, noise=f"discrete Gaussian, sd {self.noise_scale(rho):.3g} rows")
        return self._add_noise(counts, rho, what)

    def select_categories(self, counts: Counts, rho: float, delta: float, what: str) -> tuple[Bools, Counts]:
        """Select the categories whose noisy counts exceed a threshold; return the mask and the noisy counts (c,).

        The probability that any category of a single patient alone is selected is at most ``delta``: the patient has at most
        ``sensitivity`` of them, each of at most as many rows, and the noise exceeds a whole number m with at most the probability that a
        Gaussian of the same variance parameter does.
        """
        sd = self.noise_scale(rho)
        threshold = math.ceil(self.sensitivity - sd * NormalDist().inv_cdf(delta / self.sensitivity))
        noise = f"discrete Gaussian, sd {sd:.3g} rows; levels named above {threshold} rows"
        self.accountant = self.accountant.charge(what, rho, delta, noise)
        noisy = self._add_noise(counts, rho, what)
        return noisy > threshold, noisy

    def choose(self, scores: Floats, rho: float, what: str) -> int:
        """Exponential mechanism: choose one of several by their scores (c,), whose sensitivity is at most ``sensitivity``.

        Scores are rounded down to multiples of 1/1024. Their sensitivity is taken as one such step larger, which covers the rounding errors
        of scores that were computed in floating point.
        """
        epsilon = Fraction(math.isqrt(math.floor(8 * Fraction(rho) * _STEPS**2)), _STEPS)  # rounded down
        self.accountant = self.accountant.charge(what, rho, noise=f"exponential mechanism, epsilon {float(epsilon):.3g}")
        steps = [math.floor(score * _SCORE_STEPS) for score in np.asarray(scores, dtype=np.float64).tolist()]
        return exponential_choice(steps, epsilon / (2 * (self.sensitivity * _SCORE_STEPS + 1)), self._source)

    def _add_noise(self, counts: Counts, rho: float, what: str) -> Counts:
        whole = np.asarray(counts)
        if not (np.isfinite(whole).all() and (whole == np.rint(whole)).all()):
            raise InputError(f"{what}: counts of rows must be whole numbers")
        variance = self.noise_variance(rho)
        noise = [discrete_gaussian(variance, self._source) for _ in range(whole.size)]
        return np.asarray(whole + np.array(noise, dtype=np.float64).reshape(whole.shape))
