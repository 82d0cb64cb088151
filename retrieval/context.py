"""The context of a query: its similar patients, their weights, and the vote they give.

Cross-fitted shards: the rows are dealt into folds; encoder f learns from all rows but fold f and indexes only fold f, so no row
stands where an encoder that knew its outcome would like to have it. A new row is embedded by every encoder and takes the same
number of neighbours from every shard. A stored row is judged by the one encoder that never saw it, in the shard that holds its
fold, its own patient left out.

Letters: n stored rows, p encoded columns, q query rows, e embedding width, s shards, k neighbours a shard, l floor rows a shard,
c context rows, ``s * (k + l)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.retrieval.encoder import (
    AwareEncoder,
    ColumnGate,
    EncoderConfig,
    embed,
    fit_column_gate,
    network_from_state,
    network_state,
    one_torch_thread,
    train_encoder,
)
from nearward.retrieval.index import Shard
from nearward.tabular.workers import each_fold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FEW_ROWS, _FEW_EVENTS = 300, 30  # below either, a network would learn the noise: plain gated columns instead
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


@dataclass(frozen=True)
class Retriever:
    """Encoders, their shards, and the rule that picks a context.

    Parameters
    ----------
    encoders : tuple of AwareEncoder or ColumnGate, one a fold
    shards : tuple of Shard
    events : tuple of Shard, the events of each shard, for the class floor
    outcome : (n,), 0 or 1
    rule : Rule
    reach : (s,), squared distance within which nine in ten stored rows have all their k neighbours
    """

    encoders: tuple[AwareEncoder | ColumnGate, ...]
    shards: tuple[Shard, ...]
    events: tuple[Shard, ...]
    outcome: Floats
    rule: Rule
    reach: Floats

    def state(self) -> dict[str, Any]:
        """Return what a retriever is made of, for the artefact: networks as arrays, shards as vectors."""
        return {
            "networks": [network_state(encoder) for encoder in self.encoders],
            "vectors": [shard.vectors for shard in self.shards],
            "rows": [shard.rows for shard in self.shards],
            "outcome": self.outcome,
            "rule": self.rule,
            "reach": self.reach,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Retriever:
        """Rebuild a retriever; the FAISS structures are built anew from the vectors."""
        shards = tuple(Shard(vectors, rows) for vectors, rows in zip(state["vectors"], state["rows"], strict=True))
        known = state["outcome"]
        return cls(
            tuple(network_from_state(network) for network in state["networks"]),
            shards,
            tuple(shard.of(shard.rows[known[shard.rows] == 1]) for shard in shards),
            known,
            state["rule"],
            state["reach"],
        )

    def context(self, x: Floats) -> tuple[Context, Floats]:
        """Find the context of new rows.

        Parameters
        ----------
        x : (q, p), the dense encoding

        Returns
        -------
        context : Context
        head : (q,), the encoders' mean log-odds
        """
        parts, heads = [], []
        for f in range(len(self.encoders)):
            place, logit = embed(self.encoders[f], x)
            found = _look(self.shards[f], self.events[f], place, self.rule, len(self.encoders), self.outcome)
            parts.append(_weigh(found, self.outcome, self.rule, self.encoders[f].temperature))
            heads.append(logit)
        share = 1 / len(parts)
        return (
            Context(
                row=np.concatenate([p.row for p in parts], axis=1),
                weight=np.concatenate([p.weight * share for p in parts], axis=1),
                outcome=np.concatenate([p.outcome for p in parts], axis=1),
                squared=np.concatenate([p.squared for p in parts], axis=1),
                floored=np.concatenate([p.floored for p in parts], axis=1),
                shard=np.repeat(np.arange(len(parts)), [p.row.shape[1] for p in parts]),
            ),
            np.mean(heads, axis=0),
        )

    def similar_count(self, context: Context) -> Ints:
        """Count the context rows that are as near as context rows usually are (q,); 0 for a patient unlike any stored."""
        near = (context.squared <= self.reach[context.shard]) & ~context.floored
        return np.asarray(near.sum(axis=1), dtype=np.int64)

    def gate(self, x: Floats) -> Floats:
        """Return the mean weight of each encoded column over rows (q, p) -> (p,); 1 is the average column."""
        return np.asarray(np.mean([encoder.mean_gate(x) for encoder in self.encoders], axis=0))


@dataclass(frozen=True)
class RuleTrial:
    """How the vote of one rule ranks the stored rows, each judged by an encoder that had not seen it."""

    rule: Rule
    auprc: float


def fit_retriever(
    x: Floats,
    outcome: Ints,
    group: Ints,
    fold: Ints,
    config: EncoderConfig,
    seed: int,
    tick: Callable[[str], None],
    rules: tuple[Rule, ...] = RULES,
) -> tuple[Retriever, Context, Floats, list[RuleTrial]]:
    """Train the encoders, build the shards, and choose the rule by out-of-fold AUPRC of the vote.

    Parameters
    ----------
    x : (n, p), the dense encoding of the stored rows
    outcome : (n,), 0 or 1
    group : (n,), patient numbers from 0
    fold : (n,), from ``assign_folds``
    config : EncoderConfig
    seed : int
    tick : called with a few words after each piece of work
    rules : candidates

    Returns
    -------
    retriever : Retriever
    left_out : Context of the n stored rows, each in its own shard without its own patient
    head : (n,), log-odds of the encoder that had not seen the row
    trials : how each rule did
    """
    from sklearn.metrics import average_precision_score

    folds = int(fold.max()) + 1
    few = len(x) < _FEW_ROWS or int(outcome.sum()) < _FEW_EVENTS
    learn: Callable[..., AwareEncoder | ColumnGate] = fit_column_gate if few else train_encoder

    def fit_fold(f: int) -> AwareEncoder | ColumnGate:
        seen = fold != f
        return learn(x[seen], outcome[seen], group[seen], config, seed + f)

    encoders: list[AwareEncoder | ColumnGate] = []
    shards, events, places = [], [], []
    head = np.zeros(len(x))
    with one_torch_thread():
        for f, encoder in enumerate(each_fold(fit_fold, folds)):
            encoders.append(encoder)
            tick(f"{'column gate' if few else 'AWARE encoder'} {f + 1} of {folds}")
    for f in range(folds):
        rows = np.flatnonzero(fold == f)
        place, head[rows] = embed(encoders[f], x[rows])
        places.append(place)
        shards.append(Shard(place.astype(np.float32), rows))
        events.append(shards[f].of(rows[outcome[rows] == 1]))
    known = outcome.astype(float)
    trials, best = [], None
    widest = max(rules, key=lambda rule: rule.neighbours)
    looked = [_look(shards[f], events[f], places[f], widest, folds, known, group) for f in range(folds)]
    for rule in rules:
        parts = [_weigh(_narrow(looked[f], rule, folds), known, rule, encoders[f].temperature) for f in range(folds)]
        vote = np.empty(len(x))
        for f, part in enumerate(parts):
            vote[fold == f] = part.vote
        trials.append(RuleTrial(rule, float(average_precision_score(outcome, vote))))
        if best is None or trials[-1].auprc > best[0].auprc:
            best = (trials[-1], parts)
    assert best is not None
    trial, parts = best
    last = _per_shard(trial.rule.neighbours, folds) - 1
    reach = np.array([np.quantile(_finite(part.squared[:, min(last, part.squared.shape[1] - 1)]), 0.9) for part in parts])
    tick("choice of context")
    retriever = Retriever(tuple(encoders), tuple(shards), tuple(events), known, trial.rule, reach)
    return retriever, _by_row(parts, fold), head, trials


@dataclass(frozen=True)
class _Found:
    """Neighbours in one shard: the k nearest, and the l nearest events."""

    row: Ints  # (q, k)
    squared: Floats  # (q, k)
    event_row: Ints  # (q, l)
    event_squared: Floats  # (q, l)


def _per_shard(count: float, folds: int) -> int:
    return max(2, int(np.ceil(count / folds)))


def _floor_rows(rule: Rule) -> float:
    return max(_FLOOR_ROWS, _FLOOR_SHARE * rule.neighbours)


def _look(shard: Shard, events: Shard, place: Floats, rule: Rule, folds: int, outcome: Floats, group: Ints | None = None) -> _Found:
    """Search one shard; with ``group`` (n,) the queries are the shard's own rows, and each leaves its own patient out."""
    k, floor = _per_shard(rule.neighbours, folds), _per_shard(_floor_rows(rule), folds)
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

    row, squared = nearest(shard, k)
    for q in np.flatnonzero((squared[:, 0] == squared[:, -1]) & np.isfinite(squared[:, -1])):
        twins = shard.twins(row[q, 0])
        if group is not None and owner is not None:
            twins = twins[group[twins] != owner[q]]
        if len(twins) > k:
            row[q] = _fair_share(twins, outcome, k)
    return _Found(row, squared, *nearest(events, floor))


