"""Whether the similar patients that inverted lists find vote as well as those of an exact search; compared once, at the fit.

Recall counts every neighbour alike, and a vote does not: near ones weigh most, and of rare events a single one matters. Compared is
therefore the AUPRC of the votes of the same rows by both searches. These rows are a weighted case-control sample of those that taught: up
to a thousand events and as many others, so that the ratio does not rest on a handful of events.

Shapes: q query rows, c classes, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.retrieval.neighbors.index import EXACT_UP_TO, Shard
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Floats32, Ints

CHECKED_ROWS = 2_000
LEAST_RATIO = 0.95  # of the AUPRC of the exact vote
_PART = 1 << 16  # rows that are searched at a time


@dataclass(frozen=True)
class IndexCheck:
    """Votes by inverted lists beside those by exact search.

    Parameters
    ----------
    rows, events : int, of the sample; events are the rows outside the commonest class
    auprc, exact_auprc : float, of the votes by the lists and by exact search; the mean over the classes where there are more than two
    """

    rows: int
    events: int
    auprc: float
    exact_auprc: float

    @classmethod
    def of(cls, sample: TrainingData, vote: Floats, exact_vote: Floats) -> IndexCheck:
        """Compare the votes of a sample of q rows, (q,) or (q, c) each.

        Raises
        ------
        InputError
            The AUPRC of the votes is below .95 of that of the exact ones.
        """
        check = cls(
            rows=len(sample),
            events=len(sample) - int(np.bincount(sample.outcome).max()),
            auprc=_auprc(sample, vote),
            exact_auprc=_auprc(sample, exact_vote),
        )
        if check.auprc < LEAST_RATIO * check.exact_auprc:
            raise InputError(
                f"the similar patients that the index finds vote worse than those of an exact search: {check.describe()}, and at least "
                f"{LEAST_RATIO} is needed. Fit on fewer rows, or with more folds: up to {EXACT_UP_TO} rows a fold are searched exactly"
            )
        return check

    def describe(self) -> str:
        """Return the comparison as text."""
        both = f"AUPRC {self.auprc:.3f} against {self.exact_auprc:.3f}, ratio {self.auprc / self.exact_auprc:.3f}"
        return f"{both}, on {self.rows} rows, {self.events} of them events"


class ExhaustiveShard(Shard):
    """A shard's rows, searched exactly part by part: no index of them is in memory."""

    @classmethod
    def of(cls, shard: Shard) -> ExhaustiveShard:
        """Return a shard's rows."""
        return cls(shard.vectors, shard.rows, max(len(shard.rows), shard.exact_up_to))

    def search(self, queries: Floats | Floats32, k: int) -> tuple[Floats, Ints]:
        """Return the k nearest rows, as ``Shard.search``."""
        sq_distance, row = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, dtype=np.int64)
        for begin in range(0, len(self.rows), _PART):
            part = Shard(self.vectors[begin : begin + _PART], self.rows[begin : begin + _PART], exact_up_to=_PART)
            part_sq_distance, part_row = part.search(queries, k)
            both = np.concatenate([sq_distance, part_sq_distance], axis=1), np.concatenate([row, part_row], axis=1)
            nearest = np.argsort(both[0], axis=1, kind="stable")[:, :k]  # equally near rows follow by their index
            sq_distance, row = (np.take_along_axis(values, nearest, axis=1) for values in both)
        return sq_distance, row


def _auprc(sample: TrainingData, vote: Floats) -> float:
    """Return the weighted AUPRC of votes (q,), or the mean over the classes of votes (q, c)."""
    if vote.ndim == 1:
        return sample.auprc(vote)
    return float(np.mean([sample.one_vs_rest(j).auprc(vote[:, j]) for j in np.unique(sample.outcome)]))
