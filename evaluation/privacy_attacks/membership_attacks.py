"""Six membership inference attacks on a synthetic table.

The attacker's auxiliary data are the target row, the synthetic table, and real rows that are certainly not members (the reference). Each
attack scores each target; the higher, the likelier a member.

Shapes: q target rows, s synthetic rows, r reference rows, p dimensions, w characters.

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

from nearward.evaluation.privacy_attacks.edit_distance import Characters, edit_distance, row_texts
from nearward.evaluation.tables.neighbors import Embeddings, TableEmbedding, nearest_neighbors, sample_rows
from nearward.tabular.typing import Floats, Ints

NEAR_COPY = "near copy"
ATTACKS = ("density ratio", "nearest neighbour", "local density", "classifier", "edit distance", NEAR_COPY)
_NEIGHBOURS = 5
_DENSITY_NEIGHBOURS = 40  # synthetic neighbours in the local density; the weight of further ones is negligible
_AXES = 8  # principal axes in which densities are estimated
_TREES = 100
_CANDIDATES = 3  # nearest rows whose edit distance is computed; all pairs would take too long
_COPY_LEVEL = 0.01  # false positive rate of the near-copy attack
_MAX_SYNTHETIC, _MAX_MODELLED, _MAX_EDITED = 50_000, 10_000, 1_000
_BATCH = 500


@dataclass(frozen=True)
class Rows:
    """Rows as embeddings (n, p) and as characters (n, w)."""

    embeddings: Embeddings
    characters: Characters

    @classmethod
    def of(cls, frame: pl.DataFrame, embedding: TableEmbedding) -> Rows:
        """Encode a frame."""
        return cls(embedding.transform(frame), row_texts(frame))

    def take(self, rows: Ints) -> Rows:
        """Return some of the rows."""
        return Rows(self.embeddings[rows], self.characters[rows])

    def __len__(self) -> int:
        return len(self.embeddings)


def attack(targets: Rows, synthetic: Rows, reference: Rows, seed: int) -> tuple[Floats, Floats]:
    """Score targets by every attack.

    Returns
    -------
    scores : (q, 6), in the order of ``ATTACKS``; NaN where an attack was not run on a target, to save time
    outlyingness : (q,), distance to the nearest reference row
    """
    synthetic = synthetic.take(sample_rows(len(synthetic), _MAX_SYNTHETIC, seed))
    synthetic_distance, synthetic_row = nearest_neighbors(targets.embeddings, synthetic.embeddings, _DENSITY_NEIGHBOURS)
    real_distance, real_row = nearest_neighbors(targets.embeddings, reference.embeddings, _NEIGHBOURS)
    to_synthetic, to_real = synthetic_distance[:, 0], real_distance[:, 0]
    scores = np.column_stack(
        [
            _density_ratio(targets.embeddings, synthetic.embeddings, reference.embeddings, seed),
            to_real - to_synthetic,
            _local_density(synthetic_distance, to_real),
            _classifier(targets.embeddings, synthetic.embeddings, reference.embeddings, seed),
            _edit_distance(targets, synthetic, reference, synthetic_row[:, :_CANDIDATES], real_row[:, :_CANDIDATES]),
            _near_copy(to_synthetic, to_real, synthetic.embeddings, reference.embeddings),
        ]
    )
    return scores, to_real


def _density_ratio(targets: Embeddings, synthetic: Embeddings, reference: Embeddings, seed: int) -> Floats:
    """Log ratio of the synthetic to the real density, by Gaussian kernels in the leading principal axes (q,)."""
    synthetic = synthetic[sample_rows(len(synthetic), _MAX_MODELLED, seed + 1)]
    both = np.concatenate([synthetic, reference]).astype(np.float64)
    centre = both.mean(axis=0)
    value, axes = np.linalg.eigh(np.cov(both - centre, rowvar=False).reshape(both.shape[1], -1))
    leading = np.argsort(-value)[:_AXES]
    leading = leading[value[leading] > 1e-9]
    whitening = axes[:, leading] / np.sqrt(value[leading])
    x, x_synthetic, x_reference = ((embeddings - centre) @ whitening for embeddings in (targets, synthetic, reference))
    return _log_density(x, x_synthetic) - _log_density(x, x_reference)


def _local_density(distance: Floats, to_real: Floats) -> Floats:
    """Gaussian kernel density of the nearest synthetic rows, its width half the distance to the nearest real row (q,)."""
    width = np.maximum(to_real / 2, 1e-6)[:, None]
    return np.asarray(np.exp(-0.5 * np.square(distance / width)).sum(axis=1))


def _log_density(x: Floats, sample: Floats) -> Floats:
    """Log density of Gaussian kernels with Scott's width, up to a constant (q,)."""
    width = len(sample) ** (-1 / (sample.shape[1] + 4))
    log_density = np.empty(len(x))
    sq_norm = np.square(sample).sum(axis=1)
    for i in range(0, len(x), _BATCH):
        batch = x[i : i + _BATCH]
        exponent = batch @ sample.T - 0.5 * sq_norm - 0.5 * np.square(batch).sum(axis=1, keepdims=True)
        exponent /= width**2
        largest = exponent.max(axis=1, keepdims=True)
        exponent -= largest
        log_density[i : i + _BATCH] = np.log(np.exp(exponent, out=exponent).sum(axis=1)) + largest[:, 0]
    return log_density


