"""What retrievers share, whatever they vote on: encoders or metrics that place patients, and the shards that hold them.

Letters: n stored rows, p encoded columns, q query rows, s shards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nearward.retrieval.encoders.aware import AwareEncoder, network_from_state, network_state
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.voting import Context, Rule
from nearward.tabular.typing import Floats, Ints


class Places:
    """Base of retrievers; their dataclasses declare these fields."""

    encoders: tuple[AwareEncoder | LinearMetric, ...]
    heads: tuple[AwareEncoder, ...]
    shards: tuple[Shard, ...]
    rule: Rule
    reach: Floats

    @property
    def learned(self) -> bool:
        """Whether encoders say who is near; else linear metrics do."""
        return isinstance(self.encoders[0], AwareEncoder)

    @property
    def has_head(self) -> bool:
        """Whether encoders were trained; a linear metric has no opinion of its own."""
        return bool(self.heads) or self.learned

    def similar_count(self, context: Context) -> Ints:
        """Count the context rows that are as near as context rows usually are (q,); 0 for a patient unlike any stored."""
        near = (context.squared <= self.reach[context.shard]) & ~context.floored
        return np.asarray(near.sum(axis=1), dtype=np.int64)

    def gate(self, x: Floats) -> Floats:
        """Return the mean weight of each encoded column over rows (q, p) -> (p,); 1 is the average column."""
        return np.asarray(np.mean([encoder.mean_gate(x) for encoder in self.encoders], axis=0))

    def places_state(self) -> dict[str, Any]:
        """Return the shared fields for the artifact: networks as arrays, shards as vectors."""
        return {
            "networks": [network_state(encoder) for encoder in self.encoders],
            "heads": [network_state(encoder) for encoder in self.heads],
            "vectors": [shard.vectors for shard in self.shards],
            "rows": [shard.rows for shard in self.shards],
            "rule": self.rule,
            "reach": self.reach,
        }

    @staticmethod
    def places_from_state(state: dict[str, Any]) -> dict[str, Any]:
        """Rebuild the shared fields; the FAISS structures are built anew from the vectors."""
        heads = map(network_from_state, state["heads"])
        return {
            "encoders": tuple(network_from_state(network) for network in state["networks"]),
            "heads": tuple(encoder for encoder in heads if isinstance(encoder, AwareEncoder)),
            "shards": tuple(Shard(vectors, rows) for vectors, rows in zip(state["vectors"], state["rows"], strict=True)),
            "rule": state["rule"],
            "reach": state["reach"],
        }
