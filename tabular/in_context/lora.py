"""LoRA fine-tuning of the in-context network on a cohort's own out-of-fold queries (rank 8).

Only the query's side of the network is adapted, so the stored rows' tokens stay valid. Adapters are fitted on some folds and evaluated
on others; the caller decides from that whether to use one.

References
----------
Hu et al.: LoRA: low-rank adaptation of large language models (2021).
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nearward.tabular.in_context.inference import QueryBatch
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.typing import Ints

FEWEST_EVENTS = 50
ADAPTED = ("cross_attention", "mlp_blocks", "expert_weighting", "vote_query_proj")
_RANK, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 8, 192, 2e-3, 1e-2
_MAX_STEPS, _MAX_EPOCHS = 120, 3


def fit_adapter(net: InContextNet, folds: list[QueryBatch], outcomes: list[Ints], seed: int) -> InContextNet:
    """Return a copy of the network fine-tuned on these queries.

    Parameters
    ----------
    net : InContextNet, not modified
    folds : queries of each fold, with features and contexts that do not use the fold's outcomes
    outcomes : the queries' outcomes (q,), 0 or 1, for each fold
    seed : int
    """
    adapted = deepcopy(net)  # functional_call swaps a module's parameters temporarily: threads must not share the module
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    frozen = {name: value.detach().clone() for name, value in net.named_parameters()}
    names = [n for n, v in frozen.items() if v.ndim == 2 and n.split(".")[0] in ADAPTED]
    down = {n: torch.randn(_RANK, frozen[n].shape[1], generator=generator) * frozen[n].shape[1] ** -0.5 for n in names}
    up = {n: torch.zeros(frozen[n].shape[0], _RANK) for n in names}
    trainable = [value.requires_grad_() for value in (*down.values(), *up.values())]
    optimizer = torch.optim.AdamW(trainable, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def parameters() -> dict[str, Tensor]:
        return {**frozen, **{n: frozen[n] + up[n] @ down[n] for n in names}}

    queries = np.concatenate([np.stack([np.full(len(y), f), np.arange(len(y))], axis=1) for f, y in enumerate(outcomes)])  # fold, row
    targets = [torch.as_tensor(y, dtype=torch.float32) for y in outcomes]
    steps = min(_MAX_STEPS, -(-_MAX_EPOCHS * len(queries) // _BATCH))
    for step in range(steps):
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = _LEARNING_RATE * (1 - step / steps)
        batch = queries[rng.integers(0, len(queries), _BATCH)]
        optimizer.zero_grad(set_to_none=True)
        current, loss = parameters(), torch.zeros(())
        for f in np.unique(batch[:, 0]):
            rows = torch.as_tensor(batch[batch[:, 0] == f, 1])
            log_odds = folds[f].forward(adapted, rows, current).log_odds[:, 0]
            loss = loss + F.binary_cross_entropy_with_logits(log_odds, targets[f][rows], reduction="sum") / _BATCH
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    adapted.load_state_dict({name: value.detach() for name, value in parameters().items()})
    return adapted
