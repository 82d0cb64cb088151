"""Retrieval of similar patients for a binary outcome: their weights, and the risk that they vote.

The shards are those of ``sharded_retriever.py``; the vote is that of ``voting.py``, with a class floor. The retrieval setting is chosen
by the out-of-fold AUPRC of the vote, and so are the encoders over linear metrics.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, k neighbours a shard, l floor events a shard,
c context rows, ``s * (k + l)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.metrics import average_precision_score

from nearward.retrieval.encoders.aware import EncoderConfig, embed
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import fit_linear_metric
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.sharded_retriever import (
    FEWEST_ROWS,
    FittedShards,
    ShardedRetriever,
    embedding_name,
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
    join_contexts,
    resolve_ties,
    search_shard,
    truncate,
)
from nearward.tabular.data.training_data import TrainingData
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
        by_shard, logits = [], []
        for f in range(len(self.shards)):
            embedding, logit = self.embed(f, x)
            by_shard.append(self._shard_contexts(f, embedding, settings, len(self.shards)))
            logits.append(logit)
        return [concatenate_contexts(list(parts)) for parts in zip(*by_shard, strict=True)], np.mean(logits, axis=0)

    def out_of_fold_contexts(self, x: Floats | EncoderInputs, patient_ids: Ints, settings: tuple[RetrievalSetting, ...]) -> list[Context]:
        """Return a context for each setting of every stored row, all of it from the row's own shard, without the row's own patient.

        Parameters
        ----------
        x : (n, p), the dense encoding of the stored rows, or EncoderInputs of n rows
        patient_ids : (n,), patient numbers from 0
        settings : tuple of RetrievalSetting
        """
        by_shard, inputs = [], EncoderInputs.of(x)
        for f, (encoder, shard) in enumerate(zip(self.encoders, self.shards, strict=True)):
            by_shard.append(self._shard_contexts(f, embed(encoder, inputs.take(shard.rows))[0], settings, 1, patient_ids))
        order = row_order(self.shards)
        return [_in_row_order(list(parts), order) for parts in zip(*by_shard, strict=True)]

    def out_of_fold(self, x: Floats | EncoderInputs, patient_ids: Ints) -> tuple[Floats, Floats]:
        """Return the vote and the head's log-odds (n,), (n,) of the stored rows by encoders and patients that are not their own."""
        inputs, head = EncoderInputs.of(x), np.empty(len(self.outcome))
        for f, shard in enumerate(self.shards):
            head[shard.rows] = self.embed(f, inputs.take(shard.rows))[1]
        return self.out_of_fold_contexts(inputs, patient_ids, (self.setting,))[0].vote, head

    def _shard_contexts(
        self, f: int, embedding: Floats, settings: tuple[RetrievalSetting, ...], shards: int, patient_ids: Ints | None = None
    ) -> list[Context]:
        """Search one shard once, and weight the neighbours by each setting."""
        shard, temperature = self.shards[f], self.encoders[f].temperature
        neighbours = search_shard(shard, self.events[f], embedding, _largest(settings), shards, patient_ids)
        return [
            _weighted(neighbours, shard, self.outcome, setting, shards, temperature, patient_ids, self.row_weight) for setting in settings
        ]


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
    """A retriever with the setting whose vote of the stored rows (n,) ranks best; their heads (n,), and every setting's trial."""

    retriever: Retriever
    vote: Floats
    head: Floats
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
) -> tuple[Retriever, Floats, Floats, list[SettingTrial]]:
    """Fit linear metrics, train encoders where rows and events suffice, and select the encoders where their vote ranks clearly better.

    Clearly: the out-of-fold AUPRC of their vote is higher by more than its standard error over resampled patients. Where events are few
    the comparison is mostly noise, and overfitted encoders are the larger risk.

    Parameters
    ----------
    x : (n, p), the dense encoding of the stored rows, or EncoderInputs of n rows
    data : TrainingData, n rows, outcome 0 or 1
    config : EncoderConfig
    seed : int
    progress : called with a message after each piece of work
    settings : candidates
    layout, unlabelled : optional, as ``train_encoders``

    Returns
    -------
    retriever : Retriever
    vote : (n,), of each stored row's similar patients in its own shard, without its own patient
    head : (n,), log-odds of the encoder that has not seen the row; 0 where none was trained
    trials : of every setting
    """

    inputs = EncoderInputs.of(x)
    linear = best_setting(index_shards(fit_linear_metrics(fit_linear_metric, inputs.dense, data, seed), inputs, data), data, settings)
    if len(inputs) < FEWEST_ROWS or int(data.outcome.sum()) < _FEWEST_EVENTS:
        progress("no encoders: too few rows or events")
        progress("choice of context")
        return linear.retriever, linear.vote, linear.head, linear.trials
    encoders = train_encoders(inputs, data, config, seed, layout, unlabelled)
    progress("AWARE encoders")
    deep = best_setting(index_shards(encoders, inputs, data), data, settings)
    progress("choice of context")
    trials = [*linear.trials, *deep.trials]
    if ranks_clearly_better(deep.vote, linear.vote, data, seed):
        return deep.retriever, deep.vote, deep.head, trials
    return replace(linear.retriever, heads=trained(deep.retriever.encoders)), linear.vote, deep.head, trials


