"""The policy's network: the distribution of each column's token given the tokens of some other columns.

The context of a column is the sum of the embeddings of the tokens before it and of the conditions. Each column applies a scale and a shift
of its own to this sum, shared residual blocks turn it into features, and the column's own head reads its logits from them. The network is
causal: no column's context contains its own token or a later one that is not a condition. Attention would find the same few relations at
several times the cost: a sum is carried from column to column, so that generating a row costs one pass (as with cached keys in a
transformer).

Bins of a number are ordered and rows are few, so embeddings and heads are smooth functions of the bin. With a free parameter for each bin
beside that, held-out rows were .35 nats less likely on SUPPORT2, and training overfitted within ten epochs.

Shapes: b rows, d columns, w width, k basis functions of a bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_MANY_ROWS = 10_000  # from which on no token dropout is needed, and bins need less smoothing
_MANY_COLUMNS = 24  # among which attackers find members less easily
_WIDTH_PER_COLUMN = 3  # of a row's context: a dozen columns depend on each other in few ways


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the network.

    Parameters
    ----------
    width : int
        Of a row's context; 128 generates 50,000 rows of 30 columns in seconds on two cores.
    hidden : int
        Hidden units of a block.
    blocks : int
    dropout : float
        Of a block's hidden units: rows are thousands, not millions.
    token_dropout : float
        Share of the tokens left out of the context in training: a combination of many tokens identifies a row.
    bumps : int
        Functions that smooth a number's bins, see ``smoothing_basis``.
    """

    width: int = 128
    hidden: int = 256
    blocks: int = 2
    dropout: float = 0.2
    token_dropout: float = 0.1
    bumps: int = 12

    @classmethod
    def for_table(cls, rows: int, columns: int) -> NetworkConfig:
        """Choose the size by the number of training rows and columns: a network too large for them memorises rows.

        Few columns of few rows get half as many bumps: in a dozen dimensions attacks find members by what narrow ones learn, at .52 AUC
        and more (docs/log, 2026-11-30).

        Examples
        --------
        >>> [NetworkConfig.for_table(rows, 45).width for rows in (200, 5_500, 14_000, 100_000)]
        [32, 64, 128, 128]
        >>> [NetworkConfig.for_table(5_500, columns).width for columns in (6, 12, 16, 45)]
        [32, 32, 48, 64]
        >>> NetworkConfig.for_table(100_000, 12)
        NetworkConfig(width=128, hidden=256, blocks=2, dropout=0.2, token_dropout=0.0, bumps=12)
        """
        is_small = rows < _MANY_ROWS and columns < _MANY_COLUMNS
        by_rows, by_columns = 8 * round(0.0125 * rows**0.75), 8 * round(_WIDTH_PER_COLUMN * columns / 8)
        width = int(np.clip(min(by_rows, by_columns) if is_small else by_rows, 32, 128))
        return cls(width=width, hidden=2 * width, token_dropout=0.1 if rows < _MANY_ROWS else 0.0, bumps=6 if is_small else 12)


