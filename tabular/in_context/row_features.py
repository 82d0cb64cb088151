"""What the in-context network reads of a row, in slots that mean the same for every cohort.

Feature slots hold the columns that go with the outcome most, best first, turned so that more means more risk. Expert slots hold the
experts' scores as calibrated log-odds and as the log-odds of their mid-rank, the most reliable expert first. The order, the turning
and the calibration are fitted on stored rows; a row whose own outcome must not be known is read by slots that were fitted without it.

The same functions fill the slots of a hospital's cohort (b = 1) and of the made-up tasks of the training. Only torch and numpy are
imported.

Letters: b tasks, n rows, d columns, m experts, f feature slots, s expert slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FEATURES, EXPERTS = 32, 12
CONSTANTS = 3  # numbers about the cohort that every row carries
_REACH, _KNOTS = 6.0, 97  # log-odds of the outermost rank knots, and how many knots there are
_FAR = 6.0  # standard deviations at which a score or a value is cut off
_NEWTON = 12


@dataclass(frozen=True)
class Rows:
    """Rows as the network reads them.

    Parameters
    ----------
    features : (b, n, 2 f), values then missing flags
    log_odds : (b, n, s), calibrated, of the experts; the base rate's where a slot is empty
    inputs : (b, n, i), everything that a row's token is made of but its outcome
    present : (b, s), bool, which expert slots are filled
    """

    features: Tensor
    log_odds: Tensor
    inputs: Tensor
    present: Tensor

    def take(self, rows: Tensor | slice) -> Rows:
        """Return some rows of every task."""
        return Rows(self.features[:, rows], self.log_odds[:, rows], self.inputs[:, rows], self.present)


@dataclass(frozen=True)
class RowFeaturizer:
    """How slots are filled, fitted on stored rows.

    Parameters
    ----------
    column : (b, f), which column each feature slot shows; -1 for none
    centre, spread : (b, f), of its values; ``spread`` is negative where less means more risk
    expert : (b, s), which expert each slot shows; -1 for none
    middle, scale : (b, s), of its scores
    slope, shift : (b, s), of its calibration
    gain : (b, s), share of the base rate's log-loss that the calibrated expert takes away
    knots : (b, s, 97), quantiles of its scores
    base : (b,), log-odds of the outcome
    constants : (b, 3)
    """

    column: Tensor
    centre: Tensor
    spread: Tensor
    expert: Tensor
    middle: Tensor
    scale: Tensor
    slope: Tensor
    shift: Tensor
    gain: Tensor
    knots: Tensor
    base: Tensor
    constants: Tensor

    def read(self, value: Tensor, score: Tensor) -> Rows:
        """Read rows.

        Parameters
        ----------
        value : (b, n, d), NaN where missing
        score : (b, n, m), higher is more risk
        """
        picked = _pick(value, self.column)  # (b, n, f)
        missing = picked.isnan()
        shown = ((picked - self.centre[:, None]) / self.spread[:, None]).clamp(-_FAR, _FAR).masked_fill(missing, 0.0)
        there = (self.column >= 0)[:, None]
        features = torch.cat([shown * there, (missing & there).to(shown.dtype)], dim=2)

        told = ((_pick(score, self.expert) - self.middle[:, None]) / self.scale[:, None]).clamp(-_FAR, _FAR)  # (b, n, s)
        present = self.expert >= 0  # (b, s)
        log_odds = torch.where(present[:, None], self.slope[:, None] * told + self.shift[:, None], self.base[:, None, None])
        asked = told.transpose(1, 2).contiguous()  # (b, s, n)
        place = torch.searchsorted(self.knots, asked) + torch.searchsorted(self.knots, asked, right=True)
        rank = (place.transpose(1, 2) / (_KNOTS - 1) - 1).clamp(-1, 1) * present[:, None]  # (b, n, s), -1 … 1
        about = torch.cat([self.gain, present.to(rank.dtype), self.constants], dim=1)  # (b, 2 s + 3)
        inputs = torch.cat(
            [features, (log_odds - self.base[:, None, None]) / 3, rank * 2, about[:, None].expand(-1, shown.shape[1], -1)], dim=2
        )
        return Rows(features, log_odds, inputs, present)


INPUTS = 2 * FEATURES + 4 * EXPERTS + CONSTANTS


def fit_row_featurizer(value: Tensor, score: Tensor, there: Tensor, outcome: Tensor) -> RowFeaturizer:
    """Fit slots on stored rows.

    Parameters
    ----------
    value : (b, n, d), columns as numbers, NaN where missing
    score : (b, n, m), the experts' scores of rows that they had not seen
    there : (b, m), bool, which experts the task has
    outcome : (b, n), 0 or 1

    Returns
    -------
    Slots
    """
    y = outcome.to(value.dtype)
    n = y.shape[1]
    rate = ((y.sum(dim=1) + 0.5) / (n + 1)).clamp(1e-6, 1 - 1e-6)  # (b,)
    base = torch.logit(rate)
    column, centre, spread = _fit_columns(value, y)

    middle = score.mean(dim=1)
    scale = score.std(dim=1).clamp(min=1e-6)
    told = ((score - middle[:, None]) / scale[:, None]).clamp(-_FAR, _FAR)  # (b, n, m)
    slope, shift = _platt(told, y, base)
    loss = _loss(slope[:, None] * told + shift[:, None], y[:, :, None]).mean(dim=1)  # (b, m)
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    gain = (1 - loss / entropy[:, None]).clamp(0, 1)
    merit = gain + 1e-6 * _correlation(told, y)  # the useless gain nothing, all alike: let not the order they come in decide
    expert = _best(merit.masked_fill(~there, -1.0), EXPERTS, at_least=-0.5)
    levels = torch.sigmoid(torch.linspace(-_REACH, _REACH, _KNOTS, device=value.device, dtype=value.dtype))
    ordered = _pick(told, expert).sort(dim=1).values.transpose(1, 2)  # (b, s, n)
    knots = ordered[:, :, (levels * (n - 1)).round().long()].contiguous()
    events = y.sum(dim=1)
    constants = torch.stack([base / 3, (events + 1).log() / 4 - 1, math.log10(n) - 3 + torch.zeros_like(base)], dim=1)
    middle, scale, slope, shift, gain = (_pick(item[:, None], expert).squeeze(1) for item in (middle, scale, slope, shift, gain))
    return RowFeaturizer(column, centre, spread, expert, middle, scale.clamp(min=1e-6), slope, shift, gain, knots, base, constants)


def _fit_columns(value: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank the columns by how their value, its distance from the mean or its absence goes with the outcome."""
    missing = value.isnan()
    seen = (~missing).to(value.dtype)
    count = seen.sum(dim=1).clamp(min=1)  # (b, d)
    filled = value.nan_to_num(0.0)
    centre = (filled * seen).sum(dim=1) / count
    away = (filled - centre[:, None]) * seen
    spread = ((away**2).sum(dim=1) / count).sqrt()
    constant = spread < 1e-6 * (1 + centre.abs())
    z = (away / spread.masked_fill(constant, 1.0)[:, None]).clamp(-_FAR, _FAR)
    signed = _correlation(z, y)
    relevance = torch.stack([signed.abs(), 0.7 * _correlation(z.abs(), y).abs(), _correlation(1 - seen, y).abs()]).amax(dim=0)
    relevance = relevance.masked_fill(constant & (missing.all(dim=1) | ~missing.any(dim=1)), -1.0)
    column = _best(relevance, FEATURES, at_least=-0.5)
    turned = torch.where(signed < 0, -1.0, 1.0).to(value.dtype) * spread.masked_fill(constant, 1.0)
    return column, _pick(centre[:, None], column).squeeze(1), _pick(turned[:, None], column).squeeze(1).masked_fill(column < 0, 1.0)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Correlate each column (b, n, d) with y (b, n); 0 where a column is constant."""
    dx, dy = x - x.mean(dim=1, keepdim=True), (y - y.mean(dim=1, keepdim=True))[:, :, None]
    return (dx * dy).sum(dim=1) / ((dx**2).sum(dim=1) * (dy**2).sum(dim=1)).sqrt().clamp(min=1e-6)


def _platt(told: Tensor, y: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Calibrate each expert (b, n, m) by a sigmoid that never falls, with Platt's targets; Newton's method. (b, m), (b, m)."""
    events = y.sum(dim=1, keepdim=True)
    free = y.shape[1] - events
    target = torch.where(y > 0, (events + 1) / (events + 2), 1 / (free + 2))[:, :, None]
    slope = torch.zeros_like(told[:, 0])
    shift = base[:, None].expand_as(slope).clone()
    for _ in range(_NEWTON):
        risk = torch.sigmoid(slope[:, None] * told + shift[:, None])
        error, curve = risk - target, (risk * (1 - risk)).clamp(min=1e-6)
        g0, g1 = error.sum(dim=1), (error * told).sum(dim=1) + 1e-3 * slope
        h00, h01, h11 = curve.sum(dim=1), (curve * told).sum(dim=1), (curve * told**2).sum(dim=1) + 1e-3
        size = (h00 * h11 - h01**2).clamp(min=1e-9)
        shift = shift - ((h11 * g0 - h01 * g1) / size).clamp(-1, 1)
        slope = slope - ((h00 * g1 - h01 * g0) / size).clamp(-1, 1)
    useless = slope <= 0
    return slope.masked_fill(useless, 0.0), torch.where(useless, base[:, None].expand_as(shift), shift)


def _loss(log_odds: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.softplus(log_odds) - y * log_odds


def _best(merit: Tensor, most: int, at_least: float) -> Tensor:
    """Return the places of the best, best first (b, most); -1 where there are no more. Equal merit: the earlier place first."""
    order = merit.argsort(dim=1, descending=True, stable=True)[:, :most]
    order = torch.where(merit.gather(1, order) >= at_least, order, -1)
    return torch.nn.functional.pad(order, (0, most - order.shape[1]), value=-1)


def _pick(x: Tensor, place: Tensor) -> Tensor:
    """Return columns (b, n, d) by place (b, f); 0 where the place is -1."""
    if x.shape[2] == 0:
        return x.new_zeros(x.shape[0], x.shape[1], place.shape[1])
    index = place.clamp(min=0)[:, None].expand(-1, x.shape[1], -1)
    return x.gather(2, index).masked_fill((place < 0)[:, None], 0.0)
