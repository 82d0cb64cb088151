"""The bootstrap by blocks: rows are dealt into a few dozen random blocks, a patient into one, and blocks are drawn with replacement.

Whatever is a sum over rows is summed once per block, and every resample is then a product of two small matrices.

Letters: n rows, g blocks, b resamples.

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

BLOCKS = 60  # enough for a spread known to about 10 %
RESAMPLES = 300
_PART = 0.25
# A statistic with a kink, such as the sum of |difference|, near the kink: drawing with replacement overstates its spread by up to two
# thirds, parts without replacement do not. Their spread is that of a quarter of the rows, and a finite population's: hence this factor.
PART_SCALE = (_PART / (1 - _PART)) ** 0.5


@dataclass(frozen=True)
class Blocks:
    """Which block each row is in, and how often each block is drawn.

    Parameters
    ----------
    of : (n,), block numbers
    weight : (b, g), times each block is drawn in each resample
    """

    of: Ints
    weight: Floats

    @classmethod
    def deal(cls, patient: Ints, seed: int, resamples: int = RESAMPLES) -> Blocks:
        """Deal patients into blocks of nearly equal size and draw the resamples."""
        draw = np.random.default_rng(seed)
        name, number = np.unique(patient, return_inverse=True)
        count = min(BLOCKS, len(name))
        of = (draw.permutation(len(name)) % count)[number]
        return cls(of, draw.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64))

    @classmethod
    def deal_parts(cls, patient: Ints, seed: int, resamples: int = RESAMPLES) -> Blocks:
        """Deal patients into blocks and draw a quarter of the blocks, none twice: subsampling, see ``PART_SCALE``."""
        draw = np.random.default_rng(seed)
        dealt = cls.deal(patient, seed, resamples=1)
        count = dealt.weight.shape[1]
        chosen = np.argsort(draw.random((resamples, count)), axis=1) < max(round(_PART * count), 1)
        return cls(dealt.of, chosen.astype(np.float64))

    def sums(self, values: Floats) -> Floats:
        """Sum values (n,) or (n, k) within blocks: (g,) or (g, k)."""
        count = self.weight.shape[1]
        if values.ndim == 1:
            return np.asarray(np.bincount(self.of, weights=values, minlength=count), dtype=np.float64)
        return np.stack([np.bincount(self.of, weights=column, minlength=count) for column in values.T], axis=1)

    def means(self, values: Floats) -> Floats:
        """Mean of values (n,) in each resample (b,)."""
        rows = np.bincount(self.of, minlength=self.weight.shape[1])
        return np.asarray((self.weight @ self.sums(values)) / (self.weight @ rows))


def between(value: float, draws: Floats, n: int, low: float = 0.0, high: float = 1.0) -> Estimate:
    """Return an estimate with the bootstrap's percentile interval, kept inside [low, high] and around the value.

    The draws are first moved so that their mean is the value: a resample holds fewer different rows than the sample did,
    which makes tables look further apart than they are.
    """
    shifted = draws + (value - draws.mean())
    tail = (1 - LEVEL) / 2
    below, above = np.quantile(shifted, [tail, 1 - tail])
    inside = np.clip([value, min(below, value), max(above, value)], low, high)
    return Estimate(float(inside[0]), float(inside[1]), float(inside[2]), n)
