"""The AWARE encoder: a gate that weighs the features patient by patient, and a small network that brings patients with
the same outcome together.

Trained with the soft nearest-neighbour loss on class-balanced batches, beside a plain classification head (AWARE,
arXiv 2604.01841; the sizes, the schedule and the head are ours).

Letters: n rows, p encoded columns, e embedding width, b batch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.metric import LinearMetric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


_TEMPERATURE_RATE = 20.0  # the one temperature learns this much faster than the weights, or it stays where it began


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and training of one encoder.

    Parameters
    ----------
    gate_hidden, hidden, width : int
        Units of the gate, of the residual blocks, and of the embedding.
    blocks : int
        Residual blocks.
    dropout, feature_dropout : float
        Shares of hidden units, and of encoded columns, dropped in training.
    batch : int
        Rows a step.
    event_share : float
        Of the rows of a batch that are events. docs/log.md has what a quarter gained over a half.
    steps : int
        Steps at the most; a small table gets fewer (``epochs`` times through its rows).
    epochs : int
        Passes through the rows at the most.
    learning_rate, weight_decay : float
        AdamW's, with a short warm-up and a cosine.
    head_weight : float
        Weight of the classification head's loss beside the neighbour loss.
    """

    gate_hidden: int = 64
    hidden: int = 192
    width: int = 48
    blocks: int = 2
    dropout: float = 0.2
    feature_dropout: float = 0.1
    batch: int = 256
    event_share: float = 0.25
    steps: int = 600
    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    head_weight: float = 0.5


