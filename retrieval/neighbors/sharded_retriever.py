"""Cross-fitted shards: what the retrievers of two and of more classes have in common.

The rows are split into folds. Encoder f is trained on all rows outside fold f and indexes only fold f, so that no stored row is embedded
by an encoder that has seen its outcome; ``encoders/training.py`` says what stops the training. A new row is embedded by every encoder and
gets the same number of neighbours from every shard.
A stored row is scored in the shard of its own fold, its own patient left out.

Shapes: n stored rows, p encoded columns, q query rows, e embedding width, s shards, c context rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, embed, network_from_state, network_state
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.index_check import IndexCheck
from nearward.retrieval.neighbors.vector_store import Vectors, VectorWriter, compute
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting, rows_per_shard
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Floats32, Ints

_RADIUS_QUANTILE = 0.9
_CHUNK = 2048  # rows of a block that are embedded at a time: a block is only one of several things in memory

Encoder = AwareEncoder | LinearMetric


@dataclass(frozen=True)
class IndexBlock:
    """Rows that are stored and searched, from which no encoder learned.

    Parameters
    ----------
    inputs : callable that returns EncoderInputs of b rows
        Called where their vectors are computed.
    outcome, patient_ids : (b,)
    fold : (b,), the shard that stores each row; its encoder must not have learned from the row's patient
    remember : callable
        Returns the block's vectors: those that an earlier run has saved, or what the argument computes.
    """

    inputs: Callable[[], EncoderInputs]
    outcome: Ints
    patient_ids: Ints
    fold: Ints
    remember: Callable[[Callable[[], Vectors]], Vectors] = compute


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
    index_check : IndexCheck, optional
        The votes by inverted lists beside those by exact search, where the fit made lists.
    """

    encoders: tuple[Encoder, ...]
    heads: tuple[AwareEncoder, ...]
    shards: tuple[Shard, ...]
    outcome: Floats
    setting: RetrievalSetting
    radius: Floats
    row_weight: Floats | None = None
    index_check: IndexCheck | None = None

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

    def embed_in_all(self, x: Floats | EncoderInputs) -> list[tuple[Floats, Floats]]:
        """Return what ``embed`` returns for each shard."""
        inputs = EncoderInputs.of(x)
        return [self.embed(f, inputs) for f in range(len(self.shards))]

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
        n, row_weight = len(self.outcome), self.row_weight
        patient_ids = np.zeros_like(fold)  # not read by ``extended_by``
        extended = self.extended_by([IndexBlock(lambda: EncoderInputs.of(x), outcome, patient_ids, fold)])
        if row_weight is not None or weight is not None:
            row_weight = np.concatenate([np.ones(n) if row_weight is None else row_weight, np.full(len(outcome), weight or 1.0)])
        return replace(extended, row_weight=row_weight)

    def extended_by(self, blocks: Iterable[IndexBlock]) -> Self:
        """Return a retriever with the rows of all blocks; each row is embedded by its own shard's encoder alone, once."""
        n, outcomes, encoders = len(self.outcome), [self.outcome], self.encoders
        writers = [VectorWriter(None, shard.vectors.shape[1]) for shard in self.shards]
        for writer, shard in zip(writers, self.shards, strict=True):
            writer.append(shard.vectors)
        rows: list[list[Ints]] = [[shard.rows] for shard in self.shards]
        for block in blocks:
            for f, new in enumerate(block.remember(partial(_embed_block, encoders, block))):
                writers[f].append(new)
                rows[f].append(n + np.flatnonzero(block.fold == f))
            outcomes.append(block.outcome.astype(self.outcome.dtype))
            n += len(block.outcome)
        shards = []
        for shard, writer in zip(self.shards, writers, strict=True):
            shards.append(shard.extended_to(writer.finish(), np.concatenate(rows.pop(0))))  # popped: not in memory twice
        return replace(self, shards=tuple(shards), outcome=np.concatenate(outcomes))

    def select(self, chosen: Bools) -> Self:
        """Return a retriever of some of its stored rows (mask, (n,)), numbered anew as by ``without``; itself where these are all."""
        return self if chosen.all() else self.without(~chosen)

    def without(self, removed: Bools) -> Self:
        """Return a retriever without some of its stored rows (mask, (n,)); the others are numbered anew, in their order."""
        number = np.cumsum(~removed) - 1
        shards = []
        for shard in self.shards:
            remaining = shard.without(removed[shard.rows])
            shards.append(remaining.renumbered(number[remaining.rows]))
        row_weight = None if self.row_weight is None else self.row_weight[~removed]
        return replace(self, shards=tuple(shards), outcome=self.outcome[~removed], row_weight=row_weight)

    def state(self) -> dict[str, Any]:
        """Return the retriever as networks' arrays, shards' vectors, lists and numbers."""
        return {
            "networks": [network_state(encoder) for encoder in self.encoders],
            "heads": [network_state(encoder) for encoder in self.heads],
            "vectors": [shard.vectors for shard in self.shards],
            "rows": [shard.rows for shard in self.shards],
            "lists": [None if shard.lists is None else shard.lists.state() for shard in self.shards],
            "outcome": self.outcome,
            "setting": self.setting,
            "radius": self.radius,
            "row_weight": self.row_weight,
            "index_check": self.index_check,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Load what ``state`` returned; the indexes are built from the vectors, at the first search."""
        return cls(
            encoders=tuple(network_from_state(network) for network in state["networks"]),
            heads=trained(tuple(network_from_state(network) for network in state["heads"])),
            shards=tuple(
                Shard.from_state(vectors, rows, lists)
                for vectors, rows, lists in zip(state["vectors"], state["rows"], state["lists"], strict=True)
            ),
            outcome=state["outcome"],
            setting=state["setting"],
            radius=state["radius"],
            row_weight=state["row_weight"],
            index_check=state["index_check"],
        )


def _embed_block(encoders: Sequence[Encoder], block: IndexBlock) -> Vectors:
    """Return the vectors of a block's rows, each by its own shard's encoder alone."""
    inputs, fold = block.inputs(), block.fold  # not the block itself: a worker gets what the task refers to

    def embed_new(f: int) -> Floats32:
        return embed(encoders[f], inputs.take(np.flatnonzero(fold == f)), _CHUNK)[0].astype(np.float32)

    return list(parallel_map(embed_new, range(len(encoders)), "torch", remote=True))


def furthest_neighbour(context: Context, setting: RetrievalSetting, n_shards: int) -> Floats:
    """Return the squared distance of each query's furthest neighbour (q,) in a context of one shard, the class floor's rows aside.

    In a shard with fewer rows than neighbours it is that of the furthest row; inf where there is none.
    """
    distance = context.sq_distance[:, : rows_per_shard(setting.neighbours, n_shards)]
    furthest = np.where(np.isfinite(distance), distance, -np.inf).max(axis=1)
    return np.asarray(np.where(np.isfinite(furthest), furthest, np.inf))


def neighbour_radius(furthest: Floats, weight: Floats | None = None) -> float:
    """Return a shard's radius: the 90 % quantile of its own rows' furthest neighbours (q,).

    ``weight`` (q,) is how many rows each of them stands for.
    """
    present = np.isfinite(furthest)
    if not present.any():
        return 0.0
    if weight is None:
        return float(np.quantile(furthest[present], _RADIUS_QUANTILE))
    return float(np.quantile(furthest[present], _RADIUS_QUANTILE, weights=weight[present], method="inverted_cdf"))


def embedding_name(encoders: tuple[Encoder, ...]) -> str:
    """Return what encoders are called in summaries: "AWARE encoders" or "linear metric"."""
    return "AWARE encoders" if trained(encoders) else "linear metric"


def trained(encoders: tuple[Encoder, ...]) -> tuple[AwareEncoder, ...]:
    """Return the trained encoders among them, without linear metrics."""
    return tuple(encoder for encoder in encoders if isinstance(encoder, AwareEncoder))
