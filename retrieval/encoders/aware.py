"""The AWARE encoder: a feature gate per patient, a small ensemble of networks that share their weights, and an embedding in which
patients with the same outcome lie close together.

Cross-entropy of the head and the soft nearest-neighbour loss train it together (AWARE, arXiv 2604.01841). The members differ in scales
and biases of the hidden units (after TabM). Half of them read number columns by piecewise-linear bins of their rank as well. The embedding
has the leading principal axes of the members' mean hidden units, of unit length, and the head's log-odds beside them: near
patients are alike in what the network sees, and alike in risk; where events are few, in the columns themselves as well
(``column_axes.py``). Sizes, schedule, the axis of risk and the axes of columns are ours. ``training.py`` has the training.

Shapes: n rows, p encoded columns, r rank columns, a axes of columns, m members, h hidden units, e embedding width, b batch, c classes where
an outcome has more than two.

References
----------
Gorishniy and others: On embeddings for numerical features in tabular deep learning (2022), for the bins. Gorishniy, Kotelnikov, Babenko:
TabM: advancing tabular deep learning with parameter-efficient ensembling (2024).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.encoders.column_axes import ColumnAxes
from nearward.retrieval.encoders.inputs import EncoderInputs, LevelEmbedding
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.encoders.losses import LOSSES
from nearward.retrieval.encoders.members import MemberHead, MemberLinear, dropout, mean_log_odds, random_signs
from nearward.retrieval.encoders.simplex_head import SimplexHead
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.network_weights import check_weights
from nearward.tabular.preprocessing.level_indices import LevelIndices
from nearward.tabular.preprocessing.table_encoder import RANK_SCALE
from nearward.tabular.typing import Floats

_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture and training of one encoder.

    Parameters
    ----------
    gate_hidden, hidden : int
        Units of the gate, and of each of the two hidden layers.
    members : int
        Members of the ensemble.
    axes : int
        Principal axes of the hidden units in the embedding; the axis of risk comes on top.
    bins : int
        Piecewise-linear bins of a number column's rank, which half the members read beside value and rank; 0: none.
    dropout : float
        Dropout probability of hidden units.
    batch : int
        Rows per step; as they come, without a balance of the classes.
    steps : int
        Maximum number of steps. Training stops earlier: see ``patience``.
    patience : int
        Training stops after this many rounds (passes, or 50 steps where a pass has more) without a lower loss on rows left out.
    learning_rate, weight_decay : float
        Of AdamW.
    neighbour_weight : float
        Weight of the soft nearest-neighbour loss, relative to the head's loss.
    block_dropout : float
        Probability that a row loses a block of columns (``retrieval/encoders/block_dropout.py``), for votes at sites which
        lack a block. docs/guide/rare-outcomes.md has the gain of the vote; the whole model's risk gains nothing.
    pretext : "none", "masked" or "views"
        Self-supervised pretraining on rows without their outcomes (``retrieval/encoders/self_supervised.py``).
    loss : "cross-entropy", "focal" or "tversky"
        Loss of the plain head, for an outcome of two values (``retrieval/encoders/losses.py``).
    head : "plain" or "simplex"
        A learned linear head; or a fixed simplex frame with the dot-regression loss, from four classes up
        (``retrieval/encoders/simplex_head.py``).
    """

    gate_hidden: int = 32
    hidden: int = 192
    members: int = 4
    axes: int = 31
    bins: int = 8
    dropout: float = 0.4
    batch: int = 256
    steps: int = 1500
    patience: int = 5
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    neighbour_weight: float = 0.5
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
    """Gate, members with two hidden layers each, heads of log-odds, and the axes of the embedding.

    Dropout is active where a method gets a generator, whatever the module's mode.

    Parameters
    ----------
    columns : int, p
    config : EncoderConfig
    classes : int
        2, or more: one log-odds a row, or one a class.
    rank_columns : sequence of int, (r,)
        Encoded columns that are mid-ranks (``FeatureLayout.rank``), read by bins as well.
    n_levels, n_codes : sequences of int
        Levels of the category columns and of the list columns that are embedded; see ``LevelEmbedding``.
    column_axes : int, a
        Axes of the standardised columns in the embedding; see ``set_column_axes``.
    """

    centre: Tensor
    axes: Tensor
    risk_centre: Tensor
    risk_scale: Tensor
    column_axes: Tensor
    column_share: Tensor

    def __init__(
        self,
        columns: int,
        config: EncoderConfig,
        classes: int = 2,
        rank_columns: Sequence[int] = (),
        n_levels: Sequence[int] = (),
        n_codes: Sequence[int] = (),
        column_axes: int = 0,
    ) -> None:
        super().__init__()
        self.columns, self.config, self.classes, self.rank_columns = columns, config, classes, tuple(rank_columns)
        bins, m, h = len(self.rank_columns) * config.bins, config.members, config.hidden
        self.gate_input_proj = nn.Linear(columns + bins, config.gate_hidden)
        self.gate_output_proj = nn.Linear(config.gate_hidden, columns + bins)
        nn.init.zeros_(self.gate_output_proj.weight)  # starts as the plain distance: every weight 1
        nn.init.zeros_(self.gate_output_proj.bias)
        self.levels = LevelEmbedding(tuple(n_levels), tuple(n_codes))
        self.first, self.second = (
            MemberLinear(columns + self.levels.width, h, random_signs(m, h)),
            MemberLinear(h, h, torch.ones(m, 1, h)),
        )
        reads_bins = (torch.arange(m) >= m // 2)[:, None, None]  # to begin with: half the members
        self.bins = MemberLinear(bins, h, random_signs(m, h) * reads_bins) if bins else None
        self.head = SimplexHead(h, classes, torch.Generator().manual_seed(0)) if config.head == "simplex" else MemberHead(h, classes, m)
        self.log_temperature = nn.Parameter(torch.tensor(0.1).log())
        width = min(config.axes, h)
        self.register_buffer("centre", torch.zeros(h))
        self.register_buffer("axes", torch.eye(h)[:, :width].contiguous())
        self.register_buffer("risk_centre", torch.zeros(1 if classes == 2 else classes))
        self.register_buffer("risk_scale", torch.zeros(()))
        self.register_buffer("column_axes", torch.zeros(columns, column_axes))
        self.register_buffer("column_share", torch.zeros(()))

    def forward(self, x: Tensor, rng: torch.Generator | None = None, levels: LevelIndices | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean hidden units, unit length (b, h), and the members' log-odds (m, b) or (m, b, c).

        ``rng`` turns dropout on. Without ``levels`` every level is read as level 0.
        """
        hidden = self._member_hidden(x, rng, levels)
        return F.normalize(hidden.mean(dim=0), dim=1), self.head(hidden)

    def hidden(self, x: Tensor, rng: torch.Generator | None = None, levels: LevelIndices | None = None) -> Tensor:
        """Return the members' mean hidden units: (b, h)."""
        return self._member_hidden(x, rng, levels).mean(dim=0)

    def gate(self, x: Tensor) -> Tensor:
        """Return the weight of each encoded column for each row: (b, p), mean 1 over the columns; a rank's bins count with the rank."""
        weight = self._input_gate(self._inputs(x))
        if self.bins is not None:
            of_bins = weight[:, self.columns :].reshape(len(x), len(self.rank_columns), -1).sum(dim=2)
            weight = weight[:, : self.columns].index_add(1, torch.tensor(self.rank_columns, device=x.device), of_bins)
        return weight / weight.mean(dim=1, keepdim=True)

    def embed(self, x: Tensor, levels: LevelIndices | None = None) -> tuple[Tensor, Tensor]:
        """Return embeddings (b, e) and log-odds (b,) or (b, c), of the members' mean probability."""
        hidden, member_logits = self(x, levels=levels)
        logit = mean_log_odds(member_logits)
        learned = torch.cat([(hidden - self.centre) @ self.axes, (_risk(logit) - self.risk_centre) * self.risk_scale], dim=1)
        return torch.cat([learned * (1 - self.column_share).sqrt(), x @ self.column_axes], dim=1), logit

    def set_prevalence(self, labels: Tensor) -> None:
        """Start the members' log-odds at those of the outcome's prevalence among labels (b,)."""
        if isinstance(self.head, MemberHead):
            share = torch.bincount(labels.long(), minlength=self.classes) / len(labels)
            share = share.clamp(0.5 / len(labels), 1 - 0.5 / len(labels))  # a class that these rows lack is rare, not impossible
            with torch.no_grad():
                self.head.bias.copy_(torch.logit(share[1]) if self.classes == 2 else share.log())

    def shift_prevalence(self, class_weight: Tensor) -> None:
        """Move the members' log-odds to a table in which each class (c,) is as many times as common as among the training rows."""
        if isinstance(self.head, MemberHead):
            shift = class_weight.log()
            with torch.no_grad():
                self.head.bias.add_(shift[1] - shift[0] if self.classes == 2 else shift)

    def fit_axes(self, x: Tensor, levels: LevelIndices | None = None, weight: Tensor | None = None) -> None:
        """Set the axes of the embedding from rows (b, p): principal axes of the hidden units, and risk with as much variance as these.

        ``weight`` (b,) is how many rows each of them stands for.
        """
        with torch.no_grad():
            hidden, member_logits = self(x, levels=levels)
            risk = _risk(mean_log_odds(member_logits))
            if weight is None:
                self.centre.copy_(hidden.mean(dim=0))
                covariance = (hidden - self.centre).T @ (hidden - self.centre) / len(x)
            else:
                share = (weight / weight.sum())[:, None]
                self.centre.copy_((share * hidden).sum(dim=0))
                covariance = (hidden - self.centre).T @ (share * (hidden - self.centre))
            self.axes.copy_(torch.linalg.eigh(covariance.double())[1].flip(1)[:, : self.axes.shape[1]].to(hidden.dtype))
            along = (hidden - self.centre) @ self.axes
            if weight is None:
                spread, risk_variance = along.var(dim=0, correction=0).sum(), risk.var(dim=0, correction=0).sum()
                self.risk_centre.copy_(risk.mean(dim=0))
            else:
                self.risk_centre.copy_((share * risk).sum(dim=0))
                spread, risk_variance = (share * along**2).sum(), (share * (risk - self.risk_centre) ** 2).sum()
            self.risk_scale.copy_((spread / risk_variance).sqrt() if risk_variance > _NO_VARIANCE else torch.zeros(()))

    def set_column_axes(self, axes: ColumnAxes) -> None:
        """Give standardised columns their share of the squared distance, in units of the temperature."""
        scale = (axes.share * self.temperature) ** 0.5
        self.column_axes = torch.as_tensor(axes.matrix * scale, dtype=self.axes.dtype)
        self.column_share = torch.as_tensor(axes.share, dtype=self.axes.dtype)

    def mean_gate(self, x: Floats) -> Floats:
        """Return the mean weight of each column over rows (n, p) -> (p,)."""
        with torch.inference_mode():
            out: Floats = self.in_double().gate(torch.as_tensor(x, dtype=torch.float64)).mean(dim=0).numpy()
        return out

    @property
    def temperature(self) -> float:
        """The learned unit of squared distance in the embedding, whose variance is twice that of its principal axes."""
        return 2 * float(self.log_temperature.detach().exp())

    def in_double(self) -> AwareEncoder:
        """Return this network in double precision: itself where it is already, else a copy."""
        return self if self.log_temperature.dtype == torch.float64 else copy.deepcopy(self).double()

    def _member_hidden(self, x: Tensor, rng: torch.Generator | None, levels: LevelIndices | None) -> Tensor:
        """Return the last hidden layer of each member: (m, b, h)."""
        inputs = self._inputs(x)
        gated = inputs * self._input_gate(inputs)
        read = gated[:, : self.columns]
        if self.levels.width:
            embedded = x.new_zeros(len(x), self.levels.width) if levels is None else self.levels(levels)
            read = torch.cat([read, embedded], dim=1)
        hidden = self.first(read)
        if self.bins is not None:
            hidden = hidden + self.bins(gated[:, self.columns :])
        hidden = dropout(F.relu(hidden), self.config.dropout, rng)
        return dropout(F.relu(self.second(hidden)), self.config.dropout, rng)

    def _input_gate(self, inputs: Tensor) -> Tensor:
        """Return the weight of each column and of each bin: (b, p + r * bins), mean 1."""
        weight: Tensor = self.gate_output_proj(F.gelu(self.gate_input_proj(inputs))).softmax(dim=1) * inputs.shape[1]
        return weight

    def _inputs(self, x: Tensor) -> Tensor:
        """Return the encoded columns, and each rank's position within each of its bins, from -0.5 to 0.5: (b, p + r * bins)."""
        if self.bins is None:
            return x
        rank = x[:, list(self.rank_columns)] / RANK_SCALE + 0.5
        lower = torch.arange(self.config.bins, dtype=x.dtype, device=x.device)
        position = (rank[:, :, None] * self.config.bins - lower).clamp(0, 1) - 0.5  # (b, r, bins)
        return torch.cat([x, position.flatten(1)], dim=1)


def _risk(logit: Tensor) -> Tensor:
    """Return the coordinates of risk, before their scale: log-odds (b, 1); or each class's log-probability less their mean (b, c)."""
    return logit[:, None] if logit.ndim == 1 else logit - logit.mean(dim=1, keepdim=True)


_GLOBAL_RNG = threading.Lock()  # torch initialises layers from a generator that all threads share


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Initialise networks that are built inside the block by this seed; the user's random state stays as it was."""
    with _GLOBAL_RNG, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def embed(encoder: AwareEncoder | LinearMetric, rows: Floats | EncoderInputs, chunk: int = 8192) -> tuple[Floats, Floats]:
    """Return embeddings (n, e) and the head's log-odds (n,) or (n, c), 0 for a metric.

    In double precision, so that a row's numbers do not depend on its batch; the encoder itself is not converted.
    """
    inputs = EncoderInputs.of(rows)
    if isinstance(encoder, LinearMetric):
        return encoder.transform(inputs.dense), np.zeros(len(inputs))
    double = encoder.in_double()
    parts = []
    with torch.inference_mode():
        for i in range(0, max(len(inputs), 1), chunk):
            part = inputs.take(slice(i, i + chunk))
            parts.append(double.embed(torch.as_tensor(part.dense, dtype=torch.float64), part.levels))
    embedding, logit = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return embedding, logit


def network_state(encoder: AwareEncoder | LinearMetric) -> Any:
    """Return an encoder as plain arrays and numbers, a linear metric as it is."""
    if isinstance(encoder, LinearMetric):
        return encoder
    arrays = {name: value.float().numpy() for name, value in encoder.state_dict().items()}
    sizes = {
        "columns": encoder.columns,
        "classes": encoder.classes,
        "rank_columns": encoder.rank_columns,
        "n_levels": encoder.levels.n_levels,
        "n_codes": encoder.levels.n_codes,
        "column_axes": encoder.column_axes.shape[1],
    }
    return {**sizes, "config": encoder.config, "parameters": arrays}


def network_from_state(state: Any) -> AwareEncoder | LinearMetric:
    """Load the result of ``network_state``, an encoder in double precision."""
    if isinstance(state, LinearMetric):
        return state
    with seeded_init(0):  # overwritten below; the user's random state stays as it was
        sizes = [state[name] for name in ("columns", "config", "classes", "rank_columns", "n_levels", "n_codes", "column_axes")]
        check_weights(lambda: AwareEncoder(*sizes), state["parameters"])
        encoder = AwareEncoder(*sizes)
    encoder.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state["parameters"].items()})
    return encoder.double().eval()
