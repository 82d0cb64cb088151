"""Inference of the in-context network on real rows, each with a context of its own.

Shapes: n stored rows, q query rows, c context rows of a query, w token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nearward.tabular.in_context.model import InContextNet, Vote
from nearward.tabular.in_context.row_features import RowFeatures
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Ints

_BATCH = 256  # queries


@dataclass(frozen=True)
class QueryBatch:
    """Queries and their contexts, as the network's input.

    Parameters
    ----------
    query : RowFeatures of q rows, of one task
    token : (n, w), of the stored rows
    outcome : (n,), of the stored rows
    row : (q, c), indices of the context's stored rows; any index where ``mask`` is False
    sq_distance : (q, c), squared distance divided by its mean over the context's nearest rows
    mask, floored : (q, c), bool
    """

    query: RowFeatures
    token: Tensor
    outcome: Tensor
    row: Tensor
    sq_distance: Tensor
    mask: Tensor
    floored: Tensor

    def forward(self, net: InContextNet, part: Tensor | slice, parameters: Mapping[str, Tensor] | None = None) -> Vote:
        """Run the network on some of the queries, with its own or other parameters. Returns a Vote of (q, 1) and (q, 1, c)."""
        query, row = self.query.take(part), self.row[part]
        features, log_odds, inputs = (x.transpose(0, 1) for x in (query.features, query.log_odds, query.inputs))  # (q, 1, …)
        single = RowFeatures(features, log_odds, inputs, query.present)
        context = (x[part][:, None] for x in (self.sq_distance, self.mask, self.floored))
        arguments = (single, self.token[row], self.outcome[row], *context)
        vote: Vote = net(*arguments) if parameters is None else torch.func.functional_call(net, dict(parameters), arguments)
        return vote


def scaled_distances(sq_distance: Floats, mask: Bools, floored: Bools, shard: Ints) -> Floats:
    """Divide squared distances (q, c) by their mean over the nearest rows, encoder by encoder; 0 where ``mask`` is False."""
    out = np.zeros_like(sq_distance)
    for s in np.unique(shard):
        column = shard == s
        nearest = mask[:, column] & ~floored[:, column]
        masked = np.where(mask[:, column], sq_distance[:, column], 0.0)
        mean = np.where(nearest, masked, 0.0).sum(axis=1) / np.maximum(nearest.sum(axis=1), 1)
        out[:, column] = masked / np.maximum(mean, 1e-9)[:, None]
    return out


def predict_risk(net: InContextNet, queries: QueryBatch) -> tuple[Floats, Floats]:
    """Predict all queries.

    Returns
    -------
    risk : (q,)
    weight : (q, c)
        Of every context row, sums to 1; over the events to the risk, where the context has rows of both outcomes.
    """

    def predict_part(i: int) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            vote = queries.forward(net, slice(i * _BATCH, (i + 1) * _BATCH))
            risk, weight = vote.log_odds[:, 0].double().sigmoid().numpy(), vote.weight[:, 0].double().numpy()
        return risk, weight / weight.sum(axis=1, keepdims=True)

    parts = list(parallel_map(predict_part, range(-(-len(queries.row) // _BATCH)), remote=True))
    return np.concatenate([risk for risk, _ in parts]), np.concatenate([weight for _, weight in parts])
