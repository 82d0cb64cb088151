"""The vote of similar patients: neighbours of a query in each shard, their weights, and the class floor.

Shapes: n stored rows, q query rows, k neighbours a shard, l floor events a shard, c context rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from nearward.retrieval.neighbors.index import Shard
from nearward.tabular.typing import Bools, Floats, Ints

_FLOOR_ROWS, _FLOOR_SHARE = 8, 0.05


@dataclass(frozen=True)
class RetrievalSetting:
    """Size and weighting of a context.

    Parameters
    ----------
    neighbours : int
        Context rows over all shards, the class floor not counted.
    floor : bool
        Class floor: whether the nearest max(8, 5 %) events join the context where they are not among the neighbours.
    width : float
        Bandwidth of the vote's kernel, in units of the encoder's temperature.
    """

    neighbours: int
    floor: bool
    width: float


SETTINGS = tuple(RetrievalSetting(k, floor, 1.0) for k in (60, 125, 250, 500, 1000) for floor in (False, True))


def largest(settings: Sequence[RetrievalSetting]) -> RetrievalSetting:
    """Return a setting whose neighbours include those of all these, see ``truncate``."""
    return replace(max(settings, key=lambda setting: setting.neighbours), floor=any(setting.floor for setting in settings))


@dataclass(frozen=True)
class Context:
    """Similar patients of q queries; empty entries have row -1 and weight 0.

    Parameters
    ----------
    row : (q, c), indices of the stored rows
    weight : (q, c), not negative, rows sum to 1
    outcome : (q, c), 0 or 1; or class indices
    sq_distance : (q, c), squared distance in the shard's embedding; inf in empty entries
    floored : (q, c), bool, in the context only because of the class floor
    shard : (c,), index of the shard that each column comes from
    """

    row: Ints
    weight: Floats
    outcome: Floats
    sq_distance: Floats
    floored: Bools
    shard: Ints

    @property
    def vote(self) -> Floats:
        """Risk, of an outcome of 0 or 1, as the weighted share of events: ``(weight * outcome).sum(1)``, (q,)."""
        return np.asarray((self.weight * self.outcome).sum(axis=1))

    @property
    def present(self) -> Bools:
        """Entries that are not empty (q, c)."""
        return np.asarray(self.row >= 0)

    def take(self, queries: Ints) -> Context:
        """Return the contexts of some of the queries."""
        return replace(self, **{field.name: getattr(self, field.name)[queries] for field in fields(self) if field.name != "shard"})


@dataclass(frozen=True)
class Neighbours:
    """Neighbours in one shard: the k nearest rows, and the l nearest events.

    Parameters
    ----------
    row, sq_distance : (q, k)
    event_row, event_sq_distance : (q, l)
    tied_event_rate : (q,)
        Share of events among all rows at the query's distance, where more than k are equally far; NaN elsewhere.
    """

    row: Ints
    sq_distance: Floats
    event_row: Ints
    event_sq_distance: Floats
    tied_event_rate: Floats

    @property
    def tied_queries(self) -> Ints:
        """Queries whose k neighbours are all equally far."""
        nearest, furthest = self.sq_distance[:, 0], self.sq_distance[:, -1]
        return np.flatnonzero((nearest == furthest) & np.isfinite(furthest))


def rows_per_shard(count: float, n_shards: int) -> int:
    """Return how many of ``count`` context rows each shard contributes."""
    return max(2, int(np.ceil(count / n_shards)))


def _floor_size(setting: RetrievalSetting) -> float:
    return max(_FLOOR_ROWS, _FLOOR_SHARE * setting.neighbours)


def search_shard(
    shard: Shard,
    events: Shard,
    embedding: Floats,
    setting: RetrievalSetting,
    n_shards: int,
    patient_ids: Ints | None = None,
    queries: Ints | None = None,
) -> Neighbours:
    """Search one shard for the neighbours of embedded queries (q, e).

    With ``patient_ids`` (n,) the queries are stored rows of the shard, and each leaves its own patient out: all of them, or those whose
    numbers (q,) are given.
    """
    k = rows_per_shard(setting.neighbours, n_shards)
    floor = rows_per_shard(_floor_size(setting), n_shards) if setting.floor else 0
    query_patient = query_patients(shard, patient_ids, queries)
    most_rows_of_a_patient = 0
    if patient_ids is not None and query_patient is not None and len(query_patient):
        most_rows_of_a_patient = int(np.bincount(patient_ids[shard.rows])[query_patient].max())

    def nearest(index: Shard, count: int) -> tuple[Ints, Floats]:
        sq_distance, row = index.search(embedding, count + most_rows_of_a_patient)
        if patient_ids is None or query_patient is None:
            return row, sq_distance
        sq_distance[(row >= 0) & (patient_ids[row] == query_patient[:, None])] = np.inf
        order = np.argsort(sq_distance, axis=1, kind="stable")[:, :count]
        sq_distance, row = np.take_along_axis(sq_distance, order, axis=1), np.take_along_axis(row, order, axis=1)
        return np.where(np.isinf(sq_distance), -1, row), sq_distance

    return Neighbours(*nearest(shard, k), *nearest(events, floor), np.full(len(embedding), np.nan))


def truncate(neighbours: Neighbours, setting: RetrievalSetting, n_shards: int) -> Neighbours:
    """Return what a search under a smaller setting would have returned."""
    k, floor = rows_per_shard(setting.neighbours, n_shards), rows_per_shard(_floor_size(setting), n_shards)
    return Neighbours(
        neighbours.row[:, :k],
        neighbours.sq_distance[:, :k],
        neighbours.event_row[:, :floor],
        neighbours.event_sq_distance[:, :floor],
        neighbours.tied_event_rate,
    )


def query_patients(shard: Shard, patient_ids: Ints | None, queries: Ints | None) -> Ints | None:
    """Return the patients of queries that are stored rows: numbered (q,), or all of the shard; None for new rows."""
    if patient_ids is None:
        return None
    return patient_ids[shard.rows if queries is None else queries]


def tied_rows(shard: Shard, row: int, patient: int | None, patient_ids: Ints | None) -> Ints:
    """Return the rows with the same embedding as ``row``; with ``patient_ids`` (n,) without those of the query's own patient."""
    tied = shard.duplicates(row)
    return tied if patient_ids is None else tied[patient_ids[tied] != patient]


