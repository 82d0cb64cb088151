"""Training episodes from synthetic tables: out-of-fold expert scores, row features and retrieved contexts, as in a fitted model.

Pretraining resembles use. Ridge and kernel experts score the stored rows leave-one-out. Further experts are simulated: part signal, part
error that is smooth in the columns, part noise; some are useless, and in a third of the tasks one is nearly right. The row featurizer is
fitted on the stored rows, and each query's context is retrieved by a noisy supervised metric, with and without a class floor.

Shapes: b tasks, n stored rows, q query rows, N = n + q, d columns, m experts, e embedding width, k context rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearward.tabular.in_context.prior import Tables, TaskRng
from nearward.tabular.in_context.row_features import RowFeatures, fit_row_featurizer

_SIMULATED = 8
_RIDGES = (1e-2, 1.0)
_KERNEL_ROWS = 30  # neighbours within a kernel's bandwidth
_FLOOR_ROWS, _FLOOR_SHARE = 8, 0.05  # as retrieval's class floor


@dataclass(frozen=True)
class Neighbors:
    """Contexts of queries, as masks over n stored rows.

    Parameters
    ----------
    sq_distance : (b, q, n), squared distance, scaled to mean 1 over the query's nearest rows
    mask : (b, q, n), bool, rows in the context
    floored : (b, q, n), bool, rows retrieved by the class floor alone
    """

    sq_distance: Tensor
    mask: Tensor
    floored: Tensor


@dataclass(frozen=True)
class Episode:
    """Inputs and targets of one training step.

    Parameters
    ----------
    stored, query : RowFeatures of n and of q rows
    stored_outcome : (b, n)
    neighbors : Neighbors
    query_outcome : (b, q)
    entropy : (b,), log-loss of the base rate, nats
    """

    stored: RowFeatures
    query: RowFeatures
    stored_outcome: Tensor
    neighbors: Neighbors
    query_outcome: Tensor
    entropy: Tensor


def make_episode(tables: Tables, stored: int, neighbors: int, rng: TaskRng) -> Episode:
    """Simulate a fit on the first n rows (``stored``) of each table and a prediction of the others from k neighbours and a class floor."""
    y = tables.outcome[:, :stored]
    value = _target_encoded(tables, stored)
    z = _standardized(value, stored)
    encoder_score = _simulated_scores(tables.signal, z, rng, 1, rng.log_uniform(len(y), 1, low=0.2, high=2.0))[:, :, 0]
    embedding = _supervised_embedding(z, encoder_score, rng)
    score = torch.cat(
        [
            *(_ridge(z, y, strength) for strength in _RIDGES),
            _kernel(z, y),
            _kernel(embedding, y),
            encoder_score[:, :, None],
            _simulated_experts(tables.signal, z, rng),
        ],
        dim=2,
    )
    present = _present_experts(score, rng)
    featurizer = fit_row_featurizer(value[:, :stored], score[:, :stored], present, y)
    rows = featurizer.transform(value, score)
    rate = y.float().mean(dim=1).clamp(0.01 / stored, 1 - 0.01 / stored)
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    queries = slice(stored, None)
    retrieved = find_neighbors(embedding[:, queries], embedding[:, :stored], y, neighbors, rng.happens(0.85, len(y), 1, 1))
    return Episode(rows.take(slice(0, stored)), rows.take(queries), y, retrieved, tables.outcome[:, queries], entropy)


def find_neighbors(query: Tensor, stored: Tensor, y: Tensor, neighbors: int, floor: Tensor) -> Neighbors:
    """Find the k nearest of stored rows (b, n, e) to queries (b, q, e) and, where ``floor`` (b, 1, 1) is True, further nearest events."""
    sq_distance = _sq_distance(query, stored)  # (b, q, n)
    k = min(neighbors, stored.shape[1])
    nearest = sq_distance.topk(k, dim=2, largest=False).values
    mask = sq_distance <= nearest[:, :, -1:]
    event = (y > 0)[:, None, :]
    count = min(int(max(_FLOOR_ROWS, _FLOOR_SHARE * k)), stored.shape[1])
    floor_radius = sq_distance.masked_fill(~event, torch.inf).topk(count, dim=2, largest=False).values[:, :, -1:]
    floored = event & (sq_distance <= floor_radius) & ~mask & floor & sq_distance.isfinite()
    return Neighbors(sq_distance / nearest.mean(dim=2, keepdim=True).clamp(min=1e-9), mask | floored, floored)


# ---- encodings --------------------------------------------------------------------------------------------------------------------


def _target_encoded(tables: Tables, stored: int, smoothing: float = 20.0) -> Tensor:
    """Encode categories as the smoothed log-odds of the outcome, leave-one-out for stored rows. (b, N, d)."""
    if not tables.category.any():
        return tables.value
    level = tables.value.nan_to_num(0.0).long()  # (b, N, d)
    level = torch.where(tables.category[:, None], level, 0)
    y = tables.outcome.float()
    y = torch.cat([y[:, :stored], torch.zeros_like(y[:, stored:])], dim=1)
    is_stored = torch.zeros_like(y)
    is_stored[:, :stored] = 1
    b, rows, d = level.shape
    counts = torch.zeros(2, b, int(level.max()) + 1, d, device=y.device)  # rows and events of each level
    counts[0].scatter_add_(1, level, is_stored[:, :, None].expand(b, rows, d))
    counts[1].scatter_add_(1, level, y[:, :, None].expand(b, rows, d))
    base_rate = (y.sum(dim=1) / stored).clamp(min=1e-3)[:, None, None]
    n = counts[0].gather(1, level) - is_stored[:, :, None]
    events = counts[1].gather(1, level) - y[:, :, None]
    rate = torch.logit(((events + smoothing * base_rate) / (n + smoothing)).clamp(1e-4, 1 - 1e-4))
    return torch.where(tables.category[:, None] & ~tables.value.isnan(), rate, tables.value)


def _standardized(value: Tensor, stored: int) -> Tensor:
    """Standardise by mean and standard deviation of the stored rows; 0 where missing. (b, N, d)."""
    observed = (~value.isnan()).float()[:, :stored]
    filled = value.nan_to_num(0.0)
    count = observed.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (filled[:, :stored] * observed).sum(dim=1, keepdim=True) / count
    std = (((filled[:, :stored] - mean) * observed) ** 2).sum(dim=1, keepdim=True).div(count).sqrt()
    return ((filled - mean) / std.clamp(min=1e-6)).clamp(-6, 6).masked_fill(value.isnan(), 0.0)


def _supervised_embedding(z: Tensor, score: Tensor, rng: TaskRng) -> Tensor:
    """Imitate a supervised encoder's embedding: weighted columns, its own risk score, a little noise. (b, N, e)."""
    b, rows, d = z.shape
    weight = rng.log_uniform(b, 1, d, low=0.1, high=3.0) / d**0.5
    score_weight = rng.log_uniform(b, 1, 1, low=0.1, high=4.0) * rng.happens(0.8, b, 1, 1)
    return torch.cat([z * weight, score[:, :, None] * score_weight, 0.02 * rng.normal(b, rows, 1)], dim=2)