class Network(nn.Module):
    """Distributions of columns given others.

    Parameters
    ----------
    sizes : (d,), number of tokens of each column, in the order of generation
    basis : d tensors (size, k), basis functions of the column's tokens; k is 0 for categories
    config : NetworkConfig
    """

    def __init__(self, sizes: Sequence[int], basis: Sequence[Tensor], config: NetworkConfig) -> None:
        super().__init__()
        w = config.width
        self.sizes, self.dropout, self.token_dropout = list(sizes), config.dropout, config.token_dropout
        columns = list(zip(sizes, basis, strict=True))
        self.embeddings = nn.ModuleList(nn.Linear(f.shape[1], w, bias=False) if f.shape[1] else nn.Embedding(n, w) for n, f in columns)
        self.scale = nn.Embedding(len(sizes), w)
        self.shift = nn.Embedding(len(sizes), w)
        self.norm_in = nn.LayerNorm(w)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(w), nn.Linear(w, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, w))
            for _ in range(config.blocks)
        )
        self.norm_out = nn.LayerNorm(w)
        self.heads = nn.ModuleList(nn.Linear(w, f.shape[1] or n, bias=False) for n, f in columns)
        self.bias = nn.ParameterList(torch.zeros(n) for n in sizes)
        for j, (_, f) in enumerate(columns):
            self.register_buffer(f"basis{j}", f, persistent=False)
            nn.init.normal_(self.embeddings[j].weight, std=0.3 if f.shape[1] else 0.5)  # type: ignore[arg-type]
            nn.init.zeros_(self.heads[j].weight)  # type: ignore[arg-type]
        nn.init.normal_(self.scale.weight, std=0.1)
        nn.init.normal_(self.shift.weight, std=0.5)
        for block in self.blocks:
            nn.init.zeros_(block[4].weight)  # type: ignore[index]
            nn.init.zeros_(block[4].bias)  # type: ignore[index]

    def forward(self, tokens: Tensor, is_condition: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the log probability of each token (b, d), 0 where it is a condition; ``generator`` is that of the dropout in training."""
        columns = torch.arange(len(self.sizes), device=tokens.device).expand(tokens.shape)
        features = self.features(self.context(tokens, is_condition, generator), columns, generator)
        each = [
            -nn.functional.cross_entropy(self.logits(j, features[:, j]), tokens[:, j], reduction="none") for j in range(len(self.sizes))
        ]
        return torch.stack(each, dim=1).masked_fill(is_condition, 0.0)

    def context(self, tokens: Tensor, is_condition: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sum, for each column, the embeddings of all tokens (b, d) before it and of the conditions after it (b, d, w)."""
        embedded = torch.stack([self.embed(j, tokens[:, j]) for j in range(len(self.sizes))], dim=1)  # (b, d, w)
        if self.training:
            embedded = embedded * (torch.rand(tokens.shape, device=tokens.device, generator=generator) >= self.token_dropout).unsqueeze(-1)
        before = embedded.cumsum(dim=1) - embedded
        conditions = embedded * is_condition.unsqueeze(-1)
        after = conditions.sum(dim=1, keepdim=True) - conditions.cumsum(dim=1)
        return before + after

    def embed(self, column: int, tokens: Tensor) -> Tensor:
        """Embed the tokens (b,) of one column (b, w)."""
        basis: Tensor = getattr(self, f"basis{column}")
        embedded: Tensor = self.embeddings[column](basis[tokens] if basis.shape[1] else tokens)
        return embedded

    def features(self, context: Tensor, columns: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the features (…, w) of these columns (…) from their contexts (…, w)."""
        x: Tensor = self.norm_in(context) * (1 + self.scale(columns)) + self.shift(columns)
        for block in self.blocks:
            x = x + (block(x) if generator is None else self._block(block, x, generator))
        out: Tensor = self.norm_out(x)
        return out

    def _block(self, block: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a block's output (…, w) with the dropout of a generator: that of torch draws from one generator of all threads."""
        norm, wide, activation, _, narrow = block.children()
        hidden: Tensor = activation(wide(norm(x)))
        keep = torch.rand(hidden.shape, generator=generator, device=x.device) >= self.dropout
        out: Tensor = narrow(hidden * keep / (1 - self.dropout))
        return out

    def logits(self, column: int, features: Tensor) -> Tensor:
        """Return one column's logits (b, size) from its features (b, w)."""
        basis: Tensor = getattr(self, f"basis{column}")
        weights: Tensor = self.heads[column](features)
        out: Tensor = self.bias[column] + (weights @ basis.T if basis.shape[1] else weights)
        return out


def smoothing_basis(token_counts: Tensor, functions: int = 12, marked: int = 10) -> Tensor:
    """Return basis functions of a number's bins: Gaussian bumps over their ranks, and an indicator of each frequent bin (size, k).

    Parameters
    ----------
    token_counts : (size,), rows with each token, missing first
    functions : int
        Number of narrow bumps; half as many wide ones and a linear function are added.
    marked : int
        A bin that one row in so many has gets an indicator, missing always does: its meaning may differ from that of its neighbours.
    """
    smoothed = token_counts[1:].double() + 0.5
    rank = (smoothed.cumsum(0) - smoothed / 2) / smoothed.sum()
    parts = [(rank - 0.5).unsqueeze(1) * 3.4]  # standard deviation 1 over even ranks
    for count in (functions // 2, functions):
        centre = torch.linspace(0, 1, count, dtype=torch.float64)
        parts.append(torch.exp(-0.5 * ((rank.unsqueeze(1) - centre) * (count - 1)).square()))
    bumps = torch.cat([torch.zeros(1, sum(part.shape[1] for part in parts)), torch.cat(parts, dim=1)])
    frequent = [i for i in range(len(token_counts)) if i == 0 or marked * token_counts[i] >= token_counts.sum()]
    return torch.cat([bumps, torch.eye(len(token_counts), dtype=torch.float64)[:, frequent]], dim=1).float()