def _classifier(targets: Embeddings, synthetic: Embeddings, reference: Embeddings, seed: int) -> Floats:
    """Probability of being synthetic, by deep trees that memorise both tables (q,)."""
    from sklearn.ensemble import ExtraTreesClassifier

    synthetic = synthetic[sample_rows(len(synthetic), _MAX_MODELLED, seed + 2)]
    is_synthetic = np.repeat([1, 0], [len(synthetic), len(reference)])
    trees = ExtraTreesClassifier(_TREES, class_weight="balanced", random_state=seed)
    return np.asarray(trees.fit(np.concatenate([synthetic, reference]), is_synthetic).predict_proba(targets)[:, 1])


def _edit_distance(targets: Rows, synthetic: Rows, reference: Rows, synthetic_row: Ints, real_row: Ints) -> Floats:
    """Edit distance to the nearest real row less that to the nearest synthetic row (q,)."""
    rows = sample_rows(len(targets), _MAX_EDITED, 0)
    smallest = []
    for table, candidates in ((reference, real_row), (synthetic, synthetic_row)):
        repeated = np.repeat(targets.characters[rows], candidates.shape[1], axis=0)
        distance = edit_distance(repeated, table.characters[candidates[rows].ravel()])
        smallest.append(distance.reshape(len(rows), -1).min(axis=1))
    score = np.full(len(targets), np.nan)
    score[rows] = smallest[0] - smallest[1]
    return score


def _near_copy(to_synthetic: Floats, to_real: Floats, synthetic: Embeddings, reference: Embeddings) -> Floats:
    """Call a target a copy if its ratio of synthetic to real distance is below that of all but 1 % of the reference: 0 or 1 (q,).

    The other attacks rank all targets, and a few copies among many rows hardly change a rank; this attack finds them alone.
    """
    reference_to_synthetic = nearest_neighbors(reference, synthetic, 1)[0][:, 0]
    reference_to_real = nearest_neighbors(reference, reference, 2)[0][:, 1]  # the first is the row itself
    offset = 1e-3 * max(float(np.median(reference_to_real)), 1e-6)  # equal rows on both sides: no call
    threshold = np.quantile((reference_to_synthetic + offset) / (reference_to_real + offset), _COPY_LEVEL, method="lower")
    return ((to_synthetic + offset) / (to_real + offset) < threshold).astype(np.float64)
