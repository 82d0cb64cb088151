"""Linkability: two parties have one half of a patient's columns each, and join them through the synthetic table.

For each half the nearest synthetic row is found. If it is the same row for both, the attacker joins the halves. The guess is right,
since the halves do belong together; the holdout shows how often that happens by similarity alone.

References
----------
Article 29 Working Party: Opinion 05/2014 on anonymisation techniques. Giomi et al. (2023).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import Embeddings, nearest_neighbors, sample_rows
from nearward.tabular.typing import Ints

_GUESSES = 1_000
_SPLITS = 3  # random halvings of the columns; each gets a part of the guesses
_MAX_ROWS = 20_000


def linkability(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack with several random halvings of the columns; an empty list where there are fewer than two columns."""
    embedding, rng = tables.embedding, np.random.default_rng(seed)
    names = np.array(tables.train.columns)
    if len(names) < 2:
        return []
    synthetic = embedding.transform(tables.synthetic[sample_rows(tables.synthetic.height, _MAX_ROWS, seed)])
    n = min(_GUESSES, tables.train.height, tables.holdout.height)
    members, non_members = (frame[sample_rows(frame.height, n, seed + 1 + i)] for i, frame in enumerate((tables.train, tables.holdout)))
    split_of_row = rng.integers(0, _SPLITS, n)
    attack = baseline = control = 0
    for split in range(_SPLITS):
        halves = [embedding.dimensions(set(half)) for half in np.array_split(rng.permutation(names), 2)]
        in_split = split_of_row == split
        if not in_split.any() or any(len(half) == 0 for half in halves):  # constant columns have no coordinates
            continue
        linked = []
        for targets in (members, non_members):
            embeddings = embedding.transform(targets.filter(pl.Series(in_split)))
            rows = [_nearest_row(embeddings[:, half], synthetic[:, half]) for half in halves]
            linked.append(int((rows[0] == rows[1]).sum()))
        attack, control = attack + linked[0], control + linked[1]
        random_rows = [rng.integers(0, len(synthetic), in_split.sum()) for _ in halves]
        baseline += int((random_rows[0] == random_rows[1]).sum())
    return [AttackResult.from_counts("linking two halves of the columns", (attack, n), (baseline, n), (control, n))]


def _nearest_row(queries: Embeddings, rows: Embeddings) -> Ints:
    return nearest_neighbors(np.ascontiguousarray(queries), np.ascontiguousarray(rows), 1)[1][:, 0]
