"""The three ways in which anything is told about patients under a privacy budget. Nothing leaves without being charged.

Noise comes from the operating system's entropy, never from a seed: who knows the seed can take the noise away again.

Letters: c cells.

References
----------
Korolova et al.: Releasing search queries and clicks privately (2009), thresholds for levels that nobody declared.
Cesar and Rogers: Bounding, concentrating, and truncating (2021), the exponential mechanism's rho of epsilon² / 8.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.tabular.typing import Floats

Counts = NDArray[np.float64]


class Mechanisms:
    """Noisy answers, and the ledger that each is charged to.

    Parameters
    ----------
    ledger : Ledger
    noise_seed : int, optional
        For tests only: a table whose noise can be drawn again is not private.
    """

    def __init__(self, ledger: PrivacyAccountant, noise_seed: int | None = None) -> None:
        self.ledger = ledger
        self._draw = np.random.default_rng(noise_seed)  # None: from the operating system

    @property
    def most(self) -> int:
        """How far one patient moves a count, or the sum of absolute differences of counts: the rows used of each."""
        return self.ledger.rows_per_patient

    def spread(self, rho: float) -> float:
        """Return the noise's standard deviation for counts at a cost of rho.

        All rows of a patient may fall into one cell: the Euclidean sensitivity of a table of counts is the number of his rows.
        """
        return self.most / math.sqrt(2 * rho)

    def counts(self, counts: Counts, rho: float, what: str) -> Counts:
        """Return counts (c,) with Gaussian noise, rounded, so that the digits of floating-point noise tell nothing."""
        sd = self.spread(rho)
        self.ledger = self.ledger.charge(what, rho, noise=f"Gaussian, sd {sd:.3g} rows")
        return np.asarray(np.rint(counts + self._draw.normal(0, sd, np.shape(counts))))

    def levels(self, counts: Counts, rho: float, delta: float, what: str) -> tuple[NDArray[np.bool_], Counts]:
        """Tell which of a patient-made list of levels may be named, with their noisy counts (c,).

        A level that only one patient has passes the threshold with a probability of at most ``delta``, all his levels together.
        """
        sd = self.spread(rho)
        threshold = math.ceil(self.most + sd * NormalDist().inv_cdf(1 - delta / self.most))
        told = f"Gaussian, sd {sd:.3g} rows; levels named above {threshold} rows"
        self.ledger = self.ledger.charge(what, rho, delta, told)
        noisy = np.rint(counts + self._draw.normal(0, sd, len(counts)))
        return noisy > threshold, noisy

    def choose(self, scores: Floats, rho: float, what: str) -> int:
        """Choose one of several by the exponential mechanism, scores moving by at most ``most`` with one patient (c,)."""
        epsilon = math.sqrt(8 * rho)
        self.ledger = self.ledger.charge(what, rho, noise=f"exponential mechanism, epsilon {epsilon:.3g}")
        return int(np.argmax(scores * epsilon / (2 * self.most) + self._draw.gumbel(size=len(scores))))
