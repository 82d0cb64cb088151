"""Asking the in-context network about real rows, each with a context of its own.

Letters: n stored rows, q query rows, c context rows of a query, w token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nearward.tabular.in_context.model import InContextNet, Vote
from nearward.tabular.in_context.row_features import Rows
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Bools, Floats, Ints

_CHUNK = 256  # queries at a time


@dataclass(frozen=True)
class Questions:
    """Queries and their contexts, as the network takes them.

    Parameters
    ----------
    query : Rows of q, of one task
    token : (n, w), of the stored rows
    known : (n,), their outcomes
    row : (q, c), stored rows of each context; any number where ``inside`` is False
    apart : (q, c), squared distance over the mean of the context's nearest rows
    inside, floored : (q, c), bool
    """

    query: Rows
    token: Tensor
    known: Tensor
    row: Tensor
    apart: Tensor
    inside: Tensor
    floored: Tensor

    def ask(self, net: InContextNet, part: Tensor | slice, parameters: Mapping[str, Tensor] | None = None) -> Vote:
        """Ask some of the queries; with ``parameters`` the network answers as if it had these. Vote of (q, 1) and (q, 1, c)."""
        asked = self.query.take(part)
        features, log_odds, inputs = (x.transpose(0, 1) for x in (asked.features, asked.log_odds, asked.inputs))
        alone = Rows(features, log_odds, inputs, asked.present)
        row = self.row[part]
        given = (alone, self.token[row], self.known[row], *(x[part][:, None] for x in (self.apart, self.inside, self.floored)))
        if parameters is None:
            told: Vote = net(*given)
        else:
            told = torch.func.functional_call(net, dict(parameters), given)
        return told


def scaled_distances(squared: Floats, inside: Bools, floored: Bools, shard: Ints) -> Floats:
    """Divide squared distances (q, c) by their mean over the nearest rows, encoder by encoder; 0 in empty places."""
    out = np.zeros_like(squared)
    for s in np.unique(shard):
        here = shard == s
        near = inside[:, here] & ~floored[:, here]
        found = np.where(inside[:, here], squared[:, here], 0.0)
        mean = np.where(near, found, 0.0).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
        out[:, here] = found / np.maximum(mean, 1e-9)[:, None]
    return out


def answers(net: InContextNet, questions: Questions) -> tuple[Floats, Floats]:
    """Ask all queries.

    Returns
    -------
    risk : (q,)
    weight : (q, c)
        Of every context row, sums to 1; over the events to the risk, where the context has rows of both outcomes.
    """

    def ask(chunk: int) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            told = questions.ask(net, slice(chunk * _CHUNK, (chunk + 1) * _CHUNK))
            risk, weight = told.log_odds[:, 0].double().sigmoid().numpy(), told.weight[:, 0].double().numpy()
        return risk, weight / weight.sum(axis=1, keepdims=True)

    parts = list(parallel_map(ask, -(-len(questions.row) // _CHUNK)))
    return np.concatenate([risk for risk, _ in parts]), np.concatenate([weight for _, weight in parts])