def resolve_ties(
    neighbours: Neighbours,
    shard: Shard,
    outcome: Floats,
    patient_ids: Ints | None = None,
    row_weight: Floats | None = None,
    queries: Ints | None = None,
) -> Neighbours:
    """Where more than k stored rows are equally near, show rows of both outcomes and note the share of events among all of them.

    The vote must not depend on which of them the search returned. ``patient_ids`` (n,) and ``queries`` (q,) as ``search_shard``.
    ``row_weight`` (n,) is what a stored row counts.
    """
    row, event_rate = neighbours.row.copy(), neighbours.tied_event_rate.copy()
    k, own = row.shape[1], query_patients(shard, patient_ids, queries)
    for q in neighbours.tied_queries:
        tied = tied_rows(shard, row[q, 0], None if own is None else int(own[q]), patient_ids)
        if len(tied) > k:
            events, others = tied[outcome[tied] == 1], tied[outcome[tied] == 0]
            event_rate[q] = float(np.average(outcome[tied], weights=None if row_weight is None else row_weight[tied]))
            fewest, most = max(k - len(others), min(1, len(events))), min(len(events), k - min(1, len(others)))
            n_events = min(max(round(k * event_rate[q]), fewest), most)
            row[q] = np.concatenate([events[:n_events], others[: k - n_events]])
    return replace(neighbours, row=row, tied_event_rate=event_rate)


