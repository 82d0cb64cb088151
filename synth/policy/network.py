"""The policy's network: given some columns' tokens, the distribution of each other column's token.

What is known of a row is the sum of its known tokens' embeddings; a column asks that sum through a scale and shift of its own, blocks
that all columns share turn it into features, and the column's own head reads its logits from them. It is causal: the sum of a column
holds only columns written before it, and the conditions. Attention would find the same few relations at several times the cost: a sum
is carried from column to column, so that drawing a row costs one pass (the role that cached keys have in a transformer).

Cells of a number lie in an order, and rows are few: embeddings and heads are smooth over neighbouring cells. With a free part for each
cell beside that, held-out rows were .35 nats less likely on SUPPORT2, and training overfitted within ten passes.

Letters: b rows, d columns, w width, k smooth functions of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_MANY = 10_000  # rows learned from, which hide each other


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the network.

    Parameters
    ----------
    width : int
        Of a row's sum; 128 draws 50,000 rows of 30 columns in seconds on two cores.
    hidden : int
        Of a block.
    blocks : int
    dropout : float
        Of a block's hidden units: rows are thousands, not millions.
    forgotten : float
        Of the cells that are summed up, in training: what only many cells together tell is who the row is.
    """

    width: int = 128
    hidden: int = 256
    blocks: int = 2
    dropout: float = 0.2
    forgotten: float = 0.1

    @classmethod
    def for_rows(cls, rows: int) -> NetworkConfig:
        """Choose the size by how many rows there are to learn from: what is wider than they bear remembers them.

        Examples
        --------
        >>> [NetworkConfig.for_rows(rows).width for rows in (200, 5_500, 14_000, 100_000)]
        [32, 64, 128, 128]
        """
        width = int(np.clip(8 * round(0.0125 * rows**0.75), 32, 128))
        return cls(width=width, hidden=2 * width, forgotten=0.1 if rows < _MANY else 0.0)


class Network(nn.Module):
    """Distributions of columns given others.

    Parameters
    ----------
    sizes : (d,), tokens of each column, in the order they are written
    smooth : d tensors (size, k), smooth functions of the column's tokens; k is 0 for categories
    config : NetworkConfig
    """

    def __init__(self, sizes: Sequence[int], smooth: Sequence[Tensor], config: NetworkConfig) -> None:
        super().__init__()
        w = config.width
        self.sizes, self.forgotten = list(sizes), config.forgotten
        parts = list(zip(sizes, smooth, strict=True))
        self.enter = nn.ModuleList(nn.Linear(s.shape[1], w, bias=False) if s.shape[1] else nn.Embedding(n, w) for n, s in parts)
        self.scale = nn.Embedding(len(sizes), w)
        self.shift = nn.Embedding(len(sizes), w)
        self.first = nn.LayerNorm(w)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(w), nn.Linear(w, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, w))
            for _ in range(config.blocks)
        )
        self.last = nn.LayerNorm(w)
        self.heads = nn.ModuleList(nn.Linear(w, s.shape[1] or n, bias=False) for n, s in parts)
        self.bias = nn.ParameterList(torch.zeros(n) for n in sizes)
        for j, (_, s) in enumerate(parts):
            self.register_buffer(f"smooth{j}", s, persistent=False)
            nn.init.normal_(self.enter[j].weight, std=0.3 if s.shape[1] else 0.5)  # type: ignore[arg-type]
            nn.init.zeros_(self.heads[j].weight)  # type: ignore[arg-type]
        nn.init.normal_(self.scale.weight, std=0.1)
        nn.init.normal_(self.shift.weight, std=0.5)
        for block in self.blocks:
            nn.init.zeros_(block[4].weight)  # type: ignore[index]
            nn.init.zeros_(block[4].bias)  # type: ignore[index]

    def embed(self, column: int, tokens: Tensor) -> Tensor:
        """Embed the tokens (b,) of one column (b, w)."""
        smooth: Tensor = getattr(self, f"smooth{column}")
        embedded: Tensor = self.enter[column](smooth[tokens] if smooth.shape[1] else tokens)
        return embedded

    def features(self, known: Tensor, columns: Tensor) -> Tensor:
        """Turn what is known (…, w) into what the heads of these columns (…) read (…, w)."""
        x: Tensor = self.first(known) * (1 + self.scale(columns)) + self.shift(columns)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.last(x)
        return out

    def logits(self, column: int, features: Tensor) -> Tensor:
        """Read one column's logits (b, size) from features (b, w)."""
        smooth: Tensor = getattr(self, f"smooth{column}")
        read: Tensor = self.heads[column](features)
        out: Tensor = self.bias[column] + (read @ smooth.T if smooth.shape[1] else read)
        return out

    def known(self, tokens: Tensor, given: Tensor) -> Tensor:
        """Sum up, for each column, the embeddings of all columns before it and of the conditions after it.

        Parameters
        ----------
        tokens : (b, d)
        given : (b, d), true where a cell is a condition

        Returns
        -------
        (b, d, w)
        """
        embedded = torch.stack([self.embed(j, tokens[:, j]) for j in range(len(self.sizes))], dim=1)  # (b, d, w)
        if self.training:
            embedded = embedded * (torch.rand(tokens.shape, device=tokens.device) >= self.forgotten).unsqueeze(-1)
        before = embedded.cumsum(dim=1) - embedded
        conditions = embedded * given.unsqueeze(-1)
        after = conditions.sum(dim=1, keepdim=True) - conditions.cumsum(dim=1)
        return before + after

    def forward(self, tokens: Tensor, given: Tensor) -> Tensor:
        """Return the log probability of each cell (b, d), 0 where it is a condition.

        Parameters
        ----------
        tokens : (b, d)
        given : (b, d), true where a cell is a condition
        """
        features = self.features(self.known(tokens, given), torch.arange(len(self.sizes), device=tokens.device).expand(tokens.shape))
        each = [
            -nn.functional.cross_entropy(self.logits(j, features[:, j]), tokens[:, j], reduction="none") for j in range(len(self.sizes))
        ]
        return torch.stack(each, dim=1).masked_fill(given, 0.0)


def smooth_functions(rows: Tensor, functions: int = 12, marked: int = 10) -> Tensor:
    """Return functions of the cells of a number: bumps in the scale of its ranks, and a mark on each cell that many rows have (size, k).

    Parameters
    ----------
    rows : (size,), how many rows have each token, missing first
    functions : int
        Bumps of the narrower kind; half as many wide ones and a straight line are added.
    marked : int
        A cell that one row in so many has is marked, missing in any case: it may mean something else than its neighbours.
    """
    there = rows[1:].double() + 0.5
    rank = (there.cumsum(0) - there / 2) / there.sum()
    parts = [(rank - 0.5).unsqueeze(1) * 3.4]  # standard deviation 1 over even ranks
    for count in (functions // 2, functions):
        centre = torch.linspace(0, 1, count, dtype=torch.float64)
        parts.append(torch.exp(-0.5 * ((rank.unsqueeze(1) - centre) * (count - 1)).square()))
    bumps = torch.cat([torch.zeros(1, sum(part.shape[1] for part in parts)), torch.cat(parts, dim=1)])
    heavy = [i for i in range(len(rows)) if i == 0 or marked * rows[i] >= rows.sum()]
    return torch.cat([bumps, torch.eye(len(rows), dtype=torch.float64)[:, heavy]], dim=1).float()
