"""The AWARE encoder: a gate that weighs the features patient by patient, and a small network that brings patients with
the same outcome together.

Trained with the soft nearest-neighbour loss on class-balanced batches, beside a plain classification head (AWARE,
arXiv 2604.01841; the sizes, the schedule and the head are ours).

Letters: n rows, p encoded columns, e embedding width, b batch, c classes where an outcome has more than two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.encoders.block_dropout import BlockDropout
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.encoders.losses import LOSSES, HeadLoss
from nearward.retrieval.encoders.simplex_head import SimplexHead
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints

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
        Of the rows of a batch that are events. docs/log/2026-11.md has what a quarter gained over a half.
    steps : int
        Steps at the most; a small table gets fewer (``epochs`` times through its rows).
    epochs : int
        Passes through the rows at the most.
    learning_rate, weight_decay : float
        AdamW's, with a short warm-up and a cosine.
    head_weight : float
        Weight of the classification head's loss beside the neighbour loss.
    block_dropout : float
        Probability, at the end of the training, that a row loses a block of columns (``retrieval/encoders/block_dropout.py``). For
        votes at sites which lack a block; docs/guide/rare-outcomes.md has what it buys, and that the whole model's risk gains nothing.
    pretext : "none", "masked" or "views"
        What the encoder learns from rows without their outcomes before the training proper (``retrieval/encoders/self_supervised.py``).
    loss : "cross-entropy", "focal" or "tversky"
        Of the plain head, for an outcome of two values (``retrieval/encoders/losses.py``).
    head : "plain" or "simplex"
        A learned head; or fixed corners of a simplex with the dot-regression loss, from four classes up (``retrieval/encoders/simplex_head.py``).
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
    block_dropout: float = 0.0
    pretext: str = "none"
    loss: str = "cross-entropy"
    head: str = "plain"

    def __post_init__(self) -> None:
        if not 0 <= self.block_dropout < 1:
            raise InputError(f"block_dropout must lie in [0, 1), got block_dropout={self.block_dropout!r}")
        for name, allowed in (("pretext", ("none", "masked", "views")), ("loss", LOSSES), ("head", ("plain", "simplex"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {list(allowed)}, got {name}={getattr(self, name)!r}")
        if self.loss != LOSSES[0] and self.head != "plain":
            raise InputError(f"loss={self.loss!r} is for the plain head, and head={self.head!r} has a loss of its own: choose one")


class AwareEncoder(nn.Module):
    """Gate, residual network, unit-length embedding, and a log-odds head; one log-odds a class where there are more than two."""

    def __init__(self, columns: int, config: EncoderConfig, classes: int = 2) -> None:
        super().__init__()
        self.columns, self.config, self.classes = columns, config, classes
        self.gate_in = nn.Linear(columns, config.gate_hidden)
        self.gate_out = nn.Linear(config.gate_hidden, columns)
        nn.init.zeros_(self.gate_out.weight)  # starts as plain distance: every weight 1
        nn.init.zeros_(self.gate_out.bias)
        self.inward = nn.Linear(columns, config.hidden)
        self.blocks = nn.ModuleList(_Residual(config.hidden, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.outward = nn.Linear(config.hidden, config.width)
        self.head = _new_head(config, classes)
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
        """Return the embedding (b, e), unit length, and the head's log-odds (b,) or (b, c); with a generator, units are dropped."""
        hidden = self.hidden(x, dropped)
        return F.normalize(self.outward(hidden), dim=1), self.head(hidden).squeeze(1)

    def hidden(self, x: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        """Return what embedding and head are made of: (b, hidden)."""
        hidden = self.inward(x * self.gate(x))
        for block in self.blocks:
            hidden = block(hidden, dropped)
        out: Tensor = self.norm(hidden)
        return out


def _new_head(config: EncoderConfig, classes: int) -> nn.Module:
    if config.head == "simplex":
        return SimplexHead(config.hidden, classes, torch.Generator().manual_seed(0))
    return nn.Linear(config.hidden, 1 if classes == 2 else classes)


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
    outcome : (b,), 0 or 1, or class numbers
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


def train_encoder(
    x: Floats,
    outcome: Ints,
    group: Ints,
    config: EncoderConfig,
    seed: int,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> AwareEncoder:
    """Train one encoder on these rows, all of them.

    Parameters
    ----------
    x : (n, p), the dense encoding
    outcome : (n,), 0 or 1, both present; or class numbers from 0, all present
    group : (n,), patient numbers
    config : EncoderConfig
    seed : int
    layout : FeatureLayout, optional
        What block dropout and pretexts need to know of the columns.
    unlabelled : (u, p), optional
        More rows for the pretext.

    Returns
    -------
    AwareEncoder, in evaluation mode
    """
    draw, dropped = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    classes = max(2, int(outcome.max()) + 1)
    encoder = _new_encoder(x.shape[1], config, seed, classes)
    pools = [np.flatnonzero(outcome == k) for k in range(classes)]
    batch = min(config.batch, 2 * max(len(pool) for pool in pools))
    steps = int(min(config.steps, max(100, config.epochs * len(x) / batch)))
    if config.pretext != "none":
        from nearward.retrieval.encoders.self_supervised import STEPS, warm_up

        # a step of views costs two of the training proper: a few hundred rows get fewer
        warm_up(encoder, x if unlabelled is None else np.concatenate([x, unlabelled]), layout, seed, min(STEPS, 3 * steps // 2))
    lose_blocks = BlockDropout.of(layout, config.block_dropout) if config.block_dropout else None
    optimiser, loss_of_two = _optimiser(encoder, config), HeadLoss(config.loss, classes)
    rows, owner = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(group)
    label = torch.as_tensor(outcome, dtype=torch.float32)
    counts = _rows_a_class(pools, batch, config.event_share)
    for step in range(steps):
        for parameters in optimiser.param_groups:
            parameters["lr"] = parameters["peak"] * _schedule(step, steps)
        drawn = [draw.choice(pool, count) for pool, count in zip(pools, counts, strict=True)]
        index = torch.as_tensor(np.concatenate(drawn))
        kept = _kept(torch.Size((1, x.shape[1])), config.feature_dropout, dropped)  # one draw a batch: distances stay comparable
        seen = rows[index] if lose_blocks is None else lose_blocks(rows[index], step / steps, dropped)
        embedding, logit = encoder(seen * kept, dropped)
        y, who = label[index], owner[index]
        loss = soft_nearest_neighbour_loss(embedding, y, encoder.log_temperature.exp(), who[:, None] != who[None, :])
        loss = loss + config.head_weight * _head_loss(encoder, logit, y, loss_of_two)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
    return encoder.eval()


def _rows_a_class(pools: list[Ints], batch: int, event_share: float) -> list[int]:
    """Deal a batch's rows to two classes by the events' share; to more, half in equal parts and half as they are."""
    if len(pools) == 2:
        events = max(2, round(batch * event_share))
        return [batch - events, events]
    size = np.array([len(pool) for pool in pools])
    return [max(2, round(batch * share)) for share in (0.5 / len(pools) + 0.5 * size / size.sum()).tolist()]


def _head_loss(encoder: AwareEncoder, logit: Tensor, label: Tensor, loss_of_two: HeadLoss) -> Tensor:
    if isinstance(encoder.head, SimplexHead):
        return encoder.head.loss(logit, label.long())
    if logit.ndim == 2:
        return F.cross_entropy(logit, label.long())
    return loss_of_two(logit, label)


_GLOBAL_DICE = threading.Lock()  # torch draws first weights from a generator that all threads share


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Let networks made inside the block draw their first weights by this seed, and leave the user's random numbers alone."""
    with _GLOBAL_DICE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _new_encoder(columns: int, config: EncoderConfig, seed: int, classes: int = 2) -> AwareEncoder:
    with first_weights(seed):
        return AwareEncoder(columns, config, classes).train()


def embed(encoder: AwareEncoder | LinearMetric, x: Floats, chunk: int = 8192) -> tuple[Floats, Floats]:
    """Return the embeddings (n, e) and the head's log-odds (n,) or (n, c), 0 for a metric; in double precision: batches cannot differ."""
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
    return {"columns": encoder.columns, "config": encoder.config, "classes": encoder.classes, "parameters": arrays}


def network_from_state(state: Any) -> AwareEncoder | LinearMetric:
    """Rebuild what ``network_state`` took apart."""
    if isinstance(state, LinearMetric):
        return state
    with first_weights(0):  # drawn and written over; the user's random numbers stay as they are
        encoder = AwareEncoder(state["columns"], state["config"], state.get("classes", 2))
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state["parameters"].items()})
    return encoder.double().eval()
