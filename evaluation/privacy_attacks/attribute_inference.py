"""Attribute inference: the attacker knows all columns of a patient but one, and reads the secret off the nearest synthetic row.

A guess is right if it is the same category, or a number within 5 %. Associations in the data permit such guesses about anybody: the
control attacks non-members in the same way, and only the excess over it is a leak.

References
----------
Giomi et al. (2023). Stadler et al.: Synthetic data – anonymisation groundhog day (2022).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import nearest_neighbors, sample_rows
from nearward.tabular.typing import Bools

_GUESSES = 1_000
_MAX_ROWS = 20_000
_MAX_SECRETS = 30
_TOLERANCE = 0.05  # of a number's size


def attribute_inference(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack every column, the outcome first, up to 30; intervals hold for all of them simultaneously."""
    others = [name for name in tables.train.columns if name != tables.outcome]
    if not others:
        return []
    secrets = [tables.outcome, *[others[i] for i in sample_rows(len(others), _MAX_SECRETS - 1, seed)]]
    n = min(_GUESSES, tables.train.height, tables.holdout.height)
    synthetic = tables.synthetic[sample_rows(tables.synthetic.height, _MAX_ROWS, seed)]
    members, non_members = (frame[sample_rows(frame.height, n, seed + 1 + i)] for i, frame in enumerate((tables.train, tables.holdout)))
    embedding, rng = tables.embedding, np.random.default_rng(seed)
    embeddings, *target_embeddings = (embedding.transform(frame) for frame in (synthetic, members, non_members))
    results = []
    for secret in secrets:
        known = embedding.dimensions(set(tables.train.columns) - {secret})  # the attacker's auxiliary data
        if len(known) == 0:
            continue
        values = synthetic.get_column(secret)
        known_embeddings = np.ascontiguousarray(embeddings[:, known])
        right = []
        for targets, row_embeddings in zip((members, non_members), target_embeddings, strict=True):
            row = nearest_neighbors(np.ascontiguousarray(row_embeddings[:, known]), known_embeddings, 1)[1][:, 0]
            right.append(int(_equal(values.gather(row), targets.get_column(secret)).sum()))
        random_guess = values.gather(rng.integers(0, synthetic.height, n))
        baseline = int(_equal(random_guess, members.get_column(secret)).sum())
        results.append(AttackResult.from_counts(f"value of {secret}", (right[0], n), (baseline, n), (right[1], n), tests=len(secrets)))
    return results


def _equal(guess: pl.Series, truth: pl.Series) -> Bools:
    """Tell which guesses are right; missing is a value like any other (n,)."""
    both_missing = (guess.is_null() & truth.is_null()).to_numpy()
    equal = (guess - truth).abs() <= _TOLERANCE * truth.abs() if truth.dtype == pl.Float64 else guess == truth
    return np.asarray(equal.fill_null(value=False).to_numpy() | both_missing)
