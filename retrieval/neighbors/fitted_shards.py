"""Encoders as they are fitted: one a fold, with the shard of the fold's rows, before a setting is chosen and a retriever is made of them.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed, network_from_state, network_state
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.index_check import CHECKED_ROWS, ExhaustiveShard, IndexCheck
from nearward.retrieval.neighbors.sharded_retriever import (
    Encoder,
    IndexBlock,
    ShardedRetriever,
    furthest_neighbour,
    neighbour_radius,
    trained,
)
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import parallel_map
from nearward.tabular.persistence.checkpoints import Checkpoints, remembered
from nearward.tabular.typing import Floats, Ints

FEWEST_ROWS = 300  # fewer: no encoder is trained
_QUERIES = 4096  # of a shard that are searched at a time
_TRIAL_ROWS = 20_000  # of a sample of a large table, by whose votes metrics and encoders are compared


@dataclass(frozen=True)
class FittedShards:
    """Cross-fitted encoders with their shards, and the rows that the encoders were fitted with as they embed them.

    Parameters
    ----------
    encoders, shards : one a fold
    queries : numbers of a fold's embedded rows, (rows,) each: all of its shard, or those that taught
    embeddings : a fold's rows (rows, e) each
    logits : the heads' log-odds of a fold's rows, (rows,) or (rows, classes) each; 0 from a linear metric
    """

    encoders: tuple[Encoder, ...]
    shards: tuple[Shard, ...]
    queries: tuple[Ints, ...]
    embeddings: tuple[Floats, ...]
    logits: tuple[Floats, ...]

    @property
    def query_order(self) -> Ints:
        """Indices that put what is concatenated over the folds into the order of the rows."""
        return np.argsort(np.concatenate(self.queries))

    @property
    def head(self) -> Floats:
        """The heads' log-odds of all queries in the order of the rows: (q,) or (q, classes)."""
        return np.concatenate(self.logits)[self.query_order]

    def with_queries(self, rows: Ints) -> FittedShards:
        """Return the shards with some of the queries, by their numbers."""
        chosen = [np.isin(queries, rows) for queries in self.queries]
        names = ("queries", "embeddings", "logits")
        parts = {name: tuple(part[mask] for part, mask in zip(getattr(self, name), chosen, strict=True)) for name in names}
        return replace(self, **parts)

    def exhaustive(self) -> FittedShards:
        """Return the same rows, searched exactly."""
        return replace(self, shards=tuple(ExhaustiveShard.of(shard) for shard in self.shards))


@dataclass(frozen=True)
class StoredLabels:
    """What a vote of stored rows needs to know of them.

    Parameters
    ----------
    outcome : (n,), 0 or 1; or class indices
    patient_ids : (n,), where the queries are stored rows themselves
    row_weight : (n,), optional
        What each row counts in a vote; 1 each by default.
    """

    outcome: Floats
    patient_ids: Ints | None = None
    row_weight: Floats | None = None

    @classmethod
    def of(cls, data: TrainingData) -> StoredLabels:
        """Return the labels where the training rows are all rows that are stored: each counts as many rows as it stands for."""
        return cls(data.outcome.astype(float), data.patient_ids, data.weight)


def trial_sample(data: TrainingData, others: Iterable[IndexBlock] | None, seed: int) -> tuple[Ints, TrainingData]:
    """Return the rows by whose votes metrics, encoders and settings are compared: all, or of a large table's rows some (numbers, data)."""
    return data.subsample(len(data) if others is None else _TRIAL_ROWS, seed)


def query_parts(queries: int) -> Iterator[slice]:
    """Yield the parts of a shard's queries that are searched at a time: neighbours of all of them would fill a gigabyte."""
    return (slice(begin, begin + _QUERIES) for begin in range(0, max(queries, 1), _QUERIES))


