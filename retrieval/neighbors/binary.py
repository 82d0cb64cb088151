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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed
from nearward.retrieval.encoders.linear_metric import LinearMetric, fit_linear_metric
from nearward.retrieval.encoders.training import train_encoder
from nearward.retrieval.neighbors.base import Places
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.voting import RULES, Context, Rule, compute_weights, join, look, per_shard, resolve_ties, truncate
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import parallel_map
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints

_FEW_ROWS, _FEW_EVENTS = 300, 30  # below either, no network is tried
_DRAWS = 200  # resamples that say how sure a better ranking is


@dataclass(frozen=True)
class Retriever(Places):
    """Encoders, their shards, and the rule that picks a context.

    Parameters
    ----------
    encoders : tuple of AwareEncoder or LinearMetric, one a fold
        They say who is near.
    heads : tuple of AwareEncoder
        They say how much at risk a patient looks; none where encoders do both, or where none were trained.
    shards : tuple of Shard
    events : tuple of Shard, the events of each shard, for the class floor
    outcome : (n,), 0 or 1
    rule : Rule
    reach : (s,), squared distance within which nine in ten stored rows have all their k neighbours
    """

    encoders: tuple[AwareEncoder | LinearMetric, ...]
    heads: tuple[AwareEncoder, ...]
    shards: tuple[Shard, ...]
    events: tuple[Shard, ...]
    outcome: Floats
    rule: Rule
    reach: Floats

    def state(self) -> dict[str, Any]:
        """Return what a retriever is made of, for the artifact."""
        return {**self.places_state(), "outcome": self.outcome}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Retriever:
        """Rebuild a retriever."""
        places, known = cls.places_from_state(state), state["outcome"]
        events = tuple(shard.of(shard.rows[known[shard.rows] == 1]) for shard in places["shards"])
        return cls(**places, events=events, outcome=known)

    def context(self, x: Floats) -> tuple[Context, Floats]:
        """Find the context of new rows, picked by this retriever's own rule.

        Parameters
        ----------
        x : (q, p), the dense encoding

        Returns
        -------
        context : Context
        head : (q,), the encoders' mean log-odds
        """
        contexts, head = self.contexts(x, (self.rule,))
        return contexts[0], head

    def contexts(self, x: Floats, rules: tuple[Rule, ...]) -> tuple[list[Context], Floats]:
        """Find a context for each rule in one search: contexts, and the encoders' mean log-odds (q,)."""
        folds = len(self.encoders)
        parts: list[list[Context]] = [[] for _ in rules]
        heads = []
        for f in range(folds):
            place, logit = embed(self.encoders[f], x)
            for part, context in zip(parts, self._look(f, place, rules, folds, None), strict=True):
                part.append(context)
            heads.append(embed(self.heads[f], x)[1] if self.heads else logit)
        return [join(part) for part in parts], np.mean(heads, axis=0)

    def out_of_fold(self, x: Floats, group: Ints, rules: tuple[Rule, ...]) -> list[Context]:
        """Find a context for each rule of each stored row: all of it from the row's own shard, its own patient left out.

        Parameters
        ----------
        x : (n, p), the dense encoding of the stored rows
        group : (n,), patient numbers from 0
        rules : tuple of Rule
        """
        parts: list[list[Context]] = [[] for _ in rules]
        for f, shard in enumerate(self.shards):
            place, _ = embed(self.encoders[f], x[shard.rows])
            for part, context in zip(parts, self._look(f, place, rules, 1, group), strict=True):
                part.append(context)
        return [_by_row(part, self.shards) for part in parts]

    def _look(self, f: int, place: Floats, rules: tuple[Rule, ...], folds: int, group: Ints | None) -> list[Context]:
        """Search one shard once, and weigh what it finds by each rule."""
        found = look(self.shards[f], self.events[f], place, _widest(rules), folds, group)
        settled = (resolve_ties(truncate(found, rule, folds), self.shards[f], self.outcome, group) for rule in rules)
        return [compute_weights(s, self.outcome, rule, self.encoders[f].temperature) for s, rule in zip(settled, rules, strict=True)]


@dataclass(frozen=True)
class RuleTrial:
    """How the vote of one rule ranks the stored rows, each judged by an encoder or a metric that had not seen it."""

    learned: bool  # by encoders; else by linear metrics
    rule: Rule
    auprc: float


@dataclass(frozen=True)
class _Candidate:
    """Encoders or metrics with their shards, and the rule whose vote of the stored rows ranks best."""

    retriever: Retriever
    out_of_fold: Context
    head: Floats
    trials: list[RuleTrial]


