"""The AWARE encoder: a feature gate per patient, a residual network, and a unit-length embedding in which patients with the same
outcome lie close together.

Trained with the soft nearest-neighbour loss on class-balanced batches, beside a plain classification head (AWARE,
arXiv 2604.01841; the sizes, the schedule and the head are ours). ``training.py`` has the training.

Shapes: n rows, p encoded columns, e embedding width, b batch, c classes where an outcome has more than two.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.encoders.losses import LOSSES
from nearward.retrieval.encoders.simplex_head import SimplexHead
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.network_weights import check_weights
from nearward.tabular.typing import Floats


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture and training of one encoder.

    Parameters
    ----------
    gate_hidden, hidden, width : int
        Units of the gate, of the residual blocks and of the embedding.
    blocks : int
        Residual blocks.
    dropout, feature_dropout : float
        Dropout probabilities of hidden units and of encoded columns.
    batch : int
        Rows per step.
    event_share : float
        Share of events in a batch. docs/log/2026-11.md has what a quarter gained over a half.
    steps : int
        Maximum number of steps; a small table gets fewer (``epochs`` passes through its rows).
    epochs : int
        Maximum number of passes through the rows.
    learning_rate, weight_decay : float
        Of AdamW, with a short linear warm-up and cosine decay.
    head_weight : float
        Weight of the classification head's loss, relative to the neighbour loss.
    block_dropout : float
        Final probability that a row loses a block of columns (``retrieval/encoders/block_dropout.py``), for votes at sites which
        lack a block. docs/guide/rare-outcomes.md has the gain of the vote; the whole model's risk gains nothing.
    pretext : "none", "masked" or "views"
        Self-supervised pretraining on rows without their outcomes (``retrieval/encoders/self_supervised.py``).
    loss : "cross-entropy", "focal" or "tversky"
        Loss of the plain head, for an outcome of two values (``retrieval/encoders/losses.py``).
    head : "plain" or "simplex"
        A learned linear head; or a fixed simplex frame with the dot-regression loss, from four classes up
        (``retrieval/encoders/simplex_head.py``).
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
            raise InputError(f"loss={self.loss!r} needs head='plain', got head={self.head!r}, which has a loss of its own")


class AwareEncoder(nn.Module):
    """Gate, residual network, unit-length embedding, and a head of log-odds; one per class where there are more than two.

    Dropout is active where ``forward`` gets a generator, whatever the module's mode.
    """

    def __init__(self, columns: int, config: EncoderConfig, classes: int = 2) -> None:
        super().__init__()
        self.columns, self.config, self.classes = columns, config, classes
        self.gate_input_proj = nn.Linear(columns, config.gate_hidden)
        self.gate_output_proj = nn.Linear(config.gate_hidden, columns)
        nn.init.zeros_(self.gate_output_proj.weight)  # starts as the plain distance: every weight 1
        nn.init.zeros_(self.gate_output_proj.bias)
        self.input_proj = nn.Linear(columns, config.hidden)
        self.blocks = nn.ModuleList(_ResidualBlock(config.hidden, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.output_proj = nn.Linear(config.hidden, config.width)
        self.head = _new_head(config, classes)
        self.log_temperature = nn.Parameter(torch.tensor(0.1).log())

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the embedding (b, e), unit length, and the head's log-odds (b,) or (b, c); ``rng`` switches dropout on."""
        hidden = self.hidden(x, rng)
        return F.normalize(self.output_proj(hidden), dim=1), self.head(hidden).squeeze(1)

    def hidden(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Return the hidden units from which embedding and head are computed: (b, hidden)."""
        hidden = self.input_proj(x * self.gate(x))
        for block in self.blocks:
            hidden = block(hidden, rng)
        out: Tensor = self.norm(hidden)
        return out

    def gate(self, x: Tensor) -> Tensor:
        """Return the weight of each column for each row: (b, p), mean 1 over the columns."""
        weight: Tensor = self.gate_output_proj(F.gelu(self.gate_input_proj(x))).softmax(dim=1) * self.columns
        return weight

    def mean_gate(self, x: Floats) -> Floats:
        """Return the mean weight of each column over rows (n, p) -> (p,)."""
        with torch.inference_mode():
            out: Floats = self.in_double().gate(torch.as_tensor(x, dtype=torch.float64)).mean(dim=0).numpy()
        return out

    @property
    def temperature(self) -> float:
        """The learned unit of squared distance."""
        return float(self.log_temperature.detach().exp())

    def in_double(self) -> AwareEncoder:
        """Return this network in double precision: itself where it is already, else a copy."""
        return self if self.log_temperature.dtype == torch.float64 else copy.deepcopy(self).double()


class _ResidualBlock(nn.Module):
    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.input_proj, self.output_proj = nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.dropout = dropout

    def forward(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        inner = F.gelu(self.input_proj(self.norm(x)))
        if rng is not None:
            inner = inner * dropout_mask(inner.shape, self.dropout, rng) / (1 - self.dropout)
        out: Tensor = x + self.output_proj(inner)
        return out


def dropout_mask(shape: torch.Size, rate: float, rng: torch.Generator) -> Tensor:
    """Return a boolean mask that is False with probability ``rate``."""
    return torch.rand(shape, generator=rng) >= rate


def _new_head(config: EncoderConfig, classes: int) -> nn.Module:
    if config.head == "simplex":
        return SimplexHead(config.hidden, classes, torch.Generator().manual_seed(0))
    return nn.Linear(config.hidden, 1 if classes == 2 else classes)


_GLOBAL_RNG = threading.Lock()  # torch initialises layers from a generator that all threads share


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Initialise networks that are built inside the block by this seed; the user's random state stays as it was."""
    with _GLOBAL_RNG, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def embed(encoder: AwareEncoder | LinearMetric, x: Floats, chunk: int = 8192) -> tuple[Floats, Floats]:
    """Return embeddings (n, e) and the head's log-odds (n,) or (n, c), 0 for a metric.

    In double precision, so that a row's numbers do not depend on its batch; the encoder itself is not converted.
    """
    if isinstance(encoder, LinearMetric):
        return encoder.transform(x), np.zeros(len(x))
    double = encoder.in_double()
    with torch.inference_mode():
        parts = [double(torch.as_tensor(x[i : i + chunk], dtype=torch.float64)) for i in range(0, max(len(x), 1), chunk)]
    embedding, logit = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return embedding, logit


def network_state(encoder: AwareEncoder | LinearMetric) -> Any:
    """Return an encoder as plain arrays and numbers, a linear metric as it is."""
    if isinstance(encoder, LinearMetric):
        return encoder
    arrays = {name: value.float().numpy() for name, value in encoder.state_dict().items()}
    return {"columns": encoder.columns, "config": encoder.config, "classes": encoder.classes, "parameters": arrays}


def network_from_state(state: Any) -> AwareEncoder | LinearMetric:
    """Load the result of ``network_state``, an encoder in double precision."""
    if isinstance(state, LinearMetric):
        return state
    with seeded_init(0):  # overwritten below; the user's random state stays as it was
        check_weights(lambda: AwareEncoder(state["columns"], state["config"], state["classes"]), state["parameters"])
        encoder = AwareEncoder(state["columns"], state["config"], state["classes"])
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state["parameters"].items()})
    return encoder.double().eval()
