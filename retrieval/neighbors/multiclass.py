"""Retrieval of similar patients for an outcome of more than two classes: one context, one vote over all classes.

The shards are those of ``sharded_retriever.py``. What differs from a binary outcome: one network embeds for all classes at once (each
class has its part of every batch), the linear metric is the mean of the classes' own, there is no class floor, and settings and encoders
are compared by the log-loss of their votes.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, k neighbours a shard, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric, fit_linear_metric, principal
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.sharded_retriever import (
    FEWEST_ROWS,
    FittedShards,
    ShardedRetriever,
    fit_linear_metrics,
    index_shards,
    neighbour_radius,
    row_order,
    trained,
)
from nearward.retrieval.neighbors.voting import (
    SETTINGS,
    Context,
    Neighbours,
    RetrievalSetting,
    compute_weights,
    concatenate_contexts,
    search_shard,
    tied_rows,
    truncate,
)
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints, Progress

CLASS_SETTINGS = tuple(setting for setting in SETTINGS if not setting.floor)
_FEWEST_IN_SECOND_CLASS = 30  # rows of the second largest class; fewer: no encoder is trained
_PRIOR_SHARE = 0.02  # of a vote are the classes' frequencies: sixty patients who agree are no certainty


@dataclass(frozen=True)
class ClassRetriever(ShardedRetriever):
    """Similar patients of a row, for an outcome of class indices."""

    @property
    def classes(self) -> int:
        """Number of classes, c."""
        return int(self.outcome.max()) + 1

    def context(self, x: Floats | EncoderInputs) -> tuple[Context, Floats]:
        """Return the contexts of new rows (q, p), whose ``outcome`` is a class index, and the heads' mean log-probabilities (q, c)."""
        parts, heads = [], []
        for f, (encoder, shard) in enumerate(zip(self.encoders, self.shards, strict=True)):
            embedding, logit = self.embed(f, x)
            parts.append(shard_context(shard, embedding, self.outcome, self.setting, len(self.shards), encoder.temperature))
            heads.append(class_log_probabilities(logit, self.classes))
        return concatenate_contexts(parts), np.mean(heads, axis=0)


def class_votes(context: Context, classes: int) -> Floats:
    """Return each class's share of a context's weight: (q, c), rows sum to 1."""
    return np.stack([(context.weight * (context.outcome == j)).sum(axis=1) for j in range(classes)], axis=1)


def class_log_probabilities(logit: Floats, classes: int) -> Floats:
    """Return log-probabilities (q, c) of a head's logits (q, c); 0 for a linear metric, which has no head and logits (q,)."""
    return np.zeros((len(logit), classes)) if logit.ndim == 1 else np.asarray(log_softmax(logit, axis=1))


