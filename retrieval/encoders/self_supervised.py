"""What an encoder can learn from rows whose outcome nobody knows, before it is trained on those whose outcome is known.

*Masked*: three cells in ten are hidden, half of them behind Gaussian noise and half as if missing, and a decoder says what they were.
*Views*: a row with a tenth of its cells resampled from other rows (weak) and two with six tenths (strong). Each strong view must find
the weak view of its own row among those of the batch; the weak view is only a target, no gradient flows into it. Neither reads an outcome.

Letters: b rows of a batch, p encoded columns, s source columns, d number columns, e embedding width.

References
----------
Vincent and others: Stacked denoising autoencoders (2010). Bahri and others: SCARF: self-supervised contrastive learning using random
feature corruption (2022), whose resampled cells these are. Chen, He: Exploring simple siamese representation learning (2021) for the
stop-gradient; telling rows apart within the batch, in place of their likeness alone, is what keeps ours from placing all rows alike.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearward.retrieval.encoders.aware import AwareEncoder, first_weights
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats

STEPS, BATCH = 300, 256
HIDDEN_SHARE = 0.3  # of the cells of a row
WEAK, STRONG = 0.1, 0.6  # shares of resampled cells
_SHARPNESS = 10.0  # of the choice among weak views
_CALMEST = -4.0  # log of the least standard deviation that the decoder may claim


class CellDecoder(nn.Module):
    """From hidden units to what each cell holds: mean and spread of a number, a share for each level of a category."""

    def __init__(self, hidden: int, layout: FeatureLayout) -> None:
        super().__init__()
        self.layout = layout
        self.numbers = nn.Linear(hidden, max(2, 2 * len(layout.value)))  # torch warns of layers without units
        self.levels = nn.Linear(hidden, max(1, sum(end - begin for _, begin, end in layout.levels)))

    def spread(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers' means and the logs of their standard deviations: (b, d), (b, d)."""
        mean, log_deviation = self.numbers(hidden).chunk(2, dim=1)
        return mean, log_deviation.clamp(_CALMEST, 3.0)

    def shares(self, hidden: Tensor) -> list[Tensor]:
        """Return log-shares of the levels of each category column: (b, levels) each."""
        wide = [end - begin for _, begin, end in self.layout.levels]
        return [part.log_softmax(dim=1) for part in self.levels(hidden).split(wide, dim=1)] if wide else []

    def loss(self, hidden: Tensor, x: Tensor) -> Tensor:
        """Return how unlikely each cell of x (b, p) is: nats (b, s); 0 for columns that are not decoded, and for unknown levels."""
        out = torch.zeros((len(x), len(self.layout.names)), dtype=x.dtype)
        if self.layout.value:
            sources, places = (list(part) for part in zip(*self.layout.value, strict=True))
            mean, log_deviation = self.spread(hidden)
            away = (x[:, places] - mean) / log_deviation.exp()
            out[:, sources] = 0.5 * away**2 + log_deviation + 0.5 * math.log(2 * math.pi)
        for (source, begin, end), share in zip(self.layout.levels, self.shares(hidden), strict=True):
            out[:, source] = -(share * x[:, begin:end]).sum(dim=1)
        return out


def warm_up(encoder: AwareEncoder, x: Floats, layout: FeatureLayout | None, seed: int, steps: int = STEPS) -> None:
    """Train the encoder in place on rows (n, p) by the pretext that its configuration names, for so many steps.

    Raises
    ------
    InputError
        There is no layout: nobody knows which columns are one cell.
    """
    if layout is None:
        raise InputError("a pretext hides cells, and needs the layout that says which encoded columns are one cell")
    rng, draw = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    rows = torch.as_tensor(x, dtype=torch.float32)
    masked = encoder.config.pretext == "masked"
    with first_weights(seed):
        helper = CellDecoder(encoder.config.hidden, layout) if masked else _predictor(encoder.config.width)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *helper.parameters()], lr=encoder.config.learning_rate, weight_decay=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = encoder.config.learning_rate * min(1.0, (step + 1) / 30)
        batch = rows[torch.as_tensor(draw.integers(0, len(rows), min(BATCH, len(rows))))]
        if isinstance(helper, CellDecoder):
            loss = masked_loss(encoder, helper, batch, layout, rng)
        else:
            loss = views_loss(encoder, helper, batch, layout, rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()


def _predictor(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


def masked_loss(encoder: AwareEncoder, decoder: CellDecoder, x: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Hide cells of rows (b, p), and return how unlikely the decoder found them: nats a cell, missing cells not counted."""
    cells = torch.rand((len(x), len(layout.names)), generator=rng) < HIDDEN_SHARE  # (b, s)
    lost = decoder.loss(encoder.hidden(hide(x, cells, layout, rng), rng), x)
    asked = cells & present(x, layout)
    return (lost * asked).sum() / asked.sum().clamp(min=1)


def views_loss(encoder: AwareEncoder, predictor: nn.Module, x: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Return the mean cross-entropy of two strong views of each row (b, p) choosing the row's own weak view among the batch's."""
    with torch.no_grad():
        target = encoder(resample(x, WEAK, layout, rng))[0]  # (b, e)
    own = torch.arange(len(x))
    losses = []
    for _ in range(2):
        told = F.normalize(predictor(encoder(resample(x, STRONG, layout, rng), rng)[0]), dim=1)
        losses.append(F.cross_entropy(_SHARPNESS * told @ target.T, own))
    return torch.stack(losses).mean()


def hide(x: Tensor, cells: Tensor, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Hide cells (b, s) of rows (b, p), all that the encoding makes of each: by a coin behind noise, or as if missing."""
    source = torch.as_tensor(layout.source)
    noisy = (torch.rand(cells.shape, generator=rng) < 0.5)[:, source]
    noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    absent = torch.as_tensor(layout.absent, dtype=x.dtype)
    return torch.where(cells[:, source], torch.where(noisy, noise, absent), x)


def resample(x: Tensor, share: float, layout: FeatureLayout, rng: torch.Generator) -> Tensor:
    """Replace a share of the cells of rows (b, p) by the same column's cells of random rows of the batch."""
    source, (b, s) = torch.as_tensor(layout.source), (len(x), len(layout.names))
    cells = torch.rand((b, s), generator=rng) < share
    donor = torch.randint(b, (b, s), generator=rng)
    return torch.where(cells[:, source], x.gather(0, donor[:, source]), x)


def present(x: Tensor, layout: FeatureLayout) -> Tensor:
    """Say which cells of rows (b, p) have a value, as far as missing flags tell: (b, s)."""
    out = torch.ones((len(x), len(layout.names)), dtype=torch.bool)
    for place in np.flatnonzero(layout.absent):
        out[:, layout.source[place]] &= x[:, place] < 0.5
    return out
