"""From neighbours to a vote: which stored rows a query consults, what each weighs, and what the class floor changes.

Letters: n stored rows, q query rows, k neighbours a shard, l floor rows a shard, c context rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nearward.retrieval.neighbors.index import Shard
from nearward.tabular.typing import Bools, Floats, Ints

_FLOOR_ROWS, _FLOOR_SHARE = 8, 0.05


@dataclass(frozen=True)
class Rule:
    """How a context is picked.

    Parameters
    ----------
    neighbours : int
        Context rows over all shards, the class floor not counted.
    floor : bool
        Whether the nearest max(8, 5 %) events join the context where they are not in it already.
    width : float
        Of the vote's kernel, in units of the encoder's own temperature.
    """

    neighbours: int
    floor: bool
    width: float


RULES = tuple(Rule(k, floor, width) for k in (60, 125, 250) for floor in (False, True) for width in (1.0, 4.0))


@dataclass(frozen=True)
class Context:
    """Similar patients of q queries; empty places have row -1 and weight 0.

    Parameters
    ----------
    row : (q, c), numbers of the stored rows
    weight : (q, c), not negative, rows sum to 1
    outcome : (q, c), 0 or 1
    squared : (q, c), squared distance in the shard's embedding; inf in empty places
    floored : (q, c), bool, there only because of the class floor
    shard : (c,), which encoder found it
    """

    row: Ints
    weight: Floats
    outcome: Floats
    squared: Floats
    floored: Bools
    shard: Ints

    @property
    def vote(self) -> Floats:
        """Risk as the weighted share of events: ``(weight * outcome).sum(1)``, (q,)."""
        out: Floats = (self.weight * self.outcome).sum(axis=1)
        return out

    def take(self, queries: Ints) -> Context:
        """Return the contexts of some of the queries."""
        q = queries
        return Context(self.row[q], self.weight[q], self.outcome[q], self.squared[q], self.floored[q], self.shard)


def join(parts: list[Context]) -> Context:
    """Put contexts of the same queries side by side, each with an equal say; the n-th part is shard n."""
    share = 1 / len(parts)
    return Context(
        row=np.concatenate([p.row for p in parts], axis=1),
        weight=np.concatenate([p.weight * share for p in parts], axis=1),
        outcome=np.concatenate([p.outcome for p in parts], axis=1),
        squared=np.concatenate([p.squared for p in parts], axis=1),
        floored=np.concatenate([p.floored for p in parts], axis=1),
        shard=np.repeat(np.arange(len(parts)), [p.row.shape[1] for p in parts]),
    )


def merge(parts: list[Context]) -> Context:
    """Put contexts of the same queries together, each with an equal say, so that a stored row stands in a query's context once.

    A row is floored where it is in every context that has it; ``shard`` no longer means anything.
    """
    together = join(parts)
    order = np.argsort(together.row, axis=1, kind="stable")
    row, weight = np.take_along_axis(together.row, order, axis=1), np.take_along_axis(together.weight, order, axis=1)
    floored = np.take_along_axis(together.floored, order, axis=1)
    first = np.diff(row, prepend=-2, axis=1) != 0
    query = np.broadcast_to(np.arange(len(row))[:, None], row.shape)
    place = np.cumsum(first, axis=1) - 1
    out = Context(
        row=np.full_like(row, -1),
        weight=np.zeros_like(weight),
        outcome=np.zeros_like(together.outcome),
        squared=np.full_like(together.squared, np.inf),
        floored=np.ones_like(floored),
        shard=np.zeros_like(row[0]),
    )
    np.add.at(out.weight, (query, place), weight)
    np.logical_and.at(out.floored, (query, place), floored)
    at = query[first], place[first]
    for told, known in ((out.row, together.row), (out.outcome, together.outcome), (out.squared, together.squared)):
        told[at] = np.take_along_axis(known, order, axis=1)[first]
    out.floored[out.row < 0] = False
    return out


@dataclass(frozen=True)
class Found:
    """Neighbours in one shard: the k nearest, and the l nearest events."""

    row: Ints  # (q, k)
    squared: Floats  # (q, k)
    event_row: Ints  # (q, l)
    event_squared: Floats  # (q, l)
    share: Floats  # (q,), share of events among a query's equals where they are more than k; NaN elsewhere


def per_shard(count: float, folds: int) -> int:
    """Return how many of ``count`` context rows each shard gives."""
    return max(2, int(np.ceil(count / folds)))


def _floor_rows(rule: Rule) -> float:
    return max(_FLOOR_ROWS, _FLOOR_SHARE * rule.neighbours)


def look(shard: Shard, events: Shard, place: Floats, rule: Rule, folds: int, group: Ints | None = None) -> Found:
    """Search one shard; with ``group`` (n,) the queries are the shard's own rows, and each leaves its own patient out."""
    k, floor = per_shard(rule.neighbours, folds), per_shard(_floor_rows(rule), folds) if rule.floor else 0
    owner = None if group is None else group[shard.rows]
    extra = 0 if owner is None else int(np.bincount(owner).max())

    def nearest(index: Shard, count: int) -> tuple[Ints, Floats]:
        squared, row = index.search(place, count + extra)
        if group is None or owner is None:
            return row, squared
        squared[(row >= 0) & (group[row] == owner[:, None])] = np.inf
        order = np.argsort(squared, axis=1, kind="stable")[:, :count]
        squared, row = np.take_along_axis(squared, order, axis=1), np.take_along_axis(row, order, axis=1)
        return np.where(np.isinf(squared), -1, row), squared

    return Found(*nearest(shard, k), *nearest(events, floor), np.full(len(place), np.nan))


