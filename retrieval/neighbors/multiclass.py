"""Similar patients where an outcome has more than two classes: one context, one vote over all classes.

The parts are those of ``context.py``: an encoder or a linear metric a fold, cross-fitted shards, a rule chosen out of fold. What
differs: one network places all classes at once (each class has its part of every batch), the linear metric is the mean of the classes'
own, there is no class floor (whose would it be?), and candidates are compared by the log-loss of their votes.

Letters: n stored rows, p encoded columns, q query rows, s shards, k neighbours a shard, c classes, e width of a place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed
from nearward.retrieval.encoders.linear_metric import LinearMetric, fit_linear_metric, principal
from nearward.retrieval.encoders.training import train_encoder
from nearward.retrieval.neighbors.base import Places
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.voting import RULES, Context, Found, Rule, compute_weights, join, look, per_shard, truncate
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import parallel_map
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints

CLASS_RULES = tuple(rule for rule in RULES if not rule.floor)
_FEW_ROWS, _FEW_EACH = 300, 30  # in all and in the second largest class: below either, no network is tried
_PRIOR = 0.02  # of a vote is the classes' shares: nobody is certain because sixty patients agree


@dataclass(frozen=True)
class ClassRetriever(Places):
    """Encoders or metrics, their shards, and the rule that picks a context.

    Parameters
    ----------
    encoders : tuple of AwareEncoder or LinearMetric, one a fold
    heads : tuple of AwareEncoder
        Encoders that were trained, where metrics say who is near; none otherwise.
    shards : tuple of Shard
    code : (n,), class numbers of the stored rows
    rule : Rule
    reach : (s,), squared distance within which nine in ten stored rows have all their k neighbours
    """

    encoders: tuple[AwareEncoder | LinearMetric, ...]
    heads: tuple[AwareEncoder, ...]
    shards: tuple[Shard, ...]
    code: Ints
    rule: Rule
    reach: Floats

    @property
    def classes(self) -> int:
        """Number of classes, c."""
        return int(self.code.max()) + 1

    def context(self, x: Floats) -> tuple[Context, Floats]:
        """Find the context of new rows (q, p): contexts, whose ``outcome`` is a class number, and the heads' mean log-shares (q, c)."""
        parts, heads = [], []
        for f in range(len(self.encoders)):
            place, logit = embed(self.encoders[f], x)
            parts.append(_weighed(self.shards[f], place, self.code, self.rule, len(self.encoders), self.encoders[f].temperature))
            heads.append(log_shares(embed(self.heads[f], x)[1] if self.heads else logit, self.classes))
        return join(parts), np.mean(heads, axis=0)

    def state(self) -> dict[str, Any]:
        """Return what it is made of, for the artifact."""
        return {**self.places_state(), "code": self.code}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ClassRetriever:
        """Rebuild what ``state`` took apart."""
        return cls(**cls.places_from_state(state), code=state["code"])


def vote(context: Context, classes: int) -> Floats:
    """Return each class's share of a context's weight: (q, c), rows sum to 1."""
    return np.stack([(context.weight * (context.outcome == j)).sum(axis=1) for j in range(classes)], axis=1)


def log_shares(logit: Floats, classes: int) -> Floats:
    """Return log-shares (q, c) of a head's log-odds (q, c); a linear metric has no head, and says nothing (0)."""
    if logit.ndim == 1:
        return np.zeros((len(logit), classes))
    high = logit.max(axis=1, keepdims=True)
    out: Floats = logit - high - np.log(np.exp(logit - high).sum(axis=1, keepdims=True))
    return out


