"""Input features of the in-context network, in slots that mean the same for every cohort.

Feature slots hold the columns most associated with the outcome, strongest first, with the sign such that more means more risk. Expert slots
hold the experts' scores as calibrated log-odds and as the log-odds of their rank, the most reliable expert first. Order, sign and
calibration are fitted on stored rows. A row whose own outcome must stay unknown is transformed by a featurizer fitted without it.

The same functions serve a hospital's cohort (b = 1) and the synthetic tasks of pretraining. Only torch and numpy are imported.

Shapes: b tasks, n rows, d columns, m experts, f feature slots, s expert slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FEATURES, EXPERTS = 32, 12
CONSTANTS = 3  # numbers about the cohort, the same for every row
INPUTS = 2 * FEATURES + 4 * EXPERTS + CONSTANTS
_MAX_LOG_ODDS, _QUANTILES = 6.0, 97  # quantile levels are equidistant in log-odds between these bounds
_MAX_Z = 6.0  # standard deviations at which a score or a value is clipped
_NEWTON_STEPS = 12


@dataclass(frozen=True)
class RowFeatures:
    """Rows as the network's input.

    Parameters
    ----------
    features : (b, n, 2 f), values, then missing indicators
    log_odds : (b, n, s), the experts' calibrated log-odds; the base rate's where a slot is empty
    inputs : (b, n, i), all inputs of a row's token except its outcome
    present : (b, s), bool, which expert slots are filled
    """

    features: Tensor
    log_odds: Tensor
    inputs: Tensor
    present: Tensor

    def take(self, rows: Tensor | slice) -> RowFeatures:
        """Return some rows of every task."""
        return RowFeatures(self.features[:, rows], self.log_odds[:, rows], self.inputs[:, rows], self.present)


@dataclass(frozen=True)
class RowFeaturizer:
    """Column and expert selection, scaling and calibration, fitted on stored rows.

    Parameters
    ----------
    column : (b, f), column index of each feature slot; -1 for an empty slot
    mean, signed_std : (b, f), of the column's values; ``signed_std`` is negative where less means more risk
    expert : (b, s), expert index of each expert slot; -1 for an empty slot
    score_mean, score_std : (b, s), of the expert's scores
    slope, intercept : (b, s), of the expert's calibration
    pseudo_r2 : (b, s), share of the base rate's log-loss that the calibrated expert removes (McFadden's)
    quantiles : (b, s, 97), of the standardised scores
    base : (b,), log-odds of the outcome
    constants : (b, 3)
    """

    column: Tensor
    mean: Tensor
    signed_std: Tensor
    expert: Tensor
    score_mean: Tensor
    score_std: Tensor
    slope: Tensor
    intercept: Tensor
    pseudo_r2: Tensor
    quantiles: Tensor
    base: Tensor
    constants: Tensor

    def transform(self, value: Tensor, score: Tensor) -> RowFeatures:
        """Fill the slots of rows.

        Parameters
        ----------
        value : (b, n, d), NaN where missing
        score : (b, n, m), higher is more risk
        """
        selected = _select(value, self.column)  # (b, n, f)
        missing, filled = selected.isnan(), (self.column >= 0)[:, None]
        z = ((selected - self.mean[:, None]) / self.signed_std[:, None]).clamp(-_MAX_Z, _MAX_Z).masked_fill(missing, 0.0)
        features = torch.cat([z * filled, (missing & filled).to(z.dtype)], dim=2)

        z_score = ((_select(score, self.expert) - self.score_mean[:, None]) / self.score_std[:, None]).clamp(-_MAX_Z, _MAX_Z)  # (b, n, s)
        present = self.expert >= 0  # (b, s)
        log_odds = torch.where(present[:, None], self.slope[:, None] * z_score + self.intercept[:, None], self.base[:, None, None])
        by_expert = z_score.transpose(1, 2).contiguous()  # (b, s, n)
        index = torch.searchsorted(self.quantiles, by_expert) + torch.searchsorted(self.quantiles, by_expert, right=True)
        rank = (index.transpose(1, 2) / (_QUANTILES - 1) - 1).clamp(-1, 1) * present[:, None]  # (b, n, s), -1 … 1
        cohort = torch.cat([self.pseudo_r2, present.to(rank.dtype), self.constants], dim=1)  # (b, 2 s + 3)
        inputs = torch.cat(
            [features, (log_odds - self.base[:, None, None]) / 3, rank * 2, cohort[:, None].expand(-1, z.shape[1], -1)], dim=2
        )
        return RowFeatures(features, log_odds, inputs, present)


def fit_row_featurizer(value: Tensor, score: Tensor, present: Tensor, outcome: Tensor) -> RowFeaturizer:
    """Fit a featurizer on stored rows.

    Parameters
    ----------
    value : (b, n, d), columns as numbers, NaN where missing
    score : (b, n, m), the experts' out-of-fold scores
    present : (b, m), bool, the experts of each task
    outcome : (b, n), 0 or 1
    """
    y = outcome.to(value.dtype)
    n = y.shape[1]
    rate = ((y.sum(dim=1) + 0.5) / (n + 1)).clamp(1e-6, 1 - 1e-6)  # (b,)
    base = torch.logit(rate)
    column, mean, signed_std = _fit_columns(value, y)

    score_mean = score.mean(dim=1)
    score_std = score.std(dim=1).clamp(min=1e-6)
    z = ((score - score_mean[:, None]) / score_std[:, None]).clamp(-_MAX_Z, _MAX_Z)  # (b, n, m)
    slope, intercept = _platt(z, y, base)
    log_odds = slope[:, None] * z + intercept[:, None]
    loss = (F.softplus(log_odds) - y[:, :, None] * log_odds).mean(dim=1)  # log-loss, (b, m)
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    pseudo_r2 = (1 - loss / entropy[:, None]).clamp(0, 1)
    merit = pseudo_r2 + 1e-6 * _correlation(z, y)  # breaks the ties of useless experts, whose order must not matter
    expert = _top(merit.masked_fill(~present, -1.0), EXPERTS, minimum=-0.5)
    levels = torch.sigmoid(torch.linspace(-_MAX_LOG_ODDS, _MAX_LOG_ODDS, _QUANTILES, device=value.device, dtype=value.dtype))
    ordered = _select(z, expert).sort(dim=1).values.transpose(1, 2)  # (b, s, n)
    quantiles = ordered[:, :, (levels * (n - 1)).round().long()].contiguous()
    constants = torch.stack([base / 3, (y.sum(dim=1) + 1).log() / 4 - 1, math.log10(n) - 3 + torch.zeros_like(base)], dim=1)
    score_mean, score_std, slope, intercept, pseudo_r2 = (
        _select(statistic[:, None], expert).squeeze(1) for statistic in (score_mean, score_std, slope, intercept, pseudo_r2)
    )
    score_std = score_std.clamp(min=1e-6)
    return RowFeaturizer(column, mean, signed_std, expert, score_mean, score_std, slope, intercept, pseudo_r2, quantiles, base, constants)


def _fit_columns(value: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank columns by the correlation of their value, its distance from the mean or its absence with the outcome."""
    missing = value.isnan()
    observed = (~missing).to(value.dtype)
    count = observed.sum(dim=1).clamp(min=1)  # (b, d)
    mean = (value.nan_to_num(0.0) * observed).sum(dim=1) / count
    deviation = (value.nan_to_num(0.0) - mean[:, None]) * observed
    std = ((deviation**2).sum(dim=1) / count).sqrt()
    constant = std < 1e-6 * (1 + mean.abs())
    z = (deviation / std.masked_fill(constant, 1.0)[:, None]).clamp(-_MAX_Z, _MAX_Z)
    signed = _correlation(z, y)
    relevance = torch.stack([signed.abs(), 0.7 * _correlation(z.abs(), y).abs(), _correlation(1 - observed, y).abs()]).amax(dim=0)
    relevance = relevance.masked_fill(constant & (missing.all(dim=1) | ~missing.any(dim=1)), -1.0)
    column = _top(relevance, FEATURES, minimum=-0.5)
    signed_std = torch.where(signed < 0, -1.0, 1.0).to(value.dtype) * std.masked_fill(constant, 1.0)
    return column, _select(mean[:, None], column).squeeze(1), _select(signed_std[:, None], column).squeeze(1).masked_fill(column < 0, 1.0)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Correlate each column (b, n, d) with y (b, n); 0 where a column is constant."""
    dx, dy = x - x.mean(dim=1, keepdim=True), (y - y.mean(dim=1, keepdim=True))[:, :, None]
    return (dx * dy).sum(dim=1) / ((dx**2).sum(dim=1) * (dy**2).sum(dim=1)).sqrt().clamp(min=1e-6)


def _platt(z: Tensor, y: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Platt-calibrate each expert (b, n, m) by Newton's method; slopes below 0 become 0. Slope and intercept, each (b, m)."""
    positives = y.sum(dim=1, keepdim=True)
    negatives = y.shape[1] - positives
    target = torch.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))[:, :, None]
    slope = torch.zeros_like(z[:, 0])
    intercept = base[:, None].expand_as(slope).clone()
    for _ in range(_NEWTON_STEPS):
        risk = torch.sigmoid(slope[:, None] * z + intercept[:, None])
        error, curvature = risk - target, (risk * (1 - risk)).clamp(min=1e-6)
        g0, g1 = error.sum(dim=1), (error * z).sum(dim=1) + 1e-3 * slope
        h00, h01, h11 = curvature.sum(dim=1), (curvature * z).sum(dim=1), (curvature * z**2).sum(dim=1) + 1e-3
        determinant = (h00 * h11 - h01**2).clamp(min=1e-9)
        intercept = intercept - ((h11 * g0 - h01 * g1) / determinant).clamp(-1, 1)
        slope = slope - ((h00 * g1 - h01 * g0) / determinant).clamp(-1, 1)
    useless = slope <= 0
    return slope.masked_fill(useless, 0.0), torch.where(useless, base[:, None].expand_as(intercept), intercept)


def _top(merit: Tensor, count: int, minimum: float) -> Tensor:
    """Return the indices of the highest, highest first (b, count), -1 where fewer reach ``minimum``; ties in the order of the index."""
    order = merit.argsort(dim=1, descending=True, stable=True)[:, :count]
    order = torch.where(merit.gather(1, order) >= minimum, order, -1)
    return F.pad(order, (0, count - order.shape[1]), value=-1)


def _select(x: Tensor, index: Tensor) -> Tensor:
    """Return columns (b, n, d) by index (b, f); 0 where the index is -1."""
    if x.shape[2] == 0:
        return x.new_zeros(x.shape[0], x.shape[1], index.shape[1])
    column = index.clamp(min=0)[:, None].expand(-1, x.shape[1], -1)
    return x.gather(2, column).masked_fill((index < 0)[:, None], 0.0)
