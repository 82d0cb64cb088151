"""Self-supervised pretraining of an encoder, on rows with or without an outcome; no outcome is read.

*Masked* (a denoising autoencoder): three cells in ten are masked, half of them by Gaussian noise and half as if missing, and a decoder
predicts their values.
*Views* (contrastive): a row with a tenth of its cells resampled from other rows (weak view) and two with six tenths (strong views). Each
strong view must identify the weak view of its own row among those of the batch; the weak view is a target without gradient.

Shapes: b rows of a batch, p encoded columns, s source columns, d number columns.

References
----------
Vincent and others: Stacked denoising autoencoders (2010). Bahri and others: SCARF: self-supervised contrastive learning using random
feature corruption (2022), for the resampled cells. Chen, He: Exploring simple siamese representation learning (2021), for the
stop-gradient. In place of their similarity alone, rows are told apart within the batch, which prevents collapse.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.encoders.aware import AwareEncoder, seeded_init
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout

STEPS, BATCH = 300, 256
MASKED_SHARE = 0.3  # of the cells of a row
WEAK, STRONG = 0.1, 0.6  # shares of resampled cells
_LOGIT_SCALE = 10.0  # inverse temperature of the contrastive loss
_MIN_LOG_DEVIATION, _MAX_LOG_DEVIATION = -4.0, 3.0
_WARMUP_STEPS = 30


def pretrain(encoder: AwareEncoder, x: Tensor, layout: FeatureLayout | None, seed: int, steps: int = STEPS) -> None:
    """Train the encoder in place on rows (n, p) in single precision, by the pretext task of its configuration.

    Raises
    ------
    InputError
        The layout is missing.
    """
    if layout is None:
        raise InputError(f"pretext={encoder.config.pretext!r} needs a layout: which encoded columns belong to one cell")
    torch_rng, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    masked = encoder.config.pretext == "masked"
    with seeded_init(seed):
        pretext_head = CellDecoder(encoder.config.hidden, layout) if masked else _predictor(encoder.config.hidden)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *pretext_head.parameters()], lr=encoder.config.learning_rate, weight_decay=1e-2)
    for step in range(steps):
        for parameters in optimiser.param_groups:
            parameters["lr"] = encoder.config.learning_rate * min(1.0, (step + 1) / _WARMUP_STEPS)
        batch = x[torch.as_tensor(rng.integers(0, len(x), min(BATCH, len(x))))]
        if isinstance(pretext_head, CellDecoder):
            loss = masked_loss(encoder, pretext_head, batch, layout, torch_rng)
        else:
            loss = views_loss(encoder, pretext_head, batch, layout, torch_rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()


def _predictor(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class CellDecoder(nn.Module):
    """Distribution of each cell from hidden units: mean and deviation of a number, probabilities of a category's values."""

    def __init__(self, hidden: int, layout: FeatureLayout) -> None:
        super().__init__()
        self.layout = layout
        self.numbers = nn.Linear(hidden, max(2, 2 * len(layout.numeric)))  # torch warns of layers without units
        self.categories = nn.Linear(hidden, max(1, sum(end - begin for _, begin, end in layout.one_hot)))

    def moments(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers' means and log standard deviations: (b, d), (b, d)."""
        mean, log_deviation = self.numbers(hidden).chunk(2, dim=1)
        return mean, log_deviation.clamp(_MIN_LOG_DEVIATION, _MAX_LOG_DEVIATION)

    def log_probabilities(self, hidden: Tensor) -> list[Tensor]:
        """Return the log-probabilities of the values of each category column, (b, values) each."""
        widths = [end - begin for _, begin, end in self.layout.one_hot]
        return [part.log_softmax(dim=1) for part in self.categories(hidden).split(widths, dim=1)] if widths else []

    def loss(self, hidden: Tensor, x: Tensor) -> Tensor:
        """Return the negative log-likelihood of each cell of x (b, p): nats (b, s); 0 where a column is not decoded or a value unknown."""
        out = torch.zeros((len(x), len(self.layout.columns)), dtype=x.dtype)
        if self.layout.numeric:
            sources, columns = (list(part) for part in zip(*self.layout.numeric, strict=True))
            mean, log_deviation = self.moments(hidden)
            z = (x[:, columns] - mean) / log_deviation.exp()
            out[:, sources] = 0.5 * z**2 + log_deviation + 0.5 * math.log(2 * math.pi)
        for (source, begin, end), log_probability in zip(self.layout.one_hot, self.log_probabilities(hidden), strict=True):
            out[:, source] = -(log_probability * x[:, begin:end]).sum(dim=1)
        return out


def masked_loss(encoder: AwareEncoder, decoder: CellDecoder, x: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Mask cells of rows (b, p), and return the decoder's negative log-likelihood of them: nats a cell, missing cells not counted."""
    masked = torch.rand((len(x), len(layout.columns)), generator=rng) < MASKED_SHARE  # (b, s)
    loss = decoder.loss(encoder.hidden(mask_cells(x, masked, layout, rng), rng), x)
    scored = masked & observed_cells(x, layout)
    return (loss * scored).sum() / scored.sum().clamp(min=1)


def views_loss(encoder: AwareEncoder, predictor: nn.Module, x: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Return the mean cross-entropy of two strong views of each row (b, p) choosing the row's own weak view among the batch's."""
    with torch.no_grad():
        target = encoder(resample_cells(x, WEAK, layout, rng))[0]  # (b, e)
    own = torch.arange(len(x))
    losses = []
    for _ in range(2):
        predicted = F.normalize(predictor(encoder(resample_cells(x, STRONG, layout, rng), rng)[0]), dim=1)
        losses.append(F.cross_entropy(_LOGIT_SCALE * predicted @ target.T, own))
    return torch.stack(losses).mean()


def mask_cells(x: Tensor, cells: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Mask cells (b, s) of rows (b, p), all encoded columns of each: with equal chance by noise or as if missing."""
    source = torch.as_tensor(layout.source)
    noisy = (torch.rand(cells.shape, generator=rng) < 0.5)[:, source]
    noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    absent = torch.as_tensor(layout.missing_value, dtype=x.dtype)
    return torch.where(cells[:, source], torch.where(noisy, noise, absent), x)


def resample_cells(x: Tensor, share: float, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Replace a share of the cells of rows (b, p) by the same column's cells of random rows of the batch."""
    source, (b, s) = torch.as_tensor(layout.source), (len(x), len(layout.columns))
    cells = torch.rand((b, s), generator=rng) < share
    donor = torch.randint(b, (b, s), generator=rng)
    return torch.where(cells[:, source], x.gather(0, donor[:, source]), x)


def observed_cells(x: Tensor, layout: FeatureLayout) -> Tensor:
    """Return the cells of rows (b, p) that have a value, by the missing flags: bool (b, s); without a flag a cell counts as observed."""
    out = torch.ones((len(x), len(layout.columns)), dtype=torch.bool)
    for column in np.flatnonzero(layout.missing_value):
        out[:, layout.source[column]] &= x[:, column] < 0.5
    return out