def compute_weights(
    neighbours: Neighbours,
    outcome: Floats,
    setting: RetrievalSetting,
    temperature: float,
    row_weight: Floats | None = None,
    prevalence: float | None = None,
) -> Context:
    """Turn neighbours into a context with kernel weights.

    A neighbour weighs ``exp(-sq_distance / (2 * width * temperature))`` minus the weight of the furthest neighbour. The furthest
    therefore weighs 0, and it cannot matter which of several equally far rows came last. A floored event weighs by its distance, and
    adds as much weight to the event-free neighbours as keeps the stored rows' prevalence. The two together weigh no more than an average
    neighbour. The floor therefore shrinks a vote slightly towards the prevalence, the more the nearer the events.
    ``row_weight`` (n,) multiplies the weights of the stored rows, a site's own against those of others for instance.
    ``prevalence`` is the stored rows'; it is computed from ``outcome`` (n,) where it is not given.
    """
    bandwidth = 2 * setting.width * temperature
    weight, neighbour_outcome = _neighbour_weights(neighbours, outcome, bandwidth, row_weight)
    row, sq_distance, floored = neighbours.row, neighbours.sq_distance, np.zeros(neighbours.row.shape, dtype=bool)
    if setting.floor:
        prevalence = float(np.average(outcome, weights=row_weight)) if prevalence is None else prevalence
        event_weight, added, extra = _floor_weights(neighbours, weight, neighbour_outcome, prevalence, bandwidth)
        weight = np.concatenate([weight + added, event_weight], axis=1)
        row = np.concatenate([row, np.where(extra, neighbours.event_row, -1)], axis=1)
        sq_distance = np.concatenate([sq_distance, np.where(extra, neighbours.event_sq_distance, np.inf)], axis=1)
        floored = np.concatenate([floored, extra], axis=1)
        neighbour_outcome = np.concatenate([neighbour_outcome, extra.astype(float)], axis=1)
    total = weight.sum(axis=1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    return Context(row, weight, neighbour_outcome, sq_distance, floored, np.zeros(row.shape[1], dtype=np.int64))


def _neighbour_weights(neighbours: Neighbours, outcome: Floats, bandwidth: float, row_weight: Floats | None) -> tuple[Floats, Floats]:
    """Return the k nearest rows' weights before the floor, and their outcomes: (q, k), (q, k); 0 in empty entries."""
    sq_distance, present = neighbours.sq_distance, np.isfinite(neighbours.sq_distance)
    beyond_nearest = np.subtract(sq_distance, sq_distance[:, :1], out=np.zeros_like(sq_distance), where=present)
    kernel = np.exp(-beyond_nearest / bandwidth) * present
    furthest = np.where(present, kernel, np.inf).min(axis=1, keepdims=True)
    weight = np.where(present, kernel - furthest, 0)
    all_equally_far = weight.sum(axis=1, keepdims=True) <= 0
    weight = np.where(all_equally_far & present, 1.0, weight)
    if row_weight is not None:
        weight = weight * row_weight[neighbours.row]
    neighbour_outcome = np.where(present, outcome[neighbours.row], 0)
    tied = ~np.isnan(neighbours.tied_event_rate)
    if tied.any():
        event_rate, of_tied = neighbours.tied_event_rate[tied, None], neighbour_outcome[tied]
        events = of_tied.sum(axis=1, keepdims=True)
        others = present[tied].sum(axis=1, keepdims=True) - events
        weight[tied] = np.where(of_tied == 1, event_rate / np.maximum(events, 1), (1 - event_rate) / np.maximum(others, 1))
    return weight, neighbour_outcome


def _floor_weights(
    neighbours: Neighbours, weight: Floats, outcome: Floats, prevalence: float, bandwidth: float
) -> tuple[Floats, Floats, Bools]:
    """Return the floored events' weights (q, l), the weights added to the neighbours (q, k), and which events are floored (q, l)."""
    present = np.isfinite(neighbours.sq_distance)
    furthest = np.where(present, neighbours.sq_distance, -np.inf).max(axis=1, keepdims=True)
    event_free = weight * (outcome == 0)
    event_free_total = event_free.sum(axis=1, keepdims=True)  # 0: all neighbours have the event, and the floor is not needed
    extra = np.isfinite(neighbours.event_sq_distance) & (neighbours.event_sq_distance > furthest)  # nearer events are neighbours already
    near = extra & present[:, :1]  # lists that run out may find no neighbour at all
    beyond_nearest = np.where(near, neighbours.event_sq_distance - neighbours.sq_distance[:, :1], np.inf)
    event_weight = np.exp(-beyond_nearest / bandwidth) * (event_free_total > 0)
    added_total = event_weight.sum(axis=1, keepdims=True) * (1 - prevalence) / prevalence
    average = weight.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    together = event_weight.sum(axis=1, keepdims=True) + added_total
    scale = np.minimum(1.0, np.divide(average, together, out=np.ones_like(together), where=together > 0))
    share = np.divide(event_free, event_free_total, out=np.zeros_like(event_free), where=event_free_total > 0)
    return event_weight * scale, share * added_total * scale, extra


def concatenate_contexts(parts: list[Context]) -> Context:
    """Put contexts of the same queries side by side, with equal total weight; the n-th part is shard n."""
    joined = join_contexts(parts, 1, np.repeat(np.arange(len(parts)), [part.row.shape[1] for part in parts]))
    return replace(joined, weight=joined.weight / len(parts))


def join_contexts(parts: list[Context], axis: int, shard: Ints) -> Context:
    """Join contexts along the queries (axis 0) or along the context rows (axis 1)."""
    names = [field.name for field in fields(Context) if field.name != "shard"]
    return Context(**{name: np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in names}, shard=shard)


def merge_contexts(parts: list[Context]) -> Context:
    """Average contexts of the same queries, with equal total weight, so that a stored row is in a query's context once.

    A row is floored where it is floored in every context that has it; ``shard`` means nothing after this.
    """
    joined = concatenate_contexts(parts)
    order = np.argsort(joined.row, axis=1, kind="stable")
    row, weight, floored = (np.take_along_axis(values, order, axis=1) for values in (joined.row, joined.weight, joined.floored))
    first = np.diff(row, prepend=-2, axis=1) != 0
    query = np.broadcast_to(np.arange(len(row))[:, None], row.shape)
    column = np.cumsum(first, axis=1) - 1
    merged = Context(
        row=np.full_like(row, -1),
        weight=np.zeros_like(weight),
        outcome=np.zeros_like(joined.outcome),
        sq_distance=np.full_like(joined.sq_distance, np.inf),
        floored=np.ones_like(floored),
        shard=np.zeros_like(row[0]),
    )
    np.add.at(merged.weight, (query, column), weight)
    np.logical_and.at(merged.floored, (query, column), floored)
    for name in ("row", "outcome", "sq_distance"):
        getattr(merged, name)[query[first], column[first]] = np.take_along_axis(getattr(joined, name), order, axis=1)[first]
    merged.floored[merged.row < 0] = False
    return merged
