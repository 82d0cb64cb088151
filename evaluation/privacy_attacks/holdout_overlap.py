"""Test of whether the holdout repeats rows of train more often than by chance: then it was not unseen, and attacks have no control.

Rows of narrow tables repeat naturally. If train and holdout are a random split, the copies of a row fall into train and holdout at random:
their number in train is hypergeometric. A row that was copied from train into the holdout is always in both.

Shapes: n patients in train, m in the holdout, r different rows that recur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from nearward.evaluation.tables.inputs import Tables
from nearward.tabular.typing import Floats, Ints

_LEVEL = 0.001  # false positive rate among random splits


@dataclass(frozen=True)
class Overlap:
    """Rows that train and holdout share.

    Parameters
    ----------
    count : int
        Different rows that both have.
    expected : float
        Expected count in a random split of the patients.
    p_value : float
        Probability of as many or more in a random split.
    """

    count: int
    expected: float
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether at most one in a thousand random splits shares as many rows."""
        return self.p_value <= _LEVEL


def overlap(tables: Tables) -> Overlap:
    """Count the shared rows and compare them with a random split of the same patients.

    One row of each patient counts, since rows of one patient are dependent: the first in sorted order, whatever the order of the table.
    Given how many patients have a row, the number of them in train is hypergeometric. Different rows are taken as independent, which is
    nearly true. If duplicates were dropped within train and within the holdout, the remaining ones look like copies.

    Examples
    --------
    >>> overlap(tables).significant  # doctest: +SKIP
    False
    """
    train, holdout = _row_per_patient(tables.train, tables.train_patient_ids), _row_per_patient(tables.holdout, tables.holdout_patient_ids)
    n, m = train.height, holdout.height
    keys = train.columns
    pool = pl.concat([train.with_columns(train=1), holdout.with_columns(train=0)])
    copies = pool.group_by(keys).agg(pl.len().cast(pl.Int64).alias("all"), pl.col("train").sum().cast(pl.Int64))
    copies = copies.filter(pl.col("all") > 1)
    shared = copies.filter(pl.col("train").is_between(1, pl.col("all") - 1)).height
    size, rows = (column.to_numpy() for column in copies.group_by("all").len().cast(pl.Int64))
    probability = 1 - stats.hypergeom.pmf(0, n + m, size, n) - stats.hypergeom.pmf(0, n + m, size, m)  # of being in both (r,)
    return Overlap(shared, float(rows @ probability), _poisson_binomial_tail(shared, rows, probability))


def _row_per_patient(frame: pl.DataFrame, patient_ids: Ints) -> pl.DataFrame:
    """Return the first row of each patient; columns are named by their numbers, so that other names are free."""
    numbered = frame.rename({name: str(i) for i, name in enumerate(frame.columns)})
    if len(np.unique(patient_ids)) == numbered.height:
        return numbered
    return numbered.with_columns(patient=patient_ids).sort(numbered.columns).unique("patient", keep="first").drop("patient")


def _poisson_binomial_tail(count: int, rows: Ints, probability: Floats) -> float:
    """Probability of ``count`` or more successes in independent trials, ``rows`` of them with each ``probability``.

    Exact, by the Fourier transform of the sum (Hong: On computing the distribution function for the Poisson binomial distribution, 2013).
    """
    points = int(rows.sum()) + 1
    roots = np.exp(2j * np.pi * np.arange(points) / points)
    transform = np.ones(points, dtype=np.complex128)
    for trials, p in zip(rows, probability, strict=True):
        transform *= (1 - p + p * roots) ** trials
    return float(np.clip(np.fft.fft(transform).real[count:].sum() / points, 0, 1))