def _fair_share(twins: Ints, outcome: Floats, k: int) -> Ints:
    """Choose k of more than k equal patients with the share of events that all of them have: which ones must not matter."""
    with_event, without = twins[outcome[twins] == 1], twins[outcome[twins] == 0]
    wanted = min(max(round(k * len(with_event) / len(twins)), k - len(without)), len(with_event))
    return np.concatenate([with_event[:wanted], without[: k - wanted]])


def _narrow(found: _Found, rule: Rule, folds: int) -> _Found:
    k, floor = _per_shard(rule.neighbours, folds), _per_shard(_floor_rows(rule), folds)
    return _Found(found.row[:, :k], found.squared[:, :k], found.event_row[:, :floor], found.event_squared[:, :floor])


def _weigh(found: _Found, outcome: Floats, rule: Rule, temperature: float) -> Context:
    """Turn neighbours into a vote.

    A neighbour weighs ``exp(-squared / (2 * width * temperature))``, less what the furthest neighbour weighs: so the furthest has
    no say, and which of several equally far rows came last cannot matter. A floored event weighs what its distance gives it, and brings
    along the event-free patients that stand between it and the neighbourhood at the stored rows' prevalence: their weight goes to the
    event-free neighbours. The floor therefore draws an uninformed vote to the prevalence instead of inflating it.
    """
    wide = 2 * rule.width * temperature
    nearest = found.squared[:, :1]
    present = np.isfinite(found.squared)
    away = np.subtract(found.squared, nearest, out=np.zeros_like(found.squared), where=present)
    closeness = np.exp(-away / wide) * present  # (q, k)
    furthest = np.where(present, closeness, np.inf).min(axis=1, keepdims=True)
    mass = np.where(present, closeness - furthest, 0)
    level = mass.sum(axis=1, keepdims=True) <= 0
    mass = np.where(level & present, 1.0, mass)
    row, squared, floored = found.row, found.squared, np.zeros(found.row.shape, dtype=bool)
    known = np.where(present, outcome[row], 0)
    if rule.floor:
        last = np.where(present, found.squared, -np.inf).max(axis=1, keepdims=True)
        extra = np.isfinite(found.event_squared) & (found.event_squared > last)  # the nearer ones are there already
        brought = np.where(extra, np.exp(-np.where(extra, found.event_squared - nearest, 0) / wide), 0)  # (q, l)
        prevalence = float(outcome.mean())
        free = mass * (known == 0)
        total = free.sum(axis=1, keepdims=True)
        brought = np.where(total > 0, brought, 0)  # nobody without the event nearby: no need of the floor
        companions = brought.sum(axis=1, keepdims=True) * (1 - prevalence) / prevalence
        mass = mass + np.divide(free * companions, total, out=np.zeros_like(free), where=total > 0)
        mass = np.concatenate([mass, brought], axis=1)
        row = np.concatenate([row, np.where(extra, found.event_row, -1)], axis=1)
        squared = np.concatenate([squared, np.where(extra, found.event_squared, np.inf)], axis=1)
        floored = np.concatenate([floored, extra], axis=1)
        known = np.concatenate([known, extra.astype(float)], axis=1)
    total = mass.sum(axis=1, keepdims=True)
    weight = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    return Context(row, weight, known, squared, floored, np.zeros(row.shape[1], dtype=np.int64))


def _by_row(parts: list[Context], fold: Ints) -> Context:
    """Put the folds' contexts back into the order of the stored rows."""
    place = np.argsort(np.argsort(fold, kind="stable"), kind="stable")
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])[place] for name in ("row", "weight", "outcome", "squared", "floored")
    }
    return Context(**fields, shard=parts[0].shard)


def _finite(squared: Floats) -> Floats:
    kept = squared[np.isfinite(squared)]
    return kept if len(kept) else np.zeros(1)
