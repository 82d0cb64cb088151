"""Attribute inference: all columns of a patient but one are known; the nearest synthetic row is asked for the last.

A guess is right if it is the same level, or a number within 5 %. That real patterns let one guess is what data are for: the control
asks the same of patients who were not in train, and only what goes beyond it is a leak.

References
----------
Giomi et al. (2023). Stadler et al.: Synthetic data – anonymisation groundhog day (2022).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult, guesses
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import nearest_neighbors, sample_rows
from nearward.tabular.typing import Bools

_GUESSES = 1_000
_MOST_ROWS = 20_000
_MOST_SECRETS = 30
_WITHIN = 0.05  # of a number's size


def inference(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack every column, the outcome first, up to 30; intervals hold for all of them together."""
    space, draw = tables.embedding, np.random.default_rng(seed)
    made = tables.synthetic[sample_rows(tables.synthetic.height, _MOST_ROWS, seed)]
    count = min(_GUESSES, tables.train.height, tables.holdout.height)
    asked = [frame[sample_rows(frame.height, count, seed + 1 + i)] for i, frame in enumerate((tables.train, tables.holdout))]
    others = [name for name in tables.train.columns if name != tables.outcome]
    if not others:
        return []
    secrets = [tables.outcome, *[others[i] for i in sample_rows(len(others), _MOST_SECRETS - 1, seed)]]
    points = [space.transform(frame) for frame in (made, *asked)]
    found = []
    for secret in secrets:
        known = space.dimensions(set(tables.train.columns) - {secret})
        if len(known) == 0:
            continue
        among = np.ascontiguousarray(points[0][:, known])
        hits = []
        for frame, place in zip(asked, points[1:], strict=True):
            row = nearest_neighbors(np.ascontiguousarray(place[:, known]), among, 1)[1][:, 0]
            hits.append(_same(made.get_column(secret).gather(row), frame.get_column(secret)))
        lot = made.get_column(secret).gather(draw.integers(0, made.height, count))
        blind = _same(lot, asked[0].get_column(secret))
        pairs = [(int(hit.sum()), count) for hit in (hits[0], blind, hits[1])]
        found.append(guesses(f"value of {secret}", pairs[0], pairs[1], pairs[2], tests=len(secrets)))
    return found


def _same(guess: pl.Series, truth: pl.Series) -> Bools:
    """Tell which guesses are right; missing is a value like any other (n,)."""
    both = (guess.is_null() & truth.is_null()).to_numpy()
    if truth.dtype == pl.Float64:
        hit = ((guess - truth).abs() <= _WITHIN * truth.abs()).fill_null(value=False)
    else:
        hit = (guess == truth).fill_null(value=False)
    return np.asarray(hit.to_numpy() | both)
