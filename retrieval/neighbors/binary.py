"""Retrieval of similar patients for a binary outcome: their weights, and the risk that they vote.

The shards are those of ``sharded_retriever.py``; the vote is that of ``voting.py``, with a class floor. The retrieval setting is chosen
by the out-of-fold AUPRC of the vote, and so are the encoders over linear metrics.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, k neighbours a shard, l floor events a shard,
c context rows, ``s * (k + l)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import fit_linear_metric
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors.fitted_shards import (
    FEWEST_ROWS,
    FittedShards,
    StoredLabels,
    check_lists,
    fit_linear_metrics,
    index_shards,
    query_parts,
    remembered_encoders,
    store_others,
    trial_sample,
    try_settings,
)
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.sharded_retriever import (
    IndexBlock,
    ShardedRetriever,
    embedding_name,
)
from nearward.retrieval.neighbors.voting import (
    SETTINGS,
    Context,
    Neighbours,
    RetrievalSetting,
    compute_weights,
    concatenate_contexts,
    join_contexts,
    largest,
    resolve_ties,
    search_shard,
    truncate,
)
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import single_threaded
from nearward.tabular.persistence.checkpoints import Checkpoints
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.statistics import weighted_average_precision
from nearward.tabular.typing import Floats, Ints, Progress

_FEWEST_EVENTS = 30  # fewer: no encoder is trained
_RESAMPLES = 200  # for the standard error of a difference in AUPRC


@dataclass(frozen=True)
class Retriever(ShardedRetriever):
    """Similar patients of a row, for an outcome of 0 or 1."""

    @cached_property
    def events(self) -> tuple[Shard, ...]:
        """The events of each shard, for the class floor."""
        return _events(self.shards, self.outcome)

    @cached_property
    def prevalence(self) -> float:
        """Share of events among the stored rows, by what they count."""
        return float(np.average(self.outcome, weights=self.row_weight))

    def context(self, x: Floats | EncoderInputs) -> tuple[Context, Floats]:
        """Return the context of new rows under the retriever's own setting.

        Parameters
        ----------
        x : (q, p), the dense encoding

        Returns
        -------
        context : Context
        head : (q,), the encoders' mean log-odds
        """
        contexts, head = self.contexts(x, (self.setting,))
        return contexts[0], head

    def contexts(self, x: Floats | EncoderInputs, settings: tuple[RetrievalSetting, ...]) -> tuple[list[Context], Floats]:
        """Return a context for each setting from one search, and the encoders' mean log-odds (q,)."""
        embedded = self.embed_in_all(x)
        return self.search(embedded, settings), np.mean([logit for _, logit in embedded], axis=0)

    def search(self, embedded: list[tuple[Floats, Floats]], settings: tuple[RetrievalSetting, ...]) -> list[Context]:
        """Return a context for each setting of rows as ``embed_in_all`` returns them, from one search."""
        by_shard = [self.shard_contexts(f, embedding, settings) for f, (embedding, _) in enumerate(embedded)]
        return [concatenate_contexts(list(parts)) for parts in zip(*by_shard, strict=True)]

    def shard_contexts(self, f: int, embedding: Floats, settings: tuple[RetrievalSetting, ...]) -> list[Context]:
        """Return what one shard contributes to the contexts of new rows with these embeddings (q, e), for each setting."""
        return self._shard_contexts(f, embedding, settings, len(self.shards))

    def out_of_fold_contexts(
        self, x: Floats | EncoderInputs, patient_ids: Ints, settings: tuple[RetrievalSetting, ...], rows: Ints | None = None
    ) -> list[Context]:
        """Return a context for each setting of stored rows, all of it from the row's own shard, without the row's own patient.

        Parameters
        ----------
        x : (q, p), the dense encoding of the queried rows, or EncoderInputs of q rows
        patient_ids : (n,), patient numbers from 0, of all stored rows
        settings : tuple of RetrievalSetting
        rows : (q,), numbers of the stored rows that are queried; by default all
        """
        inputs, by_part, positions = EncoderInputs.of(x), [], []
        for f, (position, queries) in enumerate(self._queries_by_shard(rows)):
            if not len(position):
                continue
            embedding = embed(self.encoders[f], inputs.take(position))[0]
            for part in query_parts(len(position)):
                by_part.append(self._shard_contexts(f, embedding[part], settings, 1, patient_ids, queries[part]))
                positions.append(position[part])
        if len(positions) == 1:
            return by_part[0]
        order = np.argsort(np.concatenate(positions))
        return [join_contexts(list(parts), 0, parts[0].shard).take(order) for parts in zip(*by_part, strict=True)]

    def out_of_fold(self, x: Floats | EncoderInputs, patient_ids: Ints, rows: Ints | None = None) -> tuple[Floats, Floats]:
        """Return the vote and the head's log-odds (q,), (q,) of stored rows by encoders and patients that are not their own.

        Arguments as ``out_of_fold_contexts``.
        """
        inputs = EncoderInputs.of(x)
        head = np.empty(len(inputs))
        for f, (position, _) in enumerate(self._queries_by_shard(rows)):
            head[position] = self.embed(f, inputs.take(position))[1]
        return self.out_of_fold_contexts(inputs, patient_ids, (self.setting,), rows)[0].vote, head

    def _queries_by_shard(self, rows: Ints | None) -> list[tuple[Ints, Ints]]:
        """Return for each shard which of some stored rows (q,) are in it: their positions among these, and their numbers."""
        rows = np.arange(len(self.outcome)) if rows is None else rows
        fold = self.fold[rows]
        positions = [np.flatnonzero(fold == f) for f in range(len(self.shards))]
        return [(position, rows[position]) for position in positions]

    def _shard_contexts(
        self,
        f: int,
        embedding: Floats,
        settings: tuple[RetrievalSetting, ...],
        n_shards: int,
        patient_ids: Ints | None = None,
        queries: Ints | None = None,
    ) -> list[Context]:
        """Search one shard once, and weight the neighbours by each setting."""
        shard, temperature = self.shards[f], self.encoders[f].temperature
        labels = StoredLabels(self.outcome, patient_ids, self.row_weight)
        near = search_shard(shard, self.events[f], embedding, largest(settings), n_shards, patient_ids, queries)
        return [_weighted(near, shard, labels, setting, n_shards, temperature, queries, self.prevalence) for setting in settings]