# ---- experts ----------------------------------------------------------------------------------------------------------------------


def _ridge(z: Tensor, y: Tensor, strength: float) -> Tensor:
    """Ridge regression, leave-one-out for the stored rows by the hat matrix. (b, N, 1)."""
    n = y.shape[1]
    x = torch.cat([torch.ones_like(z[:, :, :1]), z], dim=2)
    penalty = torch.full((x.shape[2],), strength * n, device=x.device)
    penalty[0] = 1e-4
    stored = x[:, :n]
    inverse = torch.linalg.inv(stored.transpose(1, 2) @ stored + torch.diag(penalty))
    coefficients = inverse @ (stored.transpose(1, 2) @ y.float()[:, :, None])
    fitted = x @ coefficients  # (b, N, 1)
    leverage = ((stored @ inverse) * stored).sum(dim=2)
    out_of_fold = y - (y - fitted[:, :n, 0]) / (1 - leverage).clamp(min=0.05)
    return torch.cat([out_of_fold[:, :, None], fitted[:, n:]], dim=1)


def _kernel(embedding: Tensor, y: Tensor) -> Tensor:
    """Log-odds of a Gaussian kernel regression, leave-one-out for the stored rows. (b, N, 1)."""
    n = y.shape[1]
    sq_distance = _sq_distance(embedding, embedding[:, :n])  # (b, N, n)
    sq_distance[:, :n].diagonal(dim1=1, dim2=2).fill_(torch.inf)
    sample = sq_distance[:, :, ::4]  # a quarter of the rows is enough to choose the bandwidth
    bandwidth = sample.topk(max(1, _KERNEL_ROWS // 4), dim=2, largest=False).values[:, :, -1:].clamp(min=1e-9)
    kernel = torch.exp(-2 * sq_distance / bandwidth) + 1e-9
    return torch.logit(((kernel @ y.float()[:, :, None]) / kernel.sum(dim=2, keepdim=True)).clamp(1e-3, 1 - 1e-3))


def _simulated_scores(signal: Tensor, z: Tensor, rng: TaskRng, count: int, error: Tensor) -> Tensor:
    """Add an error of some size (b, count) to the signal, partly smooth in the columns and partly noise. (b, N, count)."""
    b, rows, d = z.shape
    smooth = torch.tanh(z @ (rng.normal(b, d, count) * (2 / d) ** 0.5) + rng.normal(b, 1, count)) * 1.5
    smooth_share = rng.uniform(b, 1, count, high=1.0)
    noise = smooth * smooth_share + rng.normal(b, rows, count) * (1 - smooth_share**2).sqrt()
    return signal[:, :, None] + noise * error[:, None]


def _simulated_experts(signal: Tensor, z: Tensor, rng: TaskRng) -> Tensor:
    """Simulate experts: three families with correlated errors, some useless, in a third of the tasks one nearly right. (b, N, m)."""
    b = len(signal)
    difficulty = rng.log_uniform(b, 1, low=0.3, high=2.5)  # of the task, for all experts
    error = difficulty * rng.log_uniform(b, _SIMULATED, low=0.6, high=1.8)
    best = rng.happens(1 / 3, b, 1) & (torch.arange(_SIMULATED, device=signal.device) == 0)
    error = torch.where(best, error * rng.uniform(b, 1, low=0.15, high=0.5), error)
    score = _simulated_scores(signal, z, rng, _SIMULATED, error)
    family = rng.below(3, b, _SIMULATED)
    family_error = _simulated_scores(torch.zeros_like(signal), z, rng, 3, torch.ones_like(difficulty).expand(b, 3))  # (b, N, 3)
    shared = family_error.gather(2, family[:, None].expand(-1, signal.shape[1], -1))
    score = score + shared * (difficulty * rng.uniform(b, 1, high=1.2))[:, None] * ~best[:, None]
    useless = rng.happens(0.15, b, 1, _SIMULATED)
    score = torch.where(useless, score - signal[:, :, None], score)
    return score.sign() * score.abs() ** rng.uniform(b, 1, _SIMULATED, low=0.7, high=1.3)


def _present_experts(score: Tensor, rng: TaskRng) -> Tensor:
    """Choose the experts of each task; one task in twelve has none. (b, m)."""
    b, _, m = score.shape
    return rng.happens(rng.uniform(b, 1, low=0.2, high=1.0), b, m) & ~rng.happens(1 / 12, b, 1)


def _sq_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of rows (t, i, e) and (t, j, e): (t, i, j)."""
    cross = torch.baddbmm((b**2).sum(dim=2)[:, None], a, b.transpose(1, 2), alpha=-2)
    return (cross + (a**2).sum(dim=2)[:, :, None]).clamp_(min=0)
