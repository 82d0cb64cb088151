"""Cross-fitted shards: what the retrievers of two and of more classes have in common.

The rows are split into folds. Encoder f is trained on all rows outside fold f and indexes only fold f, so that no stored row is embedded
by an encoder that has seen its outcome; ``encoders/training.py`` says what stops the training. A new row is embedded by every encoder and
gets the same number of neighbours from every shard.
A stored row is scored in the shard of its own fold, its own patient left out.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, c context rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, embed, network_from_state, network_state
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting, rows_per_shard
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Ints

FEWEST_ROWS = 300  # fewer: no encoder is trained
_RADIUS_QUANTILE = 0.9

Encoder = AwareEncoder | LinearMetric


@dataclass(frozen=True)
class ShardedRetriever:
    """Encoders, their shards, and the setting that selects a context.

    Parameters
    ----------
    encoders : tuple of AwareEncoder or LinearMetric, one a fold
        Their embeddings define the distance.
    heads : tuple of AwareEncoder
        Trained encoders whose classification head is used while linear metrics define the distance; empty otherwise.
    shards : tuple of Shard, one a fold
    outcome : (n,), 0 or 1; or class indices
    setting : RetrievalSetting
    radius : (s,), squared distance within which 90 % of the stored rows have all their neighbours of the shard
    row_weight : (n,), optional
        What each stored row counts in a vote, a site's own patients against those of others; 1 each by default.
    """

    encoders: tuple[Encoder, ...]
    heads: tuple[AwareEncoder, ...]
    shards: tuple[Shard, ...]
    outcome: Floats
    setting: RetrievalSetting
    radius: Floats
    row_weight: Floats | None = None

    @property
    def embedding(self) -> str:
        """What defines the distance: "AWARE encoders" or "linear metric"."""
        return embedding_name(self.encoders)

    @property
    def has_head(self) -> bool:
        """Whether encoders were trained: a linear metric has no classification head."""
        return bool(self.heads or trained(self.encoders))

    def embed(self, shard: int, x: Floats | EncoderInputs) -> tuple[Floats, Floats]:
        """Return the embeddings (q, e) of rows (q, p) in one shard, and the log-odds of its head: (q,), or (q, classes)."""
        embedding, logit = embed(self.encoders[shard], x)
        return embedding, embed(self.heads[shard], x)[1] if self.heads else logit

    def similar_count(self, context: Context) -> Ints:
        """Count the context rows within the shards' radius (q,); 0 for a patient unlike any stored."""
        near = (context.sq_distance <= self.radius[context.shard]) & ~context.floored
        return np.asarray(near.sum(axis=1), dtype=np.int64)

    def gate(self, x: Floats) -> Floats:
        """Return the mean weight of each encoded column over rows (q, p) -> (p,); 1 is the average column."""
        return np.asarray(np.mean([encoder.mean_gate(x) for encoder in self.encoders], axis=0))

    @property
    def fold(self) -> Ints:
        """The shard of each stored row (n,)."""
        fold = np.empty(len(self.outcome), dtype=np.int64)
        for f, shard in enumerate(self.shards):
            fold[shard.rows] = f
        return fold

    def extended(self, x: Floats | EncoderInputs, outcome: Ints, fold: Ints, weight: float | None = None) -> Self:
        """Return a retriever with more stored rows; encoders, setting and radius stay.

        Parameters
        ----------
        x : (m, p), or EncoderInputs of m rows
        outcome : (m,)
        fold : (m,), the shard that stores each row; its encoder must not have learned from the row's patient
        weight : float, optional
            What a new row counts in a vote, a stored one counting as before.
        """
        inputs, n, shards = EncoderInputs.of(x), len(self.outcome), []
        for f, (encoder, shard) in enumerate(zip(self.encoders, self.shards, strict=True)):
            new = np.flatnonzero(fold == f)
            vectors = embed(encoder, inputs.take(new))[0].astype(np.float32)
            shards.append(Shard(np.concatenate([shard.vectors, vectors]), np.concatenate([shard.rows, n + new])))
        row_weight = self.row_weight
        if row_weight is not None or weight is not None:
            row_weight = np.concatenate([np.ones(n) if row_weight is None else row_weight, np.full(len(outcome), weight or 1.0)])
        joined = np.concatenate([self.outcome, outcome.astype(self.outcome.dtype)])
        return replace(self, shards=tuple(shards), outcome=joined, row_weight=row_weight)

    def without(self, removed: Bools) -> Self:
        """Return a retriever without some of its stored rows (mask, (n,)); the others are numbered anew, in their order."""
        number = np.cumsum(~removed) - 1
        shards = []
        for shard in self.shards:
            remaining = ~removed[shard.rows]
            shards.append(Shard(shard.vectors[remaining], number[shard.rows[remaining]]))
        row_weight = None if self.row_weight is None else self.row_weight[~removed]
        return replace(self, shards=tuple(shards), outcome=self.outcome[~removed], row_weight=row_weight)

    def state(self) -> dict[str, Any]:
        """Return the retriever as networks' arrays, shards' vectors and numbers."""
        return {
            "networks": [network_state(encoder) for encoder in self.encoders],
            "heads": [network_state(encoder) for encoder in self.heads],
            "vectors": [shard.vectors for shard in self.shards],
            "rows": [shard.rows for shard in self.shards],
            "outcome": self.outcome,
            "setting": self.setting,
            "radius": self.radius,
            "row_weight": self.row_weight,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild a retriever; the FAISS indexes are built again from the vectors."""
        return cls(
            encoders=tuple(network_from_state(network) for network in state["networks"]),
            heads=trained(tuple(network_from_state(network) for network in state["heads"])),
            shards=tuple(Shard(vectors, rows) for vectors, rows in zip(state["vectors"], state["rows"], strict=True)),
            outcome=state["outcome"],
            setting=state["setting"],
            radius=state["radius"],
            row_weight=state["row_weight"],
        )


@dataclass(frozen=True)
class FittedShards:
    """Cross-fitted encoders with their shards, and the shards' own rows as they embed them.

    Parameters
    ----------
    encoders, shards : one a fold
    embeddings : a fold's rows (rows, e) each
    logits : the heads' log-odds of a fold's rows, (rows,) or (rows, classes) each; 0 from a linear metric
    """

    encoders: tuple[Encoder, ...]
    shards: tuple[Shard, ...]
    embeddings: tuple[Floats, ...]
    logits: tuple[Floats, ...]


def fit_linear_metrics(
    fit: Callable[[Floats, Ints, Ints, int], LinearMetric], x: Floats, data: TrainingData, seed: int
) -> list[LinearMetric]:
    """Fit one linear metric a fold on the other folds' rows.

    Parameters
    ----------
    fit : callable
        Fits a metric on rows, outcome, patient_ids and a seed.
    x : (n, p), the dense encoding of the stored rows
    data : TrainingData, n rows
    seed : int
    """

    def fit_fold(f: int) -> LinearMetric:
        train = data.train_rows(f)
        return fit(x[train], data.outcome[train], data.patient_ids[train], seed + f)

    return list(parallel_map(fit_fold, range(data.n_folds), "torch", remote=True))


def index_shards(encoders: Sequence[Encoder], inputs: EncoderInputs, data: TrainingData) -> FittedShards:
    """Index each fold's rows in the embedding of the fold's own encoder, which was trained without them."""
    rows = [np.flatnonzero(data.fold == f) for f in range(data.n_folds)]
    embedded = [embed(encoder, inputs.take(r)) for encoder, r in zip(encoders, rows, strict=True)]
    shards = tuple(Shard(embedding.astype(np.float32), r) for (embedding, _), r in zip(embedded, rows, strict=True))
    embeddings, logits = zip(*embedded, strict=True)
    return FittedShards(tuple(encoders), shards, embeddings, logits)


def neighbour_radius(context: Context, setting: RetrievalSetting, shards: int) -> float:
    """Return a shard's radius from the context of its own rows: the 90 % quantile of their furthest neighbour's sq_distance."""
    furthest = context.sq_distance[:, rows_per_shard(setting.neighbours, shards) - 1]
    present = furthest[np.isfinite(furthest)]
    return float(np.quantile(present, _RADIUS_QUANTILE)) if len(present) else 0.0


def row_order(shards: tuple[Shard, ...]) -> Ints:
    """Return the indices (n,) that put what is concatenated over the shards' own rows into the order of the stored rows."""
    return np.argsort(np.concatenate([shard.rows for shard in shards]))


def embedding_name(encoders: tuple[Encoder, ...]) -> str:
    """Return what encoders are called in summaries: "AWARE encoders" or "linear metric"."""
    return "AWARE encoders" if trained(encoders) else "linear metric"


def trained(encoders: tuple[Encoder, ...]) -> tuple[AwareEncoder, ...]:
    """Return the trained encoders among them, without linear metrics."""
    return tuple(encoder for encoder in encoders if isinstance(encoder, AwareEncoder))