def best_setting(fitted: FittedShards, data: TrainingData, settings: tuple[RetrievalSetting, ...] = SETTINGS) -> Candidate:
    """Choose the setting by the out-of-fold AUPRC of the vote."""
    outcome, n_shards = data.outcome.astype(float), len(fitted.shards)
    neighbours = [
        search_shard(shard, events, embedding, _largest(settings), n_shards, data.patient_ids)
        for shard, events, embedding in zip(fitted.shards, _events(fitted.shards, outcome), fitted.embeddings, strict=True)
    ]
    order = row_order(fitted.shards)
    trials: list[SettingTrial] = []
    votes: list[Floats] = []
    radii: list[Floats] = []
    for setting in settings:
        contexts = (  # one at a time: a shard's contexts are the largest arrays of a fit
            _weighted(near, shard, outcome, setting, n_shards, encoder.temperature, data.patient_ids)
            for near, shard, encoder in zip(neighbours, fitted.shards, fitted.encoders, strict=True)
        )
        vote, radius = zip(*((context.vote, neighbour_radius(context, setting, n_shards)) for context in contexts), strict=True)
        votes.append(np.concatenate(vote)[order])
        radii.append(np.array(radius))
        auprc = float(average_precision_score(data.outcome, votes[-1], sample_weight=data.weight))
        trials.append(SettingTrial(embedding_name(fitted.encoders), setting, auprc))
    best = max(range(len(settings)), key=lambda i: trials[i].vote_auprc)
    retriever = Retriever(fitted.encoders, (), fitted.shards, outcome, settings[best], radii[best])
    return Candidate(retriever, votes[best], np.concatenate(fitted.logits)[order], trials)


def _weighted(
    neighbours: Neighbours,
    shard: Shard,
    outcome: Floats,
    setting: RetrievalSetting,
    shards: int,
    temperature: float,
    patient_ids: Ints | None,
    row_weight: Floats | None = None,
) -> Context:
    """Cut neighbours to a setting and weight them."""
    resolved = resolve_ties(truncate(neighbours, setting, shards), shard, outcome, patient_ids, row_weight)
    return compute_weights(resolved, outcome, setting, temperature, row_weight)


def ranks_clearly_better(score: Floats, other: Floats, data: TrainingData, seed: int) -> bool:
    """Return whether the AUPRC of some scores (n,) is higher than the others' by more than a standard error, patients resampled."""
    rng = np.random.default_rng(seed)
    auprc, other_auprc = (weighted_average_precision(data.outcome, one) for one in (score, other))
    # exponential weights (the Bayesian bootstrap): no resample loses all events
    weights = (data.row_weight * rng.exponential(size=data.n_patients)[data.patient_ids] for _ in range(_RESAMPLES))
    gains = [auprc(weight) - other_auprc(weight) for weight in weights]
    return auprc(data.row_weight) - other_auprc(data.row_weight) > float(np.std(gains))


def _in_row_order(parts: list[Context], order: Ints) -> Context:
    """Put the shards' contexts of their own rows into the order of the stored rows (n,)."""
    return join_contexts(parts, 0, parts[0].shard).take(order)


def _events(shards: tuple[Shard, ...], outcome: Floats) -> tuple[Shard, ...]:
    return tuple(shard.subset(shard.rows[outcome[shard.rows] == 1]) for shard in shards)


def _largest(settings: tuple[RetrievalSetting, ...]) -> RetrievalSetting:
    return replace(max(settings, key=lambda setting: setting.neighbours), floor=any(setting.floor for setting in settings))
