"""A copy check: how many synthetic rows repeat a row of train, and how near the rest come. It is not a privacy figure.

Distances to the closest record find careless copying and nothing else: a table can pass and leak, or fail because the columns are few.
What the same figures are between holdout and train says what is usual.

References
----------
Ganev and De Cristofaro: On the inadequacy of similarity-based privacy metrics (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import RESAMPLES, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame
from nearward.evaluation.tables.inputs import Tables, matching_share
from nearward.evaluation.tables.neighbors import nearest_neighbors, sample_rows
from nearward.tabular.typing import Floats

_MOST_ROWS = 2_000
_MOST_RECORDS = 50_000
_QUANTILES = (0.05, 0.5)


@dataclass(frozen=True)
class Copies:
    """Rows that repeat train.

    Parameters
    ----------
    identical, usual : Estimate
        Share of synthetic rows, and of holdout rows, that are in train, cell by cell.
    distances : pl.DataFrame
        Quantiles of the distance to the closest train row, of synthetic and of holdout rows.
    """

    identical: Estimate
    usual: Estimate
    distances: pl.DataFrame

    @property
    def suspicious(self) -> bool:
        """Whether more synthetic rows are in train than holdout rows are, beyond chance."""
        return self.identical.low > self.usual.high


def copies(tables: Tables, seed: int) -> Copies:
    """Compare synthetic rows, and holdout rows beside them, with train."""
    space = tables.embedding
    record = space.transform(tables.train[sample_rows(tables.train.height, _MOST_RECORDS, seed)])
    rows: list[dict[str, object]] = []
    for name, frame in (("synthetic", tables.synthetic), ("holdout", tables.holdout)):
        points = space.transform(frame[sample_rows(frame.height, _MOST_ROWS, seed + 1)])
        far = nearest_neighbors(points, record, 1)[0][:, 0]
        rows.append({"rows of": name, **{f"{q:.0%} quantile": _quantile(far, q, seed) for q in _QUANTILES}})
    table = estimate_frame(rows, dict.fromkeys(rows[0], pl.Object) | {"rows of": pl.String})
    return Copies(matching_share(tables.synthetic, tables.train), tables.repeated, table)


def _quantile(values: Floats, q: float, seed: int) -> Estimate:
    draw = np.random.default_rng(seed)
    drawn = np.quantile(values[draw.integers(0, len(values), (RESAMPLES, len(values)))], q, axis=1)
    return percentile_interval(float(np.quantile(values, q)), drawn, len(values), high=float("inf"))