def fit_retriever(
    x: Floats,
    data: TrainingData,
    config: EncoderConfig,
    seed: int,
    progress: Callable[[str], None],
    rules: tuple[Rule, ...] = RULES,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> tuple[Retriever, Context, Floats, list[RuleTrial]]:
    """Fit linear metrics, train encoders where there is enough to learn from, and keep the encoders where they rank clearly better.

    Clearly: the out-of-fold AUPRC of their vote is higher by more than its standard error over resampled patients. Where events are few
    the comparison is mostly luck, and encoders that memorised are the larger risk.

    Parameters
    ----------
    x : (n, p), the dense encoding of the stored rows
    data : TrainingData, n rows, outcome 0 or 1
    config : EncoderConfig
    seed : int
    progress : called with a few words after each piece of work
    rules : candidates
    layout, unlabelled : optional, as ``train_encoder``

    Returns
    -------
    retriever : Retriever
    out_of_fold : Context of the n stored rows, each in its own shard without its own patient
    head : (n,), log-odds of the encoder that had not seen the row; 0 where none was trained
    trials : how each rule did
    """
    few = len(x) < _FEW_ROWS or int(data.outcome.sum()) < _FEW_EVENTS

    def metric_of(f: int) -> LinearMetric:
        train = data.train_rows(f)
        return fit_linear_metric(x[train], data.outcome[train], data.patient_ids[train], seed + f)

    def encoder_of(f: int) -> AwareEncoder:
        train = data.train_rows(f)
        return train_encoder(x[train], data.outcome[train], data.patient_ids[train], config, seed + f, layout, unlabelled)

    def done(f: int) -> None:
        progress(f"{'linear metric' if few else 'AWARE encoder'} {f + 1} of {data.n_folds}")

    plain = _candidate(metric_of, x, data, rules, done if few else lambda f: None)
    if few:
        progress("choice of context")
        return plain.retriever, plain.out_of_fold, plain.head, plain.trials
    deep = _candidate(encoder_of, x, data, rules, done)
    progress("choice of context")
    trials = [*plain.trials, *deep.trials]
    if _ranks_clearly_better(deep.out_of_fold.vote, plain.out_of_fold.vote, data, seed):
        return deep.retriever, deep.out_of_fold, deep.head, trials
    heads = tuple(encoder for encoder in deep.retriever.encoders if isinstance(encoder, AwareEncoder))
    return replace(plain.retriever, heads=heads), plain.out_of_fold, deep.head, trials


def _candidate(
    fit_fold: Callable[[int], AwareEncoder | LinearMetric],
    x: Floats,
    data: TrainingData,
    rules: tuple[Rule, ...],
    done: Callable[[int], None],
) -> _Candidate:
    """Fit fold by fold, build the shards, and choose the rule by out-of-fold AUPRC of the vote."""
    folds, fold, outcome = data.n_folds, data.fold, data.outcome
    encoders: list[AwareEncoder | LinearMetric] = []
    shards, events, places = [], [], []
    head = np.zeros(len(x))
    for f, encoder in enumerate(parallel_map(fit_fold, range(folds), "torch")):
        encoders.append(encoder)
        done(f)
    for f in range(folds):
        rows = np.flatnonzero(fold == f)
        place, head[rows] = embed(encoders[f], x[rows])
        places.append(place)
        shards.append(Shard(place.astype(np.float32), rows))
        events.append(shards[f].of(rows[outcome[rows] == 1]))
    known = outcome.astype(float)
    trials, best = [], None
    looked = [look(shards[f], events[f], places[f], _widest(rules), folds, data.patient_ids) for f in range(folds)]
    for rule in rules:
        found = [resolve_ties(truncate(looked[f], rule, folds), shards[f], known, data.patient_ids) for f in range(folds)]
        parts = [compute_weights(found[f], known, rule, encoders[f].temperature) for f in range(folds)]
        vote = np.empty(len(x))
        for f, part in enumerate(parts):
            vote[fold == f] = part.vote
        trials.append(RuleTrial(isinstance(encoders[0], AwareEncoder), rule, float(average_precision_score(outcome, vote))))
        if best is None or trials[-1].auprc > best[0].auprc:
            best = (trials[-1], parts)
    assert best is not None
    trial, parts = best
    last = per_shard(trial.rule.neighbours, folds) - 1
    reach = np.array([np.quantile(_finite(part.squared[:, last]), 0.9) for part in parts])
    retriever = Retriever(tuple(encoders), (), tuple(shards), tuple(events), known, trial.rule, reach)
    return _Candidate(retriever, _by_row(parts, retriever.shards), head, trials)


def _ranks_clearly_better(one: Floats, other: Floats, data: TrainingData, seed: int) -> bool:
    """Whether the AUPRC of one set of votes is higher than the other's by more than a standard error, patients resampled."""
    draw = np.random.default_rng(seed)

    def gain(weight: Floats | None) -> float:
        mine, theirs = (average_precision_score(data.outcome, vote, sample_weight=weight) for vote in (one, other))
        return float(mine - theirs)

    gains = [gain(draw.exponential(size=data.n_patients)[data.patient_ids]) for _ in range(_DRAWS)]  # a resample that loses no event
    return gain(None) > float(np.std(gains))


def _by_row(parts: list[Context], shards: tuple[Shard, ...]) -> Context:
    """Put the shards' contexts of their own rows into the order of the stored rows."""
    place = np.argsort(np.concatenate([shard.rows for shard in shards]))
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])[place] for name in ("row", "weight", "outcome", "squared", "floored")
    }
    return Context(**fields, shard=parts[0].shard)


def _widest(rules: tuple[Rule, ...]) -> Rule:
    return replace(max(rules, key=lambda rule: rule.neighbours), floor=any(rule.floor for rule in rules))


def _finite(squared: Floats) -> Floats:
    kept = squared[np.isfinite(squared)]
    return kept if len(kept) else np.zeros(1)