def fit_class_retriever(
    x: Floats,
    data: TrainingData,
    config: EncoderConfig,
    seed: int,
    progress: Callable[[str], None],
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> tuple[ClassRetriever, Floats, Floats, dict[str, float]]:
    """Fit metrics, train encoders where there is enough to learn from, and keep the encoders where they vote clearly better.

    Clearly: the out-of-fold log-loss of their vote is lower by more than its standard error over patients.

    Parameters
    ----------
    x : (n, p), the dense encoding
    data : TrainingData, n rows, outcome a class index
    config : EncoderConfig
    seed : int
    progress : called with a few words after each piece of work
    layout, unlabelled : optional, as ``train_encoder``

    Returns
    -------
    retriever : ClassRetriever
    out_of_fold : (n, c), each stored row's vote in its own shard, its own patient left out
    head : (n, c), log-shares by the encoder that had not seen the row; 0 where none was trained
    told : log-loss of the vote of each way of placing patients
    """
    size = np.bincount(data.outcome)

    def metric_of(f: int) -> LinearMetric:
        train = data.train_rows(f)
        return class_metric(x[train], data.outcome[train], data.patient_ids[train], seed + f)

    def encoder_of(f: int) -> AwareEncoder:
        train = data.train_rows(f)
        return train_encoder(x[train], data.outcome[train], data.patient_ids[train], config, seed + f, layout, unlabelled)

    plain, plain_vote, none, plain_loss = _candidate(metric_of, x, data)
    if len(x) < _FEW_ROWS or np.sort(size)[-2] < _FEW_EACH:
        progress("choice of context")
        return plain, plain_vote, none, {"linear metric": float(plain_loss.mean())}
    deep, deep_vote, head, deep_loss = _candidate(encoder_of, x, data, lambda f: progress(f"AWARE encoder {f + 1} of {data.n_folds}"))
    progress("choice of context")
    told = {"linear metric": float(plain_loss.mean()), "AWARE encoders": float(deep_loss.mean())}
    gain = np.bincount(data.patient_ids, weights=plain_loss - deep_loss)  # by patient
    if gain.sum() > gain.std() * len(gain) ** 0.5:
        return deep, deep_vote, head, told
    heads = tuple(encoder for encoder in deep.encoders if isinstance(encoder, AwareEncoder))
    return replace(plain, heads=heads), plain_vote, head, told


def class_metric(x: Floats, code: Ints, group: Ints, seed: int) -> LinearMetric:
    """Fit each class's own metric against the rest, and return the one whose squared distances are their mean."""
    each = [fit_linear_metric(x, (code == j).astype(np.int64), group, seed) for j in range(int(code.max()) + 1)]
    matrix = np.column_stack([metric.matrix for metric in each]) / len(each) ** 0.5
    return LinearMetric(principal(matrix, x), float(np.mean([metric.temperature for metric in each])))


def _candidate(
    fit_fold: Callable[[int], AwareEncoder | LinearMetric],
    x: Floats,
    data: TrainingData,
    done: Callable[[int], None] = lambda f: None,
) -> tuple[ClassRetriever, Floats, Floats, Floats]:
    """Fit fold by fold, build the shards, choose the rule; returns votes and heads (n, c) and the votes' log-loss (n,), all out of fold."""
    folds, fold, code, classes = data.n_folds, data.fold, data.outcome, int(data.outcome.max()) + 1
    encoders: list[AwareEncoder | LinearMetric] = []
    for f, encoder in enumerate(parallel_map(fit_fold, range(folds), "torch")):
        encoders.append(encoder)
        done(f)
    shards, places, head = [], [], np.zeros((len(x), classes))
    for f in range(folds):
        rows = np.flatnonzero(fold == f)
        place, logit = embed(encoders[f], x[rows])
        head[rows] = log_shares(logit, classes)
        places.append(place)
        shards.append(Shard(place.astype(np.float32), rows))
    best: tuple[float, Rule, Floats, Floats, Floats] | None = None
    for rule in CLASS_RULES:
        votes, reach = np.empty((len(x), classes)), np.empty(folds)
        for f in range(folds):
            found = _weighed(shards[f], places[f], code, rule, folds, encoders[f].temperature, data.patient_ids)
            votes[shards[f].rows] = vote(found, classes)
            last = found.squared[:, per_shard(rule.neighbours, folds) - 1]
            reach[f] = np.quantile(last[np.isfinite(last)], 0.9) if np.isfinite(last).any() else 0.0
        loss = vote_loss(votes, code)
        if best is None or loss.mean() < best[0]:
            best = (float(loss.mean()), rule, votes, reach, loss)
    assert best is not None
    _, rule, votes, reach, loss = best
    return ClassRetriever(tuple(encoders), (), tuple(shards), code, rule, reach), votes, head, loss


def vote_loss(votes: Floats, code: Ints) -> Floats:
    """Return -log of each row's vote (n, c) for its own class, a little of the classes' shares mixed in: (n,)."""
    share = np.bincount(code, minlength=votes.shape[1]) / len(code)
    return np.asarray(-np.log((1 - _PRIOR) * votes[np.arange(len(code)), code] + _PRIOR * share[code]))


def _weighed(shard: Shard, place: Floats, code: Ints, rule: Rule, folds: int, temperature: float, group: Ints | None = None) -> Context:
    """Search one shard and weigh what it finds; with ``group`` (n,) the queries are its own rows, each without its own patient."""
    found = truncate(look(shard, shard, place, rule, folds, group), rule, folds)
    context = compute_weights(found, code.astype(float), rule, temperature)
    return _settle_twins(context, found, shard, code, group)


def _settle_twins(context: Context, found: Found, shard: Shard, code: Ints, group: Ints | None) -> Context:
    """Where more stored patients than there are places are a query's equals, let those shown vote as all of them would.

    Each class among the equals is shown, the commonest first where there are more classes than places; what a class weighs is its share.
    """
    k = found.row.shape[1]
    row, weight, outcome = context.row.copy(), context.weight.copy(), context.outcome.copy()
    for q in np.flatnonzero((found.squared[:, 0] == found.squared[:, -1]) & np.isfinite(found.squared[:, -1])):
        twins = shard.twins(found.row[q, 0])
        if group is not None:
            twins = twins[group[twins] != group[shard.rows[q]]]
        if len(twins) <= k:
            continue
        kinds, count = np.unique(code[twins], return_counts=True)
        kinds, count = kinds[np.argsort(-count, kind="stable")][:k], np.sort(count)[::-1][:k]
        shown = 1 + np.floor((k - len(kinds)) * count / count.sum()).astype(int)
        shown[0] += k - shown.sum()
        shown = np.minimum(shown, count)
        chosen = np.concatenate([twins[code[twins] == kind][:some] for kind, some in zip(kinds, shown, strict=True)])
        row[q, :k], weight[q, :k], outcome[q, :k] = -1, 0.0, 0.0
        row[q, : len(chosen)], outcome[q, : len(chosen)] = chosen, code[chosen]
        weight[q, : len(chosen)] = np.repeat(count / count.sum() / shown, shown)
    return replace(context, row=row, weight=weight, outcome=outcome)
