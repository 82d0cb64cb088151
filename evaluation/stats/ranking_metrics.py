"""Ranking metrics of a risk (AUROC, average precision, recall, PPV, net benefit) from one sort, for many row weightings at once.

Only rows with the event change the recall, so that only the ranks of events are evaluated: with rare outcomes these are few.

Shapes: ``n`` rows, ``e`` rows with the event, ``b`` runs of tied risks with an event among them, ``c`` weightings (resamples) at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.typing import Floats, Ints


class Ranking:
    """Rows from the greatest risk to the least; rows with tied risks are alerted together or not at all.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risk : (n,)
    """

    def __init__(self, outcome: Floats, risk: Floats) -> None:
        self.order: Ints = np.argsort(-risk, kind="stable")
        self.outcome = outcome[self.order]  # (n,)
        self.risk = risk[self.order]  # (n,)
        self.event_rows: Ints = np.flatnonzero(self.outcome)  # (e,)
        self.events_above: Ints = np.append(0, np.cumsum(self.outcome)).astype(np.int64)  # (n + 1,), events among the first k rows
        run_begins = np.append(True, self.risk[1:] != self.risk[:-1])
        self.run: Ints = np.cumsum(run_begins) - 1  # (n,), the run of tied risks that each row is in
        self.run_starts: Ints = np.flatnonzero(run_begins)
        self.run_ends: Ints = np.append(self.run_starts[1:], len(risk))  # first row after each run
        event_runs = np.unique(self.run[self.event_rows])
        self.event_run_starts, self.event_run_ends = self.run_starts[event_runs], self.run_ends[event_runs]  # (b,)

    @property
    def is_constant(self) -> bool:
        """Whether all risks are equal."""
        return len(self.run_starts) == 1

    @property
    def is_separating(self) -> bool:
        """Whether some threshold separates all events from all other rows: then the calibration slope is infinite."""
        events, others = self.risk[self.outcome == 1], self.risk[self.outcome == 0]
        return bool(events.min() >= others.max() or others.min() >= events.max())

    def count(self, weight: NDArray[Any]) -> RankedCounts:
        """Accumulate row weights (c, n), in the ranking's order, from the greatest risk down."""
        rows, events = np.zeros((len(weight), len(self.risk) + 1)), np.zeros((len(weight), len(self.event_rows) + 1))
        np.cumsum(weight, axis=1, out=rows[:, 1:])
        np.cumsum(weight[:, self.event_rows], axis=1, out=events[:, 1:])
        return RankedCounts(self, rows, events)

    def alerted_at_budget(self, alert_rate: float) -> int:
        """Return how many rows the alerts of a budget rest on: those alerted, and all that tie with the last of them."""
        budget = alert_rate * len(self.risk)
        return int(self.run_ends[self.run[max(math.ceil(budget - 1e-9), 1) - 1]])

    def alerted(self, threshold: float) -> int:
        """Return how many rows reach the threshold."""
        return int(np.searchsorted(-self.risk, -threshold, side="right"))


@dataclass(frozen=True)
class RankedCounts:
    """Weighted rows and events among the first rows of a ranking.

    Parameters
    ----------
    ranking : Ranking
    cumulative_rows : (c, n + 1), weight of the first 0, 1, … rows
    cumulative_events : (c, e + 1), weight of the first 0, 1, … events
    """

    ranking: Ranking
    cumulative_rows: Floats
    cumulative_events: Floats

    @property
    def rows(self) -> Floats:
        """Weight of all rows (c,)."""
        return self.cumulative_rows[:, -1]

    @property
    def events(self) -> Floats:
        """Weight of all events (c,)."""
        return self.cumulative_events[:, -1]

    def true_positives(self, alerted: Any) -> Floats:
        """Events among the first ``alerted`` rows (c, …)."""
        return self.cumulative_events[:, self.ranking.events_above[alerted]]

    def auprc(self) -> Floats:
        """Average precision (c,): the sum over thresholds of recall gained times precision; scikit-learn's definition."""
        ends = self.ranking.event_run_ends
        hits, rows = self.true_positives(ends), self.cumulative_rows[:, ends]  # (c, b)
        precision = np.divide(hits, rows, out=np.zeros_like(hits), where=rows > 0)
        return np.asarray((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1) / self.events)

    def auroc(self) -> Floats:
        """Share of pairs of an event and a non-event that the risk orders correctly (c,); a tie counts half."""
        starts, ends = self.ranking.event_run_starts, self.ranking.event_run_ends
        hits_before, hits_after = self.true_positives(starts), self.true_positives(ends)  # (c, b)
        non_events = self.rows - self.events
        false_before = self.cumulative_rows[:, starts] - hits_before
        false_after = self.cumulative_rows[:, ends] - hits_after
        below = non_events[:, None] - 0.5 * (false_before + false_after)
        return np.asarray(((hits_after - hits_before) * below).sum(axis=1) / (self.events * non_events))

    def at_budget(self, alert_rate: float) -> tuple[Floats, Floats]:
        """Recall and positive predictive value (c,) when the share ``alert_rate`` of rows with the greatest risks is alerted.

        Where the budget ends within a run of tied risks, its rest is drawn among them at random, and this is the expectation.
        """
        budget = alert_rate * self.rows
        weighting = np.arange(len(budget))
        row = np.array([np.searchsorted(rows, b) for rows, b in zip(self.cumulative_rows, budget, strict=True)]) - 1
        run = self.ranking.run[np.clip(row, 0, None)]
        start, end = self.ranking.run_starts[run], self.ranking.run_ends[run]
        rows_before, rows_after = self.cumulative_rows[weighting, start], self.cumulative_rows[weighting, end]
        hits_before, hits_after = (self.cumulative_events[weighting, self.ranking.events_above[rows]] for rows in (start, end))
        hits = hits_before + (hits_after - hits_before) * (budget - rows_before) / (rows_after - rows_before)
        return hits / self.events, hits / budget

    def net_benefit(self, alerted: Any, threshold: Any) -> Floats:
        """Net benefit (c, …) of alerting the first ``alerted`` rows: true less false positives at the threshold's odds, per row."""
        hits = self.true_positives(alerted)
        rows = self.rows.reshape(-1, *([1] * (hits.ndim - 1)))
        return np.asarray((hits - (self.cumulative_rows[:, alerted] - hits) * threshold / (1 - threshold)) / rows)