def resolve_ties(found: Found, shard: Shard, outcome: Floats, group: Ints | None = None) -> Found:
    """Where more stored patients than there are places are a query's equals, show some of each outcome and note the share of events of all.

    Which of them the search came upon must not matter. With ``group`` (n,) the queries are the shard's own rows.
    """
    row, share = found.row.copy(), found.share.copy()
    k = row.shape[1]
    for q in np.flatnonzero((found.squared[:, 0] == found.squared[:, -1]) & np.isfinite(found.squared[:, -1])):
        twins = shard.twins(row[q, 0])
        if group is not None:
            twins = twins[group[twins] != group[shard.rows[q]]]
        if len(twins) > k:
            with_event, without = twins[outcome[twins] == 1], twins[outcome[twins] == 0]
            share[q] = len(with_event) / len(twins)
            least, most = max(k - len(without), min(1, len(with_event))), min(len(with_event), k - min(1, len(without)))
            wanted = min(max(round(k * share[q]), least), most)
            row[q] = np.concatenate([with_event[:wanted], without[: k - wanted]])
    return replace(found, row=row, share=share)


def truncate(found: Found, rule: Rule, folds: int) -> Found:
    """Keep what a search under a narrower rule would have found."""
    k, floor = per_shard(rule.neighbours, folds), per_shard(_floor_rows(rule), folds)
    return Found(found.row[:, :k], found.squared[:, :k], found.event_row[:, :floor], found.event_squared[:, :floor], found.share)


def compute_weights(found: Found, outcome: Floats, rule: Rule, temperature: float) -> Context:
    """Turn neighbours into a vote.

    A neighbour weighs ``exp(-squared / (2 * width * temperature))``, less what the furthest neighbour weighs: so the furthest has
    no say, and which of several equally far rows came last cannot matter. A floored event weighs what its distance gives it, and brings
    along the event-free patients that stand around it at the stored rows' prevalence: their weight goes to the event-free neighbours.
    Event and companions together weigh no more than an average neighbour. The floor therefore draws a vote slightly towards the
    prevalence, from either side, the more the nearer the events.
    """
    wide = 2 * rule.width * temperature
    mass, known = _neighbour_mass(found, outcome, wide)
    row, squared, floored = found.row, found.squared, np.zeros(found.row.shape, dtype=bool)
    if rule.floor:
        user_estimators, companions, extra = _floored_mass(found, mass, known, float(outcome.mean()), wide)
        mass = np.concatenate([mass + companions, user_estimators], axis=1)
        row = np.concatenate([row, np.where(extra, found.event_row, -1)], axis=1)
        squared = np.concatenate([squared, np.where(extra, found.event_squared, np.inf)], axis=1)
        floored = np.concatenate([floored, extra], axis=1)
        known = np.concatenate([known, extra.astype(float)], axis=1)
    total = mass.sum(axis=1, keepdims=True)
    weight = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    return Context(row, weight, known, squared, floored, np.zeros(row.shape[1], dtype=np.int64))


def _neighbour_mass(found: Found, outcome: Floats, wide: float) -> tuple[Floats, Floats]:
    """Return what each of the k nearest weighs before the floor, and its outcome: (q, k), (q, k); 0 in empty places."""
    present = np.isfinite(found.squared)
    away = np.subtract(found.squared, found.squared[:, :1], out=np.zeros_like(found.squared), where=present)
    closeness = np.exp(-away / wide) * present
    furthest = np.where(present, closeness, np.inf).min(axis=1, keepdims=True)
    mass = np.where(present, closeness - furthest, 0)
    all_equally_far = mass.sum(axis=1, keepdims=True) <= 0
    mass = np.where(all_equally_far & present, 1.0, mass)
    known = np.where(present, outcome[found.row], 0)
    with_event = known.sum(axis=1, keepdims=True)
    without = present.sum(axis=1, keepdims=True) - with_event
    share = found.share[:, None]
    equals = np.where(known == 1, share / np.maximum(with_event, 1), (1 - share) / np.maximum(without, 1))
    return np.where(np.isnan(share), mass, equals), known


def _floored_mass(found: Found, mass: Floats, known: Floats, prevalence: float, wide: float) -> tuple[Floats, Floats, Bools]:
    """Return what floored events weigh (q, l), what companions add to the neighbours (q, k), and which events are floored (q, l)."""
    present = np.isfinite(found.squared)
    last = np.where(present, found.squared, -np.inf).max(axis=1, keepdims=True)
    free = mass * (known == 0)
    companions_of = free.sum(axis=1, keepdims=True)  # 0: nobody without the event nearby, no need of the floor
    extra = np.isfinite(found.event_squared) & (found.event_squared > last)  # the nearer ones are there already
    away = np.where(extra, found.event_squared - found.squared[:, :1], np.inf)
    user_estimators = np.exp(-away / wide) * (companions_of > 0)
    companions = user_estimators.sum(axis=1, keepdims=True) * (1 - prevalence) / prevalence
    room = mass.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    wants = user_estimators.sum(axis=1, keepdims=True) + companions
    least = np.minimum(1.0, np.divide(room, wants, out=np.ones_like(wants), where=wants > 0))
    shares = np.divide(free, companions_of, out=np.zeros_like(free), where=companions_of > 0)
    return user_estimators * least, shares * companions * least, extra
