"""A copy check: share of synthetic rows that repeat a row of train, and distances of the others. It is not a privacy figure.

Distances to the closest record find careless copying and nothing else: a table can pass and leak, or fail because the columns are few.
The same figures between holdout and train are the reference.

References
----------
Ganev and De Cristofaro: On the inadequacy of similarity-based privacy metrics (2023).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import RESAMPLES, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame, rows_to_dicts
from nearward.evaluation.tables.inputs import Tables, matching_share
from nearward.evaluation.tables.neighbors import nearest_neighbors, sample_rows
from nearward.tabular.typing import Floats

_MAX_ROWS = 2_000
_MAX_RECORDS = 50_000
_QUANTILES = (0.05, 0.5)


@dataclass(frozen=True)
class Copies:
    """Repetitions of train rows.

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
        """Whether significantly more synthetic rows than holdout rows are in train."""
        return self.identical.low > self.usual.high

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for JSON."""
        return {"identical": asdict(self.identical), "usual": asdict(self.usual), "distances": rows_to_dicts(self.distances)}


def copies(tables: Tables, seed: int) -> Copies:
    """Compare synthetic rows, and holdout rows beside them, with train."""
    embedding = tables.embedding
    records = embedding.transform(tables.train[sample_rows(tables.train.height, _MAX_RECORDS, seed)])
    rows: list[dict[str, object]] = []
    for name, frame in (("synthetic", tables.synthetic), ("holdout", tables.holdout)):
        embeddings = embedding.transform(frame[sample_rows(frame.height, _MAX_ROWS, seed + 1)])
        distance = nearest_neighbors(embeddings, records, 1)[0][:, 0]
        rows.append({"rows of": name, **{f"{q:.0%} quantile": _quantile(distance, q, seed) for q in _QUANTILES}})
    table = estimate_frame(rows, dict.fromkeys(rows[0], pl.Object) | {"rows of": pl.String})
    return Copies(matching_share(tables.synthetic, tables.train), tables.repeated, table)


def _quantile(values: Floats, q: float, seed: int) -> Estimate:
    """Return a quantile with its bootstrap interval."""
    rows = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return percentile_interval(float(np.quantile(values, q)), np.quantile(values[rows], q, axis=1), len(values), high=float("inf"))
