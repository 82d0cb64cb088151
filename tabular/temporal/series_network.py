"""A small network for regular series: residual convolutions, a recurrent layer that reads both ways, attention that gathers.

Letters: b batch, t steps, c channels, h hidden units, e embedding width.

References
----------
He et al.: Deep residual learning (2015); Cho et al.: gated recurrent units (2014); Vaswani et al.: Attention is all you need (2017).
The sizes and the training are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.tabular.typing import Floats

_HIDDEN, _HEADS, _BLOCKS, _DROPOUT = 32, 4, 2, 0.1
_BATCH, _STEPS, _RATE, _DECAY = 128, 300, 2e-3, 1e-2


class SeriesNetwork(nn.Module):
    """ResNet-1D, bidirectional GRU, multi-head attention by one learned question, embedding, log-odds head."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inward = nn.Conv1d(2 * channels, _HIDDEN, 3, padding=1)  # each channel comes with whether it was measured
        self.blocks = nn.ModuleList(_Residual() for _ in range(_BLOCKS))
        self.recurrent = nn.GRU(_HIDDEN, _HIDDEN // 2, batch_first=True, bidirectional=True)
        self.question = nn.Parameter(0.02 * torch.randn(1, 1, _HIDDEN))
        self.attention = nn.MultiheadAttention(_HIDDEN, _HEADS, batch_first=True)
        self.norm, self.outward, self.head = nn.LayerNorm(2 * _HIDDEN), nn.Linear(2 * _HIDDEN, width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding (b, e) and log-odds (b,) of series (b, 2c, t)."""
        hidden = self.inward(x)
        for block in self.blocks:
            hidden = block(hidden)  # (b, h, t)
        read, last = self.recurrent(hidden.transpose(1, 2))  # (b, t, h), (2, b, h / 2)
        gathered, _ = self.attention(self.question.expand(len(x), -1, -1), read, read, need_weights=False)  # (b, 1, h)
        both = self.norm(torch.cat([gathered[:, 0], last.transpose(0, 1).flatten(1)], dim=1))
        embedding = torch.tanh(self.outward(F.dropout(both, _DROPOUT, self.training)))
        return embedding, self.head(embedding).squeeze(1)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, _HIDDEN)
        self.first, self.second = nn.Conv1d(_HIDDEN, _HIDDEN, 3, padding=1), nn.Conv1d(_HIDDEN, _HIDDEN, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.gelu(self.first(F.gelu(self.norm(x)))))
        return out


def train_network(x: Floats, outcome: NDArray[np.int64], width: int, seed: int) -> SeriesNetwork:
    """Train on series (n, 2c, t) and outcomes (n,), 0 or 1; the user's own random numbers are left alone."""
    draw = np.random.default_rng(seed)
    rows, label = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(outcome, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SeriesNetwork(x.shape[1] // 2, width).train()
        nn.init.constant_(network.head.bias, float(np.log(outcome.mean() / (1 - outcome.mean()))))
        optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
        for _ in range(_STEPS):
            index = torch.as_tensor(draw.choice(len(x), min(_BATCH, len(x)), replace=False))
            loss = F.binary_cross_entropy_with_logits(network(rows[index])[1], label[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def restored(weights: Mapping[str, NDArray[np.float32]], channels: int, width: int) -> SeriesNetwork:
    """Return the network whose ``state_dict`` these weights are, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        network = SeriesNetwork(channels, width)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return network.eval()


def embed_series(network: SeriesNetwork, x: Floats, chunk: int = 4096) -> tuple[Floats, Floats]:
    """Return embeddings (q, e) and log-odds (q,) of series (q, 2c, t)."""
    with torch.inference_mode():
        parts = [network(torch.as_tensor(x[i : i + chunk], dtype=torch.float32)) for i in range(0, len(x), chunk)]
    embedding, logit = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return embedding, logit