def fit_linear_metrics(
    fit: Callable[[Floats, Ints, Ints, int, Floats | None], LinearMetric],
    x: Floats,
    data: TrainingData,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> list[LinearMetric]:
    """Fit one linear metric a fold on the other folds' rows.

    Parameters
    ----------
    fit : callable
        Fits a metric on rows, outcome, patient_ids, a seed and sampling weights.
    x : (n, p), the dense encoding of the stored rows
    data : TrainingData, n rows
    seed : int
    checkpoints : Checkpoints, optional
    """

    def fit_fold(f: int) -> LinearMetric:
        train = data.train_rows(f)
        part = data.take(train)
        return fit(x[train], part.outcome, part.patient_ids, seed + f, part.weight)

    def fit_all() -> list[LinearMetric]:
        return list(parallel_map(fit_fold, range(data.n_folds), "torch", remote=True))

    return list(remembered(checkpoints, "metrics", (LinearMetric,), fit_all))


def remembered_encoders(checkpoints: Checkpoints | None, train: Callable[[], list[AwareEncoder]]) -> list[AwareEncoder]:
    """Return trained encoders from checkpoints, where there are any, or train them."""
    if checkpoints is None:
        return train()
    states = checkpoints.remembered("encoders", (EncoderConfig,), lambda: [network_state(encoder) for encoder in train()])
    return list(trained(tuple(network_from_state(state) for state in states)))


def index_shards(encoders: Sequence[Encoder], inputs: EncoderInputs, data: TrainingData) -> FittedShards:
    """Index each fold's rows in the embedding of the fold's own encoder, which was trained without them."""
    rows = [np.flatnonzero(data.fold == f) for f in range(data.n_folds)]
    embedded = list(parallel_map(lambda f: embed(encoders[f], inputs.take(rows[f])), range(data.n_folds), "torch"))
    shards = tuple(Shard(embedding.astype(np.float32), r) for (embedding, _), r in zip(embedded, rows, strict=True))
    embeddings, logits = zip(*embedded, strict=True)
    return FittedShards(tuple(encoders), shards, tuple(rows), embeddings, logits)


def store_others(
    fitted: FittedShards, retriever: ShardedRetriever, data: TrainingData, blocks: Iterable[IndexBlock]
) -> tuple[FittedShards, StoredLabels]:
    """Store further rows in the shards of a retriever, and return the shards with all rows, and the labels of these.

    Their vote needs no weights, for all rows of the table are stored.
    """
    patients = [data.patient_ids]

    def noted() -> Iterable[IndexBlock]:
        for block in blocks:
            patients.append(block.patient_ids)
            yield block

    extended = retriever.extended_by(noted())
    return replace(fitted, shards=extended.shards), StoredLabels(extended.outcome, np.concatenate(patients))


def try_settings(
    fitted: FittedShards,
    data: TrainingData,
    settings: Sequence[RetrievalSetting],
    contexts: Callable[[int, slice], Iterable[Context]],
    vote: Callable[[Context], Floats],
) -> list[tuple[Floats, Floats]]:
    """Return for each setting the votes that the queries get, in the order of the rows, and the radius of each shard.

    Parameters
    ----------
    fitted : FittedShards
    data : TrainingData, the queries of ``fitted``
    settings : candidates
    contexts : callable
        Takes a shard's number and a part of its queries; yields their context under each setting, one at a time, for they are large.
    vote : callable
        Returns the vote of a context: (q,), or (q, classes).
    """
    n_shards = len(fitted.shards)

    def try_queries(f: int, part: slice) -> list[tuple[Floats, Floats]]:
        """Return the votes and the furthest distances of some queries under each setting."""
        tried = zip(settings, contexts(f, part), strict=True)
        return [(vote(context), furthest_neighbour(context, setting, n_shards)) for setting, context in tried]

    def try_shard(f: int) -> list[tuple[Floats, float]]:
        """Return the votes of a shard's queries, and its radius, under each setting."""
        parts = [try_queries(f, part) for part in query_parts(len(fitted.queries[f]))]
        by_setting = [[np.concatenate(pieces) for pieces in zip(*tried, strict=True)] for tried in zip(*parts, strict=True)]
        weight = None if data.weight is None else data.weight[data.fold == f]
        return [(votes, neighbour_radius(furthest, weight)) for votes, furthest in by_setting]

    by_shard, order = list(parallel_map(try_shard, range(n_shards), "torch", "faiss")), fitted.query_order
    return [
        (np.concatenate([votes for votes, _ in tried])[order], np.array([radius for _, radius in tried]))
        for tried in zip(*by_shard, strict=True)
    ]


def check_lists(
    stored: FittedShards, data: TrainingData, vote: Floats, exact_vote: Callable[[FittedShards, TrainingData], Floats], seed: int
) -> IndexCheck | None:
    """Compare the votes by inverted lists with those by exact search on a sample of the queries; None where no shard has lists.

    Parameters
    ----------
    stored : FittedShards, all rows
    data : TrainingData, n queries
    vote : (n,) or (n, classes), by the lists
    exact_vote : callable that returns the vote of some queries, which the data describes, in shards that are searched exactly
    seed : int

    Raises
    ------
    InputError
        As ``IndexCheck.of``.
    """
    if all(shard.lists is None for shard in stored.shards):
        return None
    rows, sample = data.subsample(CHECKED_ROWS, seed)
    return IndexCheck.of(sample, vote[rows], exact_vote(stored.with_queries(rows).exhaustive(), sample))
