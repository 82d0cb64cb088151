"""Six ways to guess from a synthetic table whether a row was among those it was made from.

An attacker holds the row, the synthetic table, and real rows that were certainly not used (the reference). Each attack gives each row
a score; the higher, the likelier a member.

Letters: q rows asked about, s synthetic rows, r reference rows, p coordinates.

References
----------
van Breugel et al.: Membership inference attacks against synthetic data through overfitting detection (2023; DOMIAS).
Chen et al.: GAN-Leaks (2020), calibrated nearest distance. Hilprecht et al.: Monte Carlo and reconstruction membership inference attacks
against generative models (2019). Houssiau et al.: TAPAS (2022), attacks on tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.edit_distance import Letters, edit_distance, written
from nearward.evaluation.tables.neighbors import Embeddings, TableEmbedding, nearest_neighbors, sample_rows
from nearward.tabular.ensemble.extra_trees import grow, shares
from nearward.tabular.typing import Floats, Ints

NEAR_COPY = "near copy"
ATTACKS = ("density ratio", "nearest neighbour", "local density", "classifier", "edit distance", NEAR_COPY)
_NEIGHBOURS = 5
_COUNTED = 40  # synthetic neighbours that are weighed; further ones weigh nothing
_AXES = 8  # of the space where densities are estimated
_TREES = 100
_CANDIDATES = 3  # nearest rows whose edit distance is computed; all would be quadratic in letters
_NEAR = 0.01  # share of true non-members that a call of "copy" may cost
_MOST_SYNTHETIC, _MOST_MODELLED, _MOST_WRITTEN = 50_000, 10_000, 1_000
_AT_A_TIME = 500


@dataclass(frozen=True)
class Rows:
    """Rows in the two forms that attacks read: points (n, p) and letters (n, w)."""

    points: Embeddings
    letters: Letters

    @classmethod
    def of(cls, frame: pl.DataFrame, space: TableEmbedding) -> Rows:
        """Read a frame."""
        return cls(space.transform(frame), written(frame))

    def take(self, rows: Ints) -> Rows:
        """Return some of the rows."""
        return Rows(self.points[rows], self.letters[rows])

    def __len__(self) -> int:
        return len(self.points)


def attack(asked: Rows, synthetic: Rows, reference: Rows, seed: int) -> tuple[Floats, Floats]:
    """Score rows by every attack.

    Returns
    -------
    scores : (q, 6), in the order of ``ATTACKS``; NaN where an attack was not run on a row, to save time
    strangeness : (q,), distance to the nearest reference row: how much of an outlier a row is
    """
    synthetic = synthetic.take(sample_rows(len(synthetic), _MOST_SYNTHETIC, seed))
    to_made, made = nearest_neighbors(asked.points, synthetic.points, _COUNTED)
    to_real, real = nearest_neighbors(asked.points, reference.points, _NEIGHBOURS)
    scores = np.column_stack(
        [
            _density_ratio(asked.points, synthetic.points, reference.points, seed),
            to_real[:, 0] - to_made[:, 0],
            _local_density(to_made, to_real[:, 0]),
            _classified(asked.points, synthetic.points, reference.points, seed),
            _edits(asked, synthetic, reference, made[:, :_CANDIDATES], real[:, :_CANDIDATES]),
            _near_copies(to_made[:, 0], to_real[:, 0], synthetic.points, reference.points),
        ]
    )
    return scores, to_real[:, 0]


def _density_ratio(asked: Embeddings, synthetic: Embeddings, reference: Embeddings, seed: int) -> Floats:
    """Log of the synthetic density over the real one, by Gaussian kernels in the leading principal axes."""
    synthetic = synthetic[sample_rows(len(synthetic), _MOST_MODELLED, seed + 1)]
    both = np.concatenate([synthetic, reference]).astype(np.float64)
    centre = both.mean(axis=0)
    value, axes = np.linalg.eigh(np.cov(both - centre, rowvar=False).reshape(both.shape[1], -1))
    kept = np.argsort(-value)[:_AXES]
    kept = kept[value[kept] > 1e-9]
    turn = axes[:, kept] / np.sqrt(value[kept])
    placed = [(part - centre) @ turn for part in (asked, synthetic, reference)]
    return _log_density(placed[0], placed[1]) - _log_density(placed[0], placed[2])


def _local_density(to_made: Floats, to_real: Floats) -> Floats:
    """Count the synthetic rows around each row, each by how near it is for half the distance to the nearest real row (q,)."""
    width = np.maximum(to_real / 2, 1e-6)[:, None]
    return np.asarray(np.exp(-0.5 * np.square(to_made / width)).sum(axis=1))


def _log_density(asked: Floats, among: Floats) -> Floats:
    """Gaussian kernels of Scott's width, up to a constant that is the same for all rows (q,)."""
    width = len(among) ** (-1 / (among.shape[1] + 4))
    found = np.empty(len(asked))
    length = np.square(among).sum(axis=1)
    for i in range(0, len(asked), _AT_A_TIME):
        part = asked[i : i + _AT_A_TIME]
        exponent = part @ among.T - 0.5 * length - 0.5 * np.square(part).sum(axis=1, keepdims=True)
        exponent /= width**2
        top = exponent.max(axis=1, keepdims=True)
        exponent -= top
        found[i : i + _AT_A_TIME] = np.log(np.exp(exponent, out=exponent).sum(axis=1)) + top[:, 0]
    return found


def _classified(asked: Embeddings, synthetic: Embeddings, reference: Embeddings, seed: int) -> Floats:
    """Chance of being synthetic, by deep trees that know both tables by heart (q,)."""
    synthetic = synthetic[sample_rows(len(synthetic), _MOST_MODELLED, seed + 2)]
    made = np.repeat([1, 0], [len(synthetic), len(reference)])
    return shares(grow(np.concatenate([synthetic, reference]), made, seed, _TREES, balanced=True), asked)[:, 1]


def _edits(asked: Rows, synthetic: Rows, reference: Rows, made: Ints, real: Ints) -> Floats:
    """How many fewer letters must change to reach a synthetic row than to reach a real one (q,)."""
    rows = sample_rows(len(asked), _MOST_WRITTEN, 0)
    least = []
    for table, near in ((reference, real), (synthetic, made)):
        one = np.repeat(asked.letters[rows], near.shape[1], axis=0)
        far = edit_distance(one, table.letters[near[rows].ravel()])
        least.append(far.reshape(len(rows), -1).min(axis=1))
    score = np.full(len(asked), np.nan)
    score[rows] = least[0] - least[1]
    return score


def _near_copies(to_made: Floats, to_real: Floats, synthetic: Embeddings, reference: Embeddings) -> Floats:
    """Call rows copied that lie nearer to a synthetic row, for their surroundings, than all but 1 % of true non-members do: 0 or 1 (q,).

    The other attacks rank all rows, and a few copies among many rows hardly move a rank; this one sees nothing else.
    """
    own_made = nearest_neighbors(reference, synthetic, 1)[0][:, 0]
    own_real = nearest_neighbors(reference, reference, 2)[0][:, 1]  # the first is the row itself
    little = 1e-3 * max(float(np.median(own_real)), 1e-6)  # equal rows on both sides: no call
    threshold = np.quantile((own_made + little) / (own_real + little), _NEAR, method="lower")
    return ((to_made + little) / (to_real + little) < threshold).astype(np.float64)
