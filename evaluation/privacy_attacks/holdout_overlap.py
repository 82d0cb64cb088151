"""Whether the holdout repeats rows of train more often than chance: then it was not unseen, and no attack against it means anything.

Rows of narrow tables repeat by nature. How often they do is read off the tables themselves: if train and holdout are a random split, a row
that occurs twice falls on different sides as often as two cards of one shuffled pack do, and as often on one side. Rows that were copied
from train into the holdout always fall on different sides.

Letters: n patients in train, m in the holdout, r different rows that recur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from nearward.evaluation.tables.inputs import Tables
from nearward.tabular.typing import Floats, Ints

_LEVEL = 0.001  # of honest splits, at most one in a thousand is accused


@dataclass(frozen=True)
class Overlap:
    """How many rows are on both sides.

    Parameters
    ----------
    found : int
        Different rows that both train and the holdout have.
    expected : float
        How many there would be if the patients were dealt at random.
    chance : float
        Probability of as many or more.
    """

    found: int
    expected: float
    chance: float

    @property
    def proven(self) -> bool:
        """Whether a random split makes as many in at most one of a thousand tables."""
        return self.chance <= _LEVEL


def overlap(tables: Tables) -> Overlap:
    """Count the rows on both sides and compare them with a random split of the same patients.

    Of each patient one row counts, the least in order, which is the same however the rows are shuffled: rows of one patient are not
    independent. Given how many patients have a row, the number of them in train is hypergeometric. Different rows are taken as
    independent, which they nearly are. Rows that were made unique in train and in the holdout apart look like copies.

    Examples
    --------
    >>> overlap(tables).proven  # doctest: +SKIP
    False
    """
    train, holdout = _first(tables.train, tables.train_patient_ids), _first(tables.holdout, tables.holdout_patient_ids)
    n, m = train.height, holdout.height
    keys = train.columns
    sides = pl.concat([train.with_columns(train=1), holdout.with_columns(train=0)])
    having = sides.group_by(keys).agg(pl.len().cast(pl.Int64).alias("all"), pl.col("train").sum().cast(pl.Int64))
    having = having.filter(pl.col("all") > 1)
    both = having.filter(pl.col("train").is_between(1, pl.col("all") - 1)).height
    size, rows = (one.to_numpy() for one in having.group_by("all").len().cast(pl.Int64))
    apart = 1 - stats.hypergeom.pmf(0, n + m, size, n) - stats.hypergeom.pmf(0, n + m, size, m)
    return Overlap(both, float(rows @ apart), _tail(both, rows, apart))


def _first(frame: pl.DataFrame, patient: Ints) -> pl.DataFrame:
    """One row of each patient, its columns named by their numbers: other names are free then."""
    plain = frame.rename({name: str(i) for i, name in enumerate(frame.columns)})
    if len(np.unique(patient)) == plain.height:
        return plain
    return plain.with_columns(patient=patient).sort(plain.columns).unique("patient", keep="first").drop("patient")


def _tail(found: int, rows: Ints, apart: Floats) -> float:
    """Probability that ``found`` or more independent rows lie apart, where ``rows`` of them do with probability ``apart``.

    Exactly, by the transform of the sum (Hong: On computing the distribution function for the Poisson binomial distribution, 2013).
    """
    points = int(rows.sum()) + 1
    turn = np.exp(2j * np.pi * np.arange(points) / points)
    transform = np.ones(points, dtype=np.complex128)
    for count, chance in zip(rows, apart, strict=True):
        transform *= (1 - chance + chance * turn) ** count
    return float(np.clip(np.fft.fft(transform).real[found:].sum() / points, 0, 1))