@dataclass(frozen=True)
class SettingTrial:
    """One retrieval setting that was tried.

    Parameters
    ----------
    embedding : "AWARE encoders" or "linear metric"
    setting : RetrievalSetting
    vote_auprc : float, of the vote of the similar patients, out of fold
    """

    embedding: str
    setting: RetrievalSetting
    vote_auprc: float


@dataclass(frozen=True)
class Candidate:
    """A retriever with the setting whose vote of the queries (q,) ranks best, and every setting's trial."""

    retriever: Retriever
    vote: Floats
    trials: list[SettingTrial]


def fit_retriever(
    x: Floats | EncoderInputs,
    data: TrainingData,
    config: EncoderConfig,
    seed: int,
    progress: Progress,
    settings: tuple[RetrievalSetting, ...] = SETTINGS,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
    others: Iterable[IndexBlock] | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[Retriever, Floats, Floats, list[SettingTrial]]:
    """Fit linear metrics, train encoders where rows and events suffice, and select these unless the metrics' vote ranks clearly better.

    Clearly: the out-of-fold AUPRC of their vote is higher by more than its standard error over resampled patients. Elsewhere encoders rank
    new rows better (docs/log/2026-11.md).

    With ``others`` all of this is done on the training rows, a weighted sample of the table, by the votes that some of them get. Then the
    other rows are stored beside them, and the setting is chosen again by the training rows' votes among all.

    Parameters
    ----------
    x : (n, p), the dense encoding of the stored rows, or EncoderInputs of n rows
    data : TrainingData, n rows, outcome 0 or 1
    config : EncoderConfig
    seed : int
    progress : called with a message after each piece of work
    settings : candidates
    layout, unlabelled : optional, as ``train_encoders``
    others : blocks of further rows of the table, optional
    checkpoints : for metrics and encoders, optional

    Returns
    -------
    retriever : Retriever
    vote : (n,), of each stored row's similar patients in its own shard, without its own patient
    head : (n,), log-odds of the encoder that has not seen the row; 0 where none was trained
    trials : of every setting

    Raises
    ------
    InputError
        As ``IndexCheck.of``.
    """
    inputs = EncoderInputs.of(x)
    indexed = index_shards(fit_linear_metrics(fit_linear_metric, inputs.dense, data, seed, checkpoints), inputs, data)
    tried, sample = trial_sample(data, others, seed)
    best = best_setting(indexed.with_queries(tried), sample, settings, StoredLabels.of(data))
    heads: tuple[AwareEncoder, ...] = ()
    trials, head = best.trials, indexed.head
    if len(inputs) < FEWEST_ROWS or int(data.outcome.sum()) < _FEWEST_EVENTS:
        progress("no encoders: too few rows or events")
    else:
        linear = best
        encoders = remembered_encoders(checkpoints, lambda: train_encoders(inputs, data, config, seed, layout, unlabelled))
        progress("AWARE encoders")
        indexed_deep = index_shards(encoders, inputs, data)
        deep = best_setting(indexed_deep.with_queries(tried), sample, settings, StoredLabels.of(data))
        trials, head = [*linear.trials, *deep.trials], indexed_deep.head
        if ranks_clearly_better(linear.vote, deep.vote, sample, seed):
            heads = tuple(encoders)
        else:
            best, indexed = deep, indexed_deep
    check = None
    if others is not None:
        stored, labels = store_others(indexed, best.retriever, data, others)
        best = best_setting(stored, data, settings, labels)
        trials, chosen = best.trials, (best.retriever.setting,)
        check = check_lists(stored, data, best.vote, lambda shards, part: best_setting(shards, part, chosen, labels).vote, seed)
    progress("choice of context")
    return replace(best.retriever, heads=heads, index_check=check), best.vote, head, trials


def best_setting(
    fitted: FittedShards, data: TrainingData, settings: tuple[RetrievalSetting, ...] = SETTINGS, labels: StoredLabels | None = None
) -> Candidate:
    """Choose the setting by the out-of-fold AUPRC of the vote that the training rows get, each without its own patient.

    Parameters
    ----------
    fitted : FittedShards
    data : TrainingData, the queries of ``fitted``, by whose votes settings are compared
    settings : candidates
    labels : StoredLabels, of all rows in the shards; by default the training rows are all of them
    """
    labels = labels or StoredLabels.of(data)
    n_shards, events = len(fitted.shards), _events(fitted.shards, labels.outcome)

    def contexts(f: int, part: slice) -> Iterator[Context]:
        shard, queries, temperature = fitted.shards[f], fitted.queries[f][part], fitted.encoders[f].temperature
        near = search_shard(shard, events[f], fitted.embeddings[f][part], largest(settings), n_shards, labels.patient_ids, queries)
        return (_weighted(near, shard, labels, setting, n_shards, temperature, queries) for setting in settings)

    tried = try_settings(fitted, data, settings, contexts, lambda context: context.vote)
    name = embedding_name(fitted.encoders)
    trials = [SettingTrial(name, setting, data.auprc(vote)) for setting, (vote, _) in zip(settings, tried, strict=True)]
    best = max(range(len(settings)), key=lambda i: trials[i].vote_auprc)
    vote, radius = tried[best]
    retriever = Retriever(fitted.encoders, (), fitted.shards, labels.outcome, settings[best], radius, labels.row_weight)
    return Candidate(retriever, vote, trials)


def _weighted(
    neighbours: Neighbours,
    shard: Shard,
    labels: StoredLabels,
    setting: RetrievalSetting,
    n_shards: int,
    temperature: float,
    queries: Ints | None = None,
    prevalence: float | None = None,
) -> Context:
    """Truncate the neighbours found under a larger setting to this one, and weight them."""
    truncated = truncate(neighbours, setting, n_shards)
    resolved = resolve_ties(truncated, shard, labels.outcome, labels.patient_ids, labels.row_weight, queries)
    return compute_weights(resolved, labels.outcome, setting, temperature, labels.row_weight, prevalence)


@single_threaded()
def ranks_clearly_better(score: Floats, other: Floats, data: TrainingData, seed: int) -> bool:
    """Return whether the AUPRC of some scores (n,) is higher than the others' by more than a standard error, patients resampled."""
    rng = np.random.default_rng(seed)
    auprc, other_auprc = (weighted_average_precision(data.outcome, one) for one in (score, other))
    # exponential weights (the Bayesian bootstrap): no resample loses all events
    weights = (data.row_weight * rng.exponential(size=data.n_patients)[data.patient_ids] for _ in range(_RESAMPLES))
    gains = [auprc(weight) - other_auprc(weight) for weight in weights]
    return auprc(data.row_weight) - other_auprc(data.row_weight) > float(np.std(gains))


def _events(shards: tuple[Shard, ...], outcome: Floats) -> tuple[Shard, ...]:
    return tuple(shard.subset(shard.rows[outcome[shard.rows] == 1]) for shard in shards)
