"""Gaussian and exponential mechanism and thresholded histograms; each release is charged to the accountant.

Noise comes from the operating system's entropy, never from a seed: with a known seed the noise could be subtracted.

Shapes: c bins, categories or candidates.

References
----------
Korolova et al.: Releasing search queries and clicks privately (2009), thresholds for undeclared categories.
Cesar and Rogers: Bounding, concentrating, and truncating (2021), the exponential mechanism's rho of epsilon² / 8.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.tabular.typing import Bools, Floats

Counts = Floats


class Mechanisms:
    """Differentially private mechanisms with one accountant.

    Parameters
    ----------
    accountant : PrivacyAccountant
    noise_seed : int, optional
        For tests only: reproducible noise is not private.
    """

    def __init__(self, accountant: PrivacyAccountant, noise_seed: int | None = None) -> None:
        self.accountant = accountant
        self._rng = np.random.default_rng(noise_seed)  # None: from the operating system

    @property
    def sensitivity(self) -> int:
        """Sensitivity of counts, also of sums of absolute differences of counts: the contribution bound."""
        return self.accountant.rows_per_patient

    def noise_scale(self, rho: float) -> float:
        """Return the standard deviation of the Gaussian mechanism for counts with a privacy loss of rho.

        All rows of a patient may be in one bin: the L2 sensitivity of a histogram is the number of rows per patient.
        """
        return self.sensitivity / math.sqrt(2 * rho)

    def counts(self, counts: Counts, rho: float, what: str) -> Counts:
        """Gaussian mechanism: return noisy counts (c,), rounded, so that floating-point digits leak nothing."""
        sd = self.noise_scale(rho)
        self.accountant = self.accountant.charge(what, rho, noise=f"Gaussian, sd {sd:.3g} rows")
        return np.asarray(np.rint(counts + self._rng.normal(0, sd, np.shape(counts))))

    def select_categories(self, counts: Counts, rho: float, delta: float, what: str) -> tuple[Bools, Counts]:
        """Select the categories whose noisy counts exceed a threshold; return the mask and the noisy counts (c,).

        The probability that any category of a single patient alone is selected is at most ``delta``.
        """
        sd = self.noise_scale(rho)
        threshold = math.ceil(self.sensitivity + sd * NormalDist().inv_cdf(1 - delta / self.sensitivity))
        noise = f"Gaussian, sd {sd:.3g} rows; levels named above {threshold} rows"
        self.accountant = self.accountant.charge(what, rho, delta, noise)
        noisy = np.rint(counts + self._rng.normal(0, sd, len(counts)))
        return noisy > threshold, noisy

    def choose(self, scores: Floats, rho: float, what: str) -> int:
        """Exponential mechanism: choose one of several by their scores (c,), whose sensitivity is at most ``sensitivity``."""
        epsilon = math.sqrt(8 * rho)
        self.accountant = self.accountant.charge(what, rho, noise=f"exponential mechanism, epsilon {epsilon:.3g}")
        return int(np.argmax(scores * epsilon / (2 * self.sensitivity) + self._rng.gumbel(size=len(scores))))
