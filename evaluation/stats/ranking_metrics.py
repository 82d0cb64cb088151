"""A risk's order on some rows, from which everything that counts alerts follows in one pass, for many weightings at once.

Only rows with the event move recall, so that only where they stand has to be looked at: with rare outcomes that is little.

Letters: ``n`` rows, ``e`` rows with the event, ``b`` runs of equal risks with an event among them, ``c`` weightings (resamples) at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.typing import Floats, Ints


class Ranking:
    """Rows from the greatest risk to the least; rows with equal risks are alerted together or not at all.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risk : (n,)
    """

    def __init__(self, outcome: Floats, risk: Floats) -> None:
        self.order: Ints = np.argsort(-risk, kind="stable")
        self.outcome = outcome[self.order]  # (n,)
        self.risk = risk[self.order]  # (n,)
        self.events: Ints = np.flatnonzero(self.outcome)  # (e,)
        self.above: Ints = np.append(0, np.cumsum(self.outcome)).astype(np.int64)  # (n + 1,), events among the first k rows
        begins = np.append(True, self.risk[1:] != self.risk[:-1])
        run = np.cumsum(begins) - 1  # (n,)
        self.starts: Ints = np.flatnonzero(begins)
        self.ends: Ints = np.append(self.starts[1:], len(risk))  # first row after each run
        self.run: Ints = run
        eventful = np.unique(run[self.events])
        self.first, self.past = self.starts[eventful], self.ends[eventful]  # (b,)

    @property
    def flat(self) -> bool:
        """Whether all risks are equal."""
        return len(self.starts) == 1

    @property
    def parted(self) -> bool:
        """Whether some threshold has all events on one side: then no slope is steep enough."""
        events, free = self.risk[self.outcome == 1], self.risk[self.outcome == 0]
        return bool(events.min() >= free.max() or free.min() >= events.max())

    def count(self, weight: NDArray[Any]) -> Counts:
        """Count from the top down, with row weights in the ranking's order (c, n)."""
        seen, found = np.zeros((len(weight), len(self.risk) + 1)), np.zeros((len(weight), len(self.events) + 1))
        np.cumsum(weight, axis=1, out=seen[:, 1:])
        np.cumsum(weight[:, self.events], axis=1, out=found[:, 1:])
        return Counts(self, seen, found)

    def alerted(self, threshold: float) -> int:
        """Return how many rows reach the threshold."""
        return int(np.searchsorted(-self.risk, -threshold, side="right"))


@dataclass(frozen=True)
class Counts:
    """Weighted rows and events among the first rows of a ranking.

    Parameters
    ----------
    ranking : Ranking
    seen : (c, n + 1), weight of the first 0, 1, … rows
    found : (c, e + 1), weight of the first 0, 1, … events
    """

    ranking: Ranking
    seen: Floats
    found: Floats

    @property
    def rows(self) -> Floats:
        """All rows (c,)."""
        return self.seen[:, -1]

    @property
    def events(self) -> Floats:
        """All events (c,)."""
        return self.found[:, -1]

    def hits(self, rows: Any) -> Floats:
        """Events among the first ``rows`` (c, …)."""
        return self.found[:, self.ranking.above[rows]]

    def auprc(self) -> Floats:
        """Average precision: the sum over risks of recall gained times precision there (c,); scikit-learn's definition."""
        hits, seen = self.hits(self.ranking.past), self.seen[:, self.ranking.past]  # (c, b)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return np.asarray((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1) / self.events)

    def auroc(self) -> Floats:
        """Share of pairs, event and no event, that the risk puts in the right order; half a pair where it ties (c,)."""
        first, past = self.ranking.first, self.ranking.past
        before, after = self.hits(first), self.hits(past)  # (c, b)
        free = self.rows - self.events
        below = free[:, None] - 0.5 * (self.seen[:, first] - before + self.seen[:, past] - after)
        return np.asarray(((after - before) * below).sum(axis=1) / (self.events * free))

    def at_budget(self, rate: float) -> tuple[Floats, Floats]:
        """Recall and positive predictive value (c,) when the share ``rate`` with the greatest risks is alerted.

        Where the budget ends among equal risks, its rest falls on them by lot, and this is the mean over the lots.
        """
        budget = rate * self.rows
        each = np.arange(len(budget))
        row = np.array([np.searchsorted(seen, b) for seen, b in zip(self.seen, budget, strict=True)]) - 1
        run = self.ranking.run[np.clip(row, 0, None)]
        first, past = self.ranking.starts[run], self.ranking.ends[run]
        before, after = self.seen[each, first], self.seen[each, past]
        hits_before, hits_after = (self.found[each, self.ranking.above[rows]] for rows in (first, past))
        hits = hits_before + (hits_after - hits_before) * (budget - before) / (after - before)
        return hits / self.events, hits / budget

    def net_benefit(self, alerted: Any, threshold: Any) -> Floats:
        """True alerts less false ones at the threshold's odds, per row (c, …), when the first ``alerted`` rows are alerted."""
        hits = self.hits(alerted)
        rows = self.rows.reshape(-1, *([1] * (hits.ndim - 1)))
        return np.asarray((hits - (self.seen[:, alerted] - hits) * threshold / (1 - threshold)) / rows)
