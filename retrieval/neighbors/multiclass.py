"""Retrieval of similar patients for an outcome of more than two classes: one context, one vote over all classes.

The shards are those of ``sharded_retriever.py``. What differs from a binary outcome: one network embeds for all classes at once (each
class has its part of every batch), the linear metric is the mean of the classes' own, there is no class floor, and settings and encoders
are compared by the log-loss of their votes.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, k neighbours a shard, c classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import log_softmax

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric, fit_linear_metric, principal
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors.fitted_shards import (
    FEWEST_ROWS,
    FittedShards,
    StoredLabels,
    check_lists,
    fit_linear_metrics,
    index_shards,
    remembered_encoders,
    store_others,
    trial_sample,
    try_settings,
)
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.sharded_retriever import IndexBlock, ShardedRetriever, trained
from nearward.retrieval.neighbors.voting import (
    SETTINGS,
    Context,
    Neighbours,
    RetrievalSetting,
    compute_weights,
    concatenate_contexts,
    largest,
    query_patients,
    search_shard,
    tied_rows,
    truncate,
)
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.persistence.checkpoints import Checkpoints
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints, Progress

CLASS_SETTINGS = tuple(setting for setting in SETTINGS if not setting.floor)
_FEWEST_IN_SECOND_CLASS = 30  # rows of the second largest class; fewer: no encoder is trained
_PRIOR_SHARE = 0.02  # of a vote are the classes' frequencies: sixty patients who agree are no certainty


@dataclass(frozen=True)
class ClassRetriever(ShardedRetriever):
    """Similar patients of a row, for an outcome of class indices."""

    @cached_property
    def classes(self) -> int:
        """Number of classes, c."""
        return int(self.outcome.max()) + 1

    def context(self, x: Floats | EncoderInputs) -> tuple[Context, Floats]:
        """Return the contexts of new rows (q, p), whose ``outcome`` is a class index, and the heads' mean log-probabilities (q, c)."""
        parts, heads, labels, n_shards = [], [], StoredLabels(self.outcome, row_weight=self.row_weight), len(self.shards)
        for f, (encoder, shard) in enumerate(zip(self.encoders, self.shards, strict=True)):
            embedding, logit = self.embed(f, x)
            parts.append(shard_context(shard, embedding, labels, self.setting, n_shards, encoder.temperature))
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
    others: Iterable[IndexBlock] | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[ClassRetriever, Floats, Floats, dict[str, float]]:
    """Fit linear metrics, train encoders where rows suffice, and select these unless the metrics' vote is clearly better.

    Clearly: the out-of-fold log-loss of their vote is lower by more than its standard error over patients.

    Parameters
    ----------
    x : (n, p), the dense encoding, or EncoderInputs of n rows
    data : TrainingData, n rows, outcome a class index
    config : EncoderConfig
    seed : int
    progress : called with a message after each piece of work
    layout, unlabelled : optional, as ``train_encoders``
    others, checkpoints : optional, as ``binary.fit_retriever``

    Returns
    -------
    retriever : ClassRetriever
    votes : (n, c), each stored row's vote in its own shard, its own patient left out
    head : (n, c), log-probabilities by the encoder that has not seen the row; 0 where none was trained
    vote_log_loss : mean log-loss of the vote by linear metrics and by encoders

    Raises
    ------
    InputError
        As ``IndexCheck.of``.
    """
    inputs = EncoderInputs.of(x)
    indexed = index_shards(fit_linear_metrics(class_metric, inputs.dense, data, seed, checkpoints), inputs, data)
    tried, sample = trial_sample(data, others, seed)
    best = linear = _best_setting(indexed.with_queries(tried), sample, StoredLabels.of(data))
    vote_log_loss = {"linear metric": linear.mean}
    heads: tuple[AwareEncoder, ...] = ()
    classes = int(data.outcome.max()) + 1
    head = class_log_probabilities(indexed.head, classes)
    if len(inputs) < FEWEST_ROWS or np.sort(np.bincount(data.outcome))[-2] < _FEWEST_IN_SECOND_CLASS:
        progress("no encoders: too few rows or events")
    else:
        encoders = remembered_encoders(checkpoints, lambda: train_encoders(inputs, data, config, seed, layout, unlabelled))
        progress("AWARE encoders")
        indexed_deep = index_shards(encoders, inputs, data)
        deep = _best_setting(indexed_deep.with_queries(tried), sample, StoredLabels.of(data))
        vote_log_loss["AWARE encoders"], head = deep.mean, class_log_probabilities(indexed_deep.head, classes)
        gain = np.bincount(sample.patient_ids, weights=(deep.loss - linear.loss) * sample.row_weight)  # of the metrics, by patient
        if gain.sum() > gain.std() * len(gain) ** 0.5:
            heads = trained(deep.retriever.encoders)
        else:
            best, indexed = deep, indexed_deep
    check = None
    if others is not None:
        stored, labels = store_others(indexed, best.retriever, data, others)
        best = _best_setting(stored, data, labels)
        vote_log_loss[best.retriever.embedding], chosen = best.mean, (best.retriever.setting,)
        check = check_lists(stored, data, best.votes, lambda shards, part: _best_setting(shards, part, labels, chosen).votes, seed)
    progress("choice of context")
    return replace(best.retriever, heads=heads, index_check=check), best.votes, head, vote_log_loss


