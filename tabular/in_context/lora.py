"""A light adapter: low-rank changes to what a query asks, learned from the cohort's own out-of-fold questions (LoRA, rank 8).

The stored rows' tokens stay as they are, so nothing made once a fit has to be made again. Every fold is answered by an adapter
that had not seen it; whether the adapter is kept is for the caller to decide from these answers.

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

from nearward.tabular.in_context.inference import Questions
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.typing import Ints

FEWEST_EVENTS = 50
_RANK, _BATCH, _RATE, _DECAY = 8, 192, 2e-3, 1e-2
_MOST_STEPS, _EPOCHS = 120, 3  # few rows are not gone over again and again


def fit_adapter(net: InContextNet, questions: list[Questions], outcomes: list[Ints], seed: int) -> InContextNet:
    """Return a network that was adapted to answer these questions.

    Parameters
    ----------
    net : InContextNet, left as it is
    questions : one for each fold, asked about rows whose outcome the slots and the context do not know
    outcomes : their answers (q,), 0 or 1
    seed : int
    """
    own = deepcopy(net)  # a functional call swaps a network's parameters for a moment: no other thread may share it
    rng, draw = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    weights = {name: value.detach().clone() for name, value in net.named_parameters()}
    named = [n for n, v in weights.items() if v.ndim == 2 and n.split(".")[0] in ("looks", "thoughts", "trust", "asks")]
    down = {n: torch.randn(_RANK, weights[n].shape[1], generator=rng) * weights[n].shape[1] ** -0.5 for n in named}
    up = {n: torch.zeros(weights[n].shape[0], _RANK) for n in named}
    free = [value.requires_grad_() for value in (*down.values(), *up.values())]
    optimiser = torch.optim.AdamW(free, lr=_RATE, weight_decay=_DECAY)

    def changed() -> dict[str, Tensor]:
        return {**weights, **{n: weights[n] + up[n] @ down[n] for n in named}}

    rows = np.concatenate([np.stack([np.full(len(y), f), np.arange(len(y))], axis=1) for f, y in enumerate(outcomes)])
    label = [torch.as_tensor(y, dtype=torch.float32) for y in outcomes]
    steps = min(_MOST_STEPS, -(-_EPOCHS * len(rows) // _BATCH))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / steps)
        drawn = rows[draw.integers(0, len(rows), _BATCH)]
        optimiser.zero_grad(set_to_none=True)
        now, loss = changed(), torch.zeros(())
        for f in np.unique(drawn[:, 0]):
            part = torch.as_tensor(drawn[drawn[:, 0] == f, 1])
            told = questions[f].ask(own, part, now).log_odds[:, 0]
            loss = loss + F.binary_cross_entropy_with_logits(told, label[f][part], reduction="sum") / _BATCH
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    own.load_state_dict({name: value.detach() for name, value in changed().items()})
    return own
