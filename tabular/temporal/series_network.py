"""A small network for regular series: 1-D residual convolutions, a bidirectional GRU, attention pooling.

Shapes: b batch, n series, q new series, t steps, c channels, h hidden units, e embedding width.

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

from nearward.tabular.persistence.network_weights import check_weights
from nearward.tabular.typing import Floats, Ints

_HIDDEN, _HEADS, _BLOCKS, _DROPOUT = 32, 4, 2, 0.1
_BATCH, _STEPS, _LEARNING_RATE, _WEIGHT_DECAY = 128, 300, 2e-3, 1e-2


class SeriesNetwork(nn.Module):
    """ResNet-1D, bidirectional GRU, multi-head attention with one learned query, embedding, log-odds head."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.input_conv = nn.Conv1d(2 * channels, _HIDDEN, 3, padding=1)  # each channel has an indicator of measured steps
        self.residual_blocks = nn.ModuleList(_ResidualBlock() for _ in range(_BLOCKS))
        self.gru = nn.GRU(_HIDDEN, _HIDDEN // 2, batch_first=True, bidirectional=True)
        self.pooling_query = nn.Parameter(0.02 * torch.randn(1, 1, _HIDDEN))
        self.attention = nn.MultiheadAttention(_HIDDEN, _HEADS, batch_first=True)
        self.norm, self.embedding_proj, self.head = nn.LayerNorm(2 * _HIDDEN), nn.Linear(2 * _HIDDEN, width), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding (b, e) and log-odds (b,) of series (b, 2c, t)."""
        hidden = self.input_conv(x)
        for block in self.residual_blocks:
            hidden = block(hidden)  # (b, h, t)
        states, last = self.gru(hidden.transpose(1, 2))  # (b, t, h), (2, b, h / 2)
        pooled, _ = self.attention(self.pooling_query.expand(len(x), -1, -1), states, states, need_weights=False)  # (b, 1, h)
        both = self.norm(torch.cat([pooled[:, 0], last.transpose(0, 1).flatten(1)], dim=1))
        embedding = torch.tanh(self.embedding_proj(F.dropout(both, _DROPOUT, self.training)))
        return embedding, self.head(embedding).squeeze(1)


class _ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, _HIDDEN)
        self.conv1, self.conv2 = nn.Conv1d(_HIDDEN, _HIDDEN, 3, padding=1), nn.Conv1d(_HIDDEN, _HIDDEN, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.gelu(self.conv1(F.gelu(self.norm(x)))))
        return out


def train_network(x: Floats, outcome: Ints, width: int, seed: int) -> SeriesNetwork:
    """Train on series (n, 2c, t) and outcomes (n,), 0 or 1; torch's global random state is left unchanged."""
    rng = np.random.default_rng(seed)
    series, target = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(outcome, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SeriesNetwork(x.shape[1] // 2, width).train()
        nn.init.constant_(network.head.bias, float(np.log(outcome.mean() / (1 - outcome.mean()))))
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for _ in range(_STEPS):
            batch = torch.as_tensor(rng.choice(len(x), min(_BATCH, len(x)), replace=False))
            loss = F.binary_cross_entropy_with_logits(network(series[batch])[1], target[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


def from_state(state: Mapping[str, NDArray[np.float32]], channels: int, width: int) -> SeriesNetwork:
    """Return the network with this ``state_dict``, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        check_weights(lambda: SeriesNetwork(channels, width), state)
        network = SeriesNetwork(channels, width)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    return network.eval()


def embed_series(network: SeriesNetwork, x: Floats, chunk: int = 4096) -> tuple[Floats, Floats]:
    """Return embeddings (q, e) and log-odds (q,) of series (q, 2c, t)."""
    with torch.inference_mode():
        parts = [network(torch.as_tensor(x[i : i + chunk], dtype=torch.float32)) for i in range(0, len(x), chunk)]
    embedding, log_odds = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return embedding, log_odds
