"""Golden outputs of the in-context network with the weights that are shipped; see test_golden.py.

The weights may be saved again under other names: with equal outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

# The only module paths of this file; adapt them here.
from nearward.tabular.in_context.checkpoint import load_net
from nearward.tabular.in_context.row_features import fit_row_featurizer

STORED, QUERIES = 60, 5


def test_shipped_network(golden: Callable[..., None]) -> None:
    rng = torch.Generator().manual_seed(0)
    signal = torch.randn(2, STORED + QUERIES, 1, generator=rng)
    value = signal + torch.randn(2, STORED + QUERIES, 6, generator=rng)
    value[torch.rand(value.shape, generator=rng) < 0.1] = torch.nan
    score = signal + torch.randn(2, STORED + QUERIES, 3, generator=rng)
    outcome = (signal[:, :STORED, 0] + torch.randn(2, STORED, generator=rng) > 0.8).long()
    inside = (torch.rand(2, QUERIES, STORED, generator=rng) < 0.7) | (torch.arange(STORED) < 2)
    floored = inside & (torch.rand(2, QUERIES, STORED, generator=rng) < 0.2)
    sq_distance = 3 * torch.rand(2, QUERIES, STORED, generator=rng)

    rows = fit_row_featurizer(value[:, :STORED], score[:, :STORED], torch.ones(2, 3, dtype=torch.bool), outcome).transform(value, score)
    stored, query = rows.take(slice(0, STORED)), rows.take(slice(STORED, None))
    net = load_net()
    with torch.inference_mode():
        token = net.tokens(stored, outcome)
        vote = net(query, token, outcome, sq_distance, inside, floored)
    parameters = sum(one.numel() for one in net.parameters())
    golden(
        "in-context network",
        {
            "log-odds": vote.log_odds.double().tolist(),
            "weight": [vote.weight[0, 0].double()[:12].tolist(), vote.weight[1, 3].double()[-12:].tolist()],
            "token": token[0, 0].double()[:12].tolist(),
            "mean of tokens": float(token.double().mean()),
            "inputs": query.inputs[1, 2].double()[:12].tolist(),
            "sizes": [parameters, *token.shape],
        },
    )