def class_metric(x: Floats, class_index: Ints, patient_ids: Ints, seed: int, row_weight: Floats | None = None) -> LinearMetric:
    """Fit each class's own metric against the rest, and return the one whose squared distances are their mean."""
    classes = range(int(class_index.max()) + 1)
    metrics = [fit_linear_metric(x, (class_index == j).astype(np.int64), patient_ids, seed, row_weight) for j in classes]
    matrix = np.column_stack([metric.matrix for metric in metrics]) / len(metrics) ** 0.5
    return LinearMetric(principal(matrix, x, row_weight), float(np.mean([metric.temperature for metric in metrics])))


@dataclass(frozen=True)
class _Candidate:
    """A retriever with the setting whose vote of the queries has the least log-loss; votes (q, c), log-losses (q,) and their mean."""

    retriever: ClassRetriever
    votes: Floats
    loss: Floats
    mean: float


def _best_setting(
    fitted: FittedShards, data: TrainingData, labels: StoredLabels, settings: tuple[RetrievalSetting, ...] = CLASS_SETTINGS
) -> _Candidate:
    """Choose the setting by the out-of-fold log-loss of the votes that the queries of ``fitted`` get, which ``data`` describes."""
    classes, n_shards = int(data.outcome.max()) + 1, len(fitted.shards)

    def contexts(f: int, part: slice) -> Iterator[Context]:
        shard, queries, temperature = fitted.shards[f], fitted.queries[f][part], fitted.encoders[f].temperature
        near = search_shard(shard, shard, fitted.embeddings[f][part], largest(settings), n_shards, labels.patient_ids, queries)
        return (_weighted(near, shard, labels, setting, n_shards, temperature, queries) for setting in settings)

    tried = try_settings(fitted, data, settings, contexts, lambda context: class_votes(context, classes))
    losses = [vote_loss(votes, data.outcome, data.weight) for votes, _ in tried]
    means = [float(np.average(loss, weights=data.weight)) for loss in losses]
    best = int(np.argmin(means))
    votes, radius = tried[best]
    retriever = ClassRetriever(fitted.encoders, (), fitted.shards, labels.outcome, settings[best], radius, labels.row_weight)
    return _Candidate(retriever, votes, losses[best], means[best])


def vote_loss(votes: Floats, class_index: Ints, weight: Floats | None = None) -> Floats:
    """Return -log of each row's vote (n, c) for its own class, mixed with 2 % of the class's weighted frequency: (n,)."""
    rows = np.bincount(class_index, weights=weight, minlength=votes.shape[1])
    vote = votes[np.arange(len(class_index)), class_index]
    return np.asarray(-np.log((1 - _PRIOR_SHARE) * vote + _PRIOR_SHARE * (rows / rows.sum())[class_index]))


def shard_context(
    shard: Shard, embedding: Floats, labels: StoredLabels, setting: RetrievalSetting, n_shards: int, temperature: float
) -> Context:
    """Search one shard for embedded rows (q, e), and weight their neighbours.

    With the patients of ``labels`` the rows are all stored rows of the shard, and each leaves its own patient out.
    """
    near = search_shard(shard, shard, embedding, setting, n_shards, labels.patient_ids)
    return _weighted(near, shard, labels, setting, n_shards, temperature)


def _weighted(
    neighbours: Neighbours,
    shard: Shard,
    labels: StoredLabels,
    setting: RetrievalSetting,
    n_shards: int,
    temperature: float,
    queries: Ints | None = None,
) -> Context:
    """Truncate the neighbours found under a larger setting to this one, and weight them.

    With the patients of ``labels`` the queries are stored rows of the shard: all of them, or those whose numbers (q,) are given.
    """
    truncated = truncate(neighbours, setting, n_shards)
    context = compute_weights(truncated, labels.outcome, setting, temperature, labels.row_weight)
    return _resolve_ties(context, truncated, shard, labels, query_patients(shard, labels.patient_ids, queries))


def _resolve_ties(context: Context, neighbours: Neighbours, shard: Shard, labels: StoredLabels, patients: Ints | None) -> Context:
    """Where more than k stored rows are equally near, let the context vote as all of them would.

    Rows of each class among them are shown, of the commonest first where there are more classes than neighbours. A class weighs its share.
    """
    k, outcome = neighbours.row.shape[1], labels.outcome
    row, weight, context_outcome = context.row.copy(), context.weight.copy(), context.outcome.copy()
    for q in neighbours.tied_queries:
        tied = tied_rows(shard, neighbours.row[q, 0], None if patients is None else int(patients[q]), labels.patient_ids)
        if len(tied) <= k:
            continue
        classes, member, rows = np.unique(outcome[tied], return_inverse=True, return_counts=True)
        count = rows if labels.row_weight is None else np.bincount(member, weights=labels.row_weight[tied])
        order = np.argsort(-count, kind="stable")[:k]
        classes, count, rows = classes[order], count[order], rows[order]
        shown = 1 + np.floor((k - len(classes)) * count / count.sum()).astype(int)
        shown[0] += k - shown.sum()
        shown = np.minimum(shown, rows)
        chosen = np.concatenate([tied[outcome[tied] == one][:most] for one, most in zip(classes, shown, strict=True)])
        row[q, :k], weight[q, :k], context_outcome[q, :k] = -1, 0.0, 0.0
        row[q, : len(chosen)], context_outcome[q, : len(chosen)] = chosen, outcome[chosen]
        weight[q, : len(chosen)] = np.repeat(count / count.sum() / shown, shown)
    return replace(context, row=row, weight=weight, outcome=context_outcome)
