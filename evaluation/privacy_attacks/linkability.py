"""Linkability: two halves of a patient's columns, held by two parties, joined through the synthetic table.

For each half the nearest synthetic row is found; if it is the same row for both halves, the attacker joins them. He is right whenever
the halves do belong together, as they do here; the holdout tells how often that happens by likeness alone.

References
----------
Article 29 Working Party: Opinion 05/2014 on anonymisation techniques. Giomi et al. (2023).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult, guesses
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import nearest_neighbors, sample_rows
from nearward.tabular.typing import Ints

_GUESSES = 1_000
_SPLITS = 3  # ways of parting the columns; guesses are shared out among them
_MOST_ROWS = 20_000


def linkability(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack with several random halvings of the columns; an empty list where there are fewer than two columns."""
    space, draw = tables.embedding, np.random.default_rng(seed)
    names = np.array(tables.train.columns)
    if len(names) < 2:
        return []
    made = space.transform(tables.synthetic[sample_rows(tables.synthetic.height, _MOST_ROWS, seed)])
    count = min(_GUESSES, tables.train.height, tables.holdout.height)
    asked = {
        "train": tables.train[sample_rows(tables.train.height, count, seed + 1)],
        "holdout": tables.holdout[sample_rows(tables.holdout.height, count, seed + 2)],
    }
    part_of = draw.integers(0, _SPLITS, count)
    right = dict.fromkeys(("train", "holdout", "baseline"), 0)
    for split in range(_SPLITS):
        order = draw.permutation(names)
        halves = [space.dimensions(set(half)) for half in np.array_split(order, 2)]
        if any(len(half) == 0 for half in halves):  # columns that never vary have no coordinates
            continue
        for name, frame in asked.items():
            points = space.transform(frame.filter(pl.Series(part_of == split)))
            if len(points) == 0:
                continue
            found = [
                nearest_neighbors(np.ascontiguousarray(points[:, half]), np.ascontiguousarray(made[:, half]), 1)[1][:, 0] for half in halves
            ]
            right[name] += int((found[0] == found[1]).sum())
            if name == "train":
                right["baseline"] += int(_by_lot(len(points), len(made), draw))
    return [guesses("linking two halves of the columns", (right["train"], count), (right["baseline"], count), (right["holdout"], count))]


def _by_lot(count: int, rows: int, draw: np.random.Generator) -> int:
    first: Ints = draw.integers(0, rows, count)
    return int((first == draw.integers(0, rows, count)).sum())