def fit_class_retriever(
    x: Floats | EncoderInputs,
    data: TrainingData,
    config: EncoderConfig,
    seed: int,
    progress: Progress,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> tuple[ClassRetriever, Floats, Floats, dict[str, float]]:
    """Fit linear metrics, train encoders where rows suffice, and select the encoders where their vote is clearly better.

    Clearly: the out-of-fold log-loss of their vote is lower by more than its standard error over patients.

    Parameters
    ----------
    x : (n, p), the dense encoding, or EncoderInputs of n rows
    data : TrainingData, n rows, outcome a class index
    config : EncoderConfig
    seed : int
    progress : called with a message after each piece of work
    layout, unlabelled : optional, as ``train_encoders``

    Returns
    -------
    retriever : ClassRetriever
    votes : (n, c), each stored row's vote in its own shard, its own patient left out
    head : (n, c), log-probabilities by the encoder that has not seen the row; 0 where none was trained
    vote_log_loss : mean log-loss of the vote by linear metrics and by encoders
    """

    inputs = EncoderInputs.of(x)
    linear = _best_setting(index_shards(fit_linear_metrics(class_metric, inputs.dense, data, seed), inputs, data), data)
    vote_log_loss = {"linear metric": _mean_loss(linear.loss, data)}
    if len(inputs) < FEWEST_ROWS or np.sort(np.bincount(data.outcome))[-2] < _FEWEST_IN_SECOND_CLASS:
        progress("no encoders: too few rows or events")
        progress("choice of context")
        return linear.retriever, linear.votes, linear.head, vote_log_loss
    encoders = train_encoders(inputs, data, config, seed, layout, unlabelled)
    progress("AWARE encoders")
    deep = _best_setting(index_shards(encoders, inputs, data), data)
    progress("choice of context")
    vote_log_loss["AWARE encoders"] = _mean_loss(deep.loss, data)
    gain = np.bincount(data.patient_ids, weights=data.row_weight * (linear.loss - deep.loss))  # by patient
    if gain.sum() > gain.std() * len(gain) ** 0.5:
        return deep.retriever, deep.votes, deep.head, vote_log_loss
    return replace(linear.retriever, heads=trained(deep.retriever.encoders)), linear.votes, deep.head, vote_log_loss


def class_metric(x: Floats, class_index: Ints, patient_ids: Ints, seed: int) -> LinearMetric:
    """Fit each class's own metric against the rest, and return the one whose squared distances are their mean."""
    classes = range(int(class_index.max()) + 1)
    metrics = [fit_linear_metric(x, (class_index == j).astype(np.int64), patient_ids, seed) for j in classes]
    matrix = np.column_stack([metric.matrix for metric in metrics]) / len(metrics) ** 0.5
    return LinearMetric(principal(matrix, x), float(np.mean([metric.temperature for metric in metrics])))


@dataclass(frozen=True)
class _Candidate:
    """A retriever with the setting whose vote has the least log-loss; votes and heads (n, c) and log-losses (n,), out of fold."""

    retriever: ClassRetriever
    votes: Floats
    head: Floats
    loss: Floats


def _best_setting(fitted: FittedShards, data: TrainingData) -> _Candidate:
    """Choose the setting by the out-of-fold log-loss of the vote."""
    outcome, classes, order = data.outcome.astype(float), int(data.outcome.max()) + 1, row_order(fitted.shards)
    head = np.concatenate([class_log_probabilities(logit, classes) for logit in fitted.logits])[order]
    best: _Candidate | None = None
    for setting in CLASS_SETTINGS:
        contexts = [
            shard_context(shard, embedding, outcome, setting, len(fitted.shards), encoder.temperature, data.patient_ids)
            for shard, embedding, encoder in zip(fitted.shards, fitted.embeddings, fitted.encoders, strict=True)
        ]
        votes = np.concatenate([class_votes(context, classes) for context in contexts])[order]
        loss = vote_loss(votes, data)
        if best is None or _mean_loss(loss, data) < _mean_loss(best.loss, data):
            radius = np.array([neighbour_radius(context, setting, len(contexts)) for context in contexts])
            retriever = ClassRetriever(fitted.encoders, (), fitted.shards, outcome, setting, radius)
            best = _Candidate(retriever, votes, head, loss)
    assert best is not None
    return best


def _mean_loss(loss: Floats, data: TrainingData) -> float:
    return float(np.average(loss, weights=data.weight))


def vote_loss(votes: Floats, data: TrainingData) -> Floats:
    """Return -log of each row's vote (n, c) for its own class, mixed with 2 % of the class's frequency: (n,)."""
    class_index = data.outcome
    frequency = np.bincount(class_index, weights=data.row_weight, minlength=votes.shape[1]) / data.n_rows
    vote = votes[np.arange(len(data)), class_index]
    return np.asarray(-np.log((1 - _PRIOR_SHARE) * vote + _PRIOR_SHARE * frequency[class_index]))


def shard_context(
    shard: Shard,
    embedding: Floats,
    outcome: Floats,
    setting: RetrievalSetting,
    shards: int,
    temperature: float,
    patient_ids: Ints | None = None,
) -> Context:
    """Search one shard and weight the neighbours; with ``patient_ids`` (n,) the queries are its own rows, each without its own patient."""
    neighbours = truncate(search_shard(shard, shard, embedding, setting, shards, patient_ids), setting, shards)
    return _resolve_ties(compute_weights(neighbours, outcome, setting, temperature), neighbours, shard, outcome, patient_ids)


def _resolve_ties(context: Context, neighbours: Neighbours, shard: Shard, outcome: Floats, patient_ids: Ints | None) -> Context:
    """Where more than k stored rows are equally near, let the context vote as all of them would.

    Rows of each class among them are shown, of the commonest first where there are more classes than neighbours. A class weighs its share.
    """
    k = neighbours.row.shape[1]
    row, weight, context_outcome = context.row.copy(), context.weight.copy(), context.outcome.copy()
    for q in neighbours.tied_queries:
        tied = tied_rows(shard, neighbours.row[q, 0], q, patient_ids)
        if len(tied) <= k:
            continue
        classes, count = np.unique(outcome[tied], return_counts=True)
        classes, count = classes[np.argsort(-count, kind="stable")][:k], np.sort(count)[::-1][:k]
        shown = 1 + np.floor((k - len(classes)) * count / count.sum()).astype(int)
        shown[0] += k - shown.sum()
        shown = np.minimum(shown, count)
        chosen = np.concatenate([tied[outcome[tied] == one][:rows] for one, rows in zip(classes, shown, strict=True)])
        row[q, :k], weight[q, :k], context_outcome[q, :k] = -1, 0.0, 0.0
        row[q, : len(chosen)], context_outcome[q, : len(chosen)] = chosen, outcome[chosen]
        weight[q, : len(chosen)] = np.repeat(count / count.sum() / shown, shown)
    return replace(context, row=row, weight=weight, outcome=context_outcome)