class AwareEncoder(nn.Module):
    """Gate, residual network, unit-length embedding, and a log-odds head."""

    def __init__(self, columns: int, config: EncoderConfig) -> None:
        super().__init__()
        self.columns, self.config = columns, config
        self.gate_in = nn.Linear(columns, config.gate_hidden)
        self.gate_out = nn.Linear(config.gate_hidden, columns)
        nn.init.zeros_(self.gate_out.weight)  # starts as plain distance: every weight 1
        nn.init.zeros_(self.gate_out.bias)
        self.inward = nn.Linear(columns, config.hidden)
        self.blocks = nn.ModuleList(_Residual(config.hidden, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.outward = nn.Linear(config.hidden, config.width)
        self.head = nn.Linear(config.hidden, 1)
        self.log_temperature = nn.Parameter(torch.tensor(0.1).log())

    def gate(self, x: Tensor) -> Tensor:
        """Return the weight of each column for each row: (b, p), mean 1 over the columns."""
        weight: Tensor = self.gate_out(F.gelu(self.gate_in(x))).softmax(dim=1) * self.columns
        return weight

    @property
    def temperature(self) -> float:
        """What the training settled on as one unit of squared distance."""
        return float(self.log_temperature.detach().exp())

    def mean_gate(self, x: Floats) -> Floats:
        """Return the mean weight of each column over rows (n, p) -> (p,)."""
        with torch.inference_mode():
            out: Floats = self.double().gate(torch.as_tensor(x, dtype=torch.float64)).mean(dim=0).numpy()
        return out

    def forward(self, x: Tensor, dropped: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the embedding (b, e), unit length, and the head's log-odds (b,); with a generator, units are dropped."""
        hidden = self.inward(x * self.gate(x))  # (b, hidden)
        for block in self.blocks:
            hidden = block(hidden, dropped)
        hidden = self.norm(hidden)
        return F.normalize(self.outward(hidden), dim=1), self.head(hidden).squeeze(1)


class _Residual(nn.Module):
    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.inward, self.outward = nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.dropout = dropout

    def forward(self, x: Tensor, dropped: torch.Generator | None) -> Tensor:
        inner = F.gelu(self.inward(self.norm(x)))
        if dropped is not None:
            inner = inner * _kept(inner.shape, self.dropout, dropped) / (1 - self.dropout)
        out: Tensor = x + self.outward(inner)
        return out


def _kept(shape: torch.Size, dropout: float, dropped: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=dropped) >= dropout


def soft_nearest_neighbour_loss(embedding: Tensor, outcome: Tensor, temperature: Tensor, apart: Tensor) -> Tensor:
    """Return the mean of -log(share of a row's neighbourhood that has its own outcome).

    Parameters
    ----------
    embedding : (b, e), unit length
    outcome : (b,), 0 or 1
    temperature : scalar
    apart : (b, b), bool
        True where two rows may be neighbours: not the same row, nor the same patient.

    References
    ----------
    Frosst, Papernot, Hinton: Analyzing and improving representations with the soft nearest neighbor loss (2019).
    """
    closeness = (embedding @ embedding.T / temperature).masked_fill(~apart, -torch.inf)  # (b, b)
    same = closeness.masked_fill(outcome[:, None] != outcome[None, :], -torch.inf)
    alone = ~(apart & (outcome[:, None] == outcome[None, :])).any(dim=1)  # nobody to be near: says nothing
    loss = closeness.logsumexp(dim=1) - same.masked_fill(alone[:, None], 0.0).logsumexp(dim=1)
    return loss.masked_fill(alone, 0.0).sum() / (~alone).sum().clamp(min=1)


def train_encoder(x: Floats, outcome: Ints, group: Ints, config: EncoderConfig, seed: int) -> AwareEncoder:
    """Train one encoder on these rows, all of them.

    Parameters
    ----------
    x : (n, p), the dense encoding
    outcome : (n,), 0 or 1, both present
    group : (n,), patient numbers
    config : EncoderConfig
    seed : int

    Returns
    -------
    AwareEncoder, in evaluation mode
    """
    draw, dropped = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    encoder = _new_encoder(x.shape[1], config, seed)
    optimiser = _optimiser(encoder, config)
    rows, owner = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(group)
    label = torch.as_tensor(outcome, dtype=torch.float32)
    pools = [np.flatnonzero(outcome == k) for k in (0, 1)]
    batch = min(config.batch, 2 * max(len(pool) for pool in pools))
    events = max(2, round(batch * config.event_share))
    steps = int(min(config.steps, max(100, config.epochs * len(x) / batch)))
    for step in range(steps):
        for parameters in optimiser.param_groups:
            parameters["lr"] = parameters["peak"] * _schedule(step, steps)
        drawn = [draw.choice(pools[0], batch - events), draw.choice(pools[1], events)]
        index = torch.as_tensor(np.concatenate(drawn))
        kept = _kept(torch.Size((1, x.shape[1])), config.feature_dropout, dropped)  # one draw a batch: distances stay comparable
        embedding, logit = encoder(rows[index] * kept, dropped)
        y, who = label[index], owner[index]
        loss = soft_nearest_neighbour_loss(embedding, y, encoder.log_temperature.exp(), who[:, None] != who[None, :])
        loss = loss + config.head_weight * F.binary_cross_entropy_with_logits(logit, y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
    return encoder.eval()


_GLOBAL_DICE = threading.Lock()  # torch draws first weights from a generator that all threads share


def _new_encoder(columns: int, config: EncoderConfig, seed: int) -> AwareEncoder:
    with _GLOBAL_DICE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AwareEncoder(columns, config).train()


def embed(encoder: AwareEncoder | LinearMetric, x: Floats, chunk: int = 8192) -> tuple[Floats, Floats]:
    """Return the embeddings (n, e) and the head's log-odds (n,), 0 for a metric; in double precision so that batches cannot differ."""
    if isinstance(encoder, LinearMetric):
        return encoder.place(x), np.zeros(len(x))
    precise: Any = encoder.double().eval()
    with torch.inference_mode():
        parts = [precise(torch.as_tensor(x[i : i + chunk], dtype=torch.float64)) for i in range(0, max(len(x), 1), chunk)]
    embedding, logit = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return embedding, logit


def _optimiser(encoder: AwareEncoder, config: EncoderConfig) -> torch.optim.AdamW:
    networks = [value for name, value in encoder.named_parameters() if name != "log_temperature"]
    groups = [
        {"params": networks, "peak": config.learning_rate},
        {"params": [encoder.log_temperature], "peak": _TEMPERATURE_RATE * config.learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 30)
    return warm * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def network_state(encoder: AwareEncoder | LinearMetric) -> Any:
    """Return a linear metric as it is, an encoder as plain arrays and numbers."""
    if isinstance(encoder, LinearMetric):
        return encoder
    arrays = {name: value.float().numpy() for name, value in encoder.state_dict().items()}
    return {"columns": encoder.columns, "config": encoder.config, "parameters": arrays}


def network_from_state(state: Any) -> AwareEncoder | LinearMetric:
    """Rebuild what ``network_state`` took apart."""
    if isinstance(state, LinearMetric):
        return state
    encoder = AwareEncoder(state["columns"], state["config"])
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state["parameters"].items()})
    return encoder.double().eval()
