"""The bootstrap by blocks: patients are assigned to a few dozen random blocks, and blocks are drawn with replacement.

Whatever is a sum over rows is summed once per block, and every resample is then a product of two small matrices.

Shapes: n rows, g blocks, b resamples.

References
----------
Davison and Hinkley: Bootstrap Methods and their Application (1997), 3.8 (resampling of clusters).
Politis and Romano: Large sample confidence regions based on subsamples under minimal assumptions (1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.evaluation.stats.confidence import LEVEL, Estimate
from nearward.tabular.typing import Floats, Ints

RESAMPLES = 300
_BLOCKS = 60  # enough for a spread known to about 10 %
_SUBSAMPLE = 0.25
# A statistic with a kink, such as the sum of |difference|, near the kink: drawing with replacement overstates its spread by up to two
# thirds, subsampling does not. Its spread is that of a quarter of the rows, and a finite population's: hence this factor.
SUBSAMPLE_SCALE = (_SUBSAMPLE / (1 - _SUBSAMPLE)) ** 0.5


@dataclass(frozen=True)
class BlockBootstrap:
    """The block of each row, and the weight of each block in each resample.

    Parameters
    ----------
    block : (n,), block numbers
    weight : (b, g), how often each block is drawn in each resample
    """

    block: Ints
    weight: Floats

    @classmethod
    def with_replacement(cls, patient_ids: Ints, seed: int, resamples: int = RESAMPLES) -> BlockBootstrap:
        """Assign patients to blocks of nearly equal size and draw blocks with replacement."""
        rng = np.random.default_rng(seed)
        patients, number = np.unique(patient_ids, return_inverse=True)
        count = min(_BLOCKS, len(patients))
        block = (rng.permutation(len(patients)) % count)[number]
        return cls(block, rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64))

    @classmethod
    def subsampling(cls, patient_ids: Ints, seed: int, resamples: int = RESAMPLES) -> BlockBootstrap:
        """Assign patients to blocks and draw a quarter of the blocks without replacement, see ``SUBSAMPLE_SCALE``."""
        rng = np.random.default_rng(seed)
        blocks = cls.with_replacement(patient_ids, seed, resamples=1)
        count = blocks.weight.shape[1]
        drawn = np.argsort(rng.random((resamples, count)), axis=1) < max(round(_SUBSAMPLE * count), 1)
        return cls(blocks.block, drawn.astype(np.float64))

    def sums(self, values: Floats) -> Floats:
        """Sum values (n,) or (n, k) within blocks: (g,) or (g, k)."""
        count = self.weight.shape[1]
        if values.ndim == 1:
            return np.asarray(np.bincount(self.block, weights=values, minlength=count), dtype=np.float64)
        return np.stack([np.bincount(self.block, weights=column, minlength=count) for column in values.T], axis=1)

    def means(self, values: Floats) -> Floats:
        """Mean of values (n,) in each resample (b,)."""
        rows = np.bincount(self.block, minlength=self.weight.shape[1])
        return np.asarray((self.weight @ self.sums(values)) / (self.weight @ rows))


def percentile_interval(value: float, resampled: Floats, n: int, low: float = 0.0, high: float = 1.0) -> Estimate:
    """Return an estimate with the bootstrap's percentile interval, clipped to [low, high] and around the value.

    The resamples are first shifted so that their mean is the value: a resample holds fewer different rows than the sample did,
    which biases distances between tables upwards.
    """
    shifted = resampled + (value - resampled.mean())
    tail = (1 - LEVEL) / 2
    below, above = np.quantile(shifted, [tail, 1 - tail])
    clipped = np.clip([value, min(below, value), max(above, value)], low, high)
    return Estimate(float(clipped[0]), float(clipped[1]), float(clipped[2]), n)
