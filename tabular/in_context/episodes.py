"""From a made-up table to what the network would be served of it: experts that had not seen a row, slots, and a retrieved context.

Trained as it is used: ridge and kernel experts answer leave-one-out on the stored rows, other experts are imitated (what they know of
the signal, what they get wrong smoothly, what is noise; useless ones, and in a third of the tasks one that is nearly right), slots are
fitted on the stored rows, and each query's context is what a noisy supervised metric finds, with and without a class floor.

Letters: b tasks, n stored rows, q query rows, N = n + q, d columns, m experts, k context rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearward.tabular.in_context.prior import Tables, TaskRng
from nearward.tabular.in_context.row_features import Rows, fit_row_featurizer

_SIMULATED = 8
_RIDGES = (1e-2, 1.0)
_KERNEL_ROWS = 30  # a kernel is as wide as this many neighbours
_FLOOR_ROWS, _FLOOR_SHARE = 8, 0.05  # as retrieval's class floor


@dataclass(frozen=True)
class Near:
    """Who is in each query's context, among n stored rows.

    Parameters
    ----------
    apart : (b, q, n), squared distance, 1 at the mean of the query's nearest rows
    inside : (b, q, n), bool, in the context
    floored : (b, q, n), bool, there only because of the class floor
    """

    apart: Tensor
    inside: Tensor
    floored: Tensor


@dataclass(frozen=True)
class Episode:
    """What the network is asked, and what is so.

    Parameters
    ----------
    stored, query : Rows of n and of q
    known : (b, n), outcome of the stored rows
    near : Near
    outcome : (b, q), of the queries
    entropy : (b,), nats a query costs who knows the prevalence alone
    """

    stored: Rows
    query: Rows
    known: Tensor
    near: Near
    outcome: Tensor
    entropy: Tensor


def prepare(tables: Tables, stored: int, neighbours: int, rng: TaskRng) -> Episode:
    """Play a fit and a prediction through: the first ``stored`` rows of each table are the cohort, the others are asked about.

    Parameters
    ----------
    tables : Tables
    stored : int, n
    neighbours : int, k, before the class floor
    rng : Dice
    """
    y = tables.outcome[:, :stored]
    value = _level_rates(tables, stored)
    plain = _plain(value, stored)
    guess = _imitated(tables.signal, plain, rng, 1, rng.log_uniform(len(y), 1, low=0.2, high=2.0))[:, :, 0]
    metric = _metric(plain, guess, rng)
    score = torch.cat(
        [
            *(_ridge(plain, y, strength) for strength in _RIDGES),
            _kernel(plain, y),
            _kernel(metric, y),
            guess[:, :, None],
            _panel(tables.signal, plain, rng),
        ],
        dim=2,
    )
    there = _there(score, rng)
    slots = fit_row_featurizer(value[:, :stored], score[:, :stored], there, y)
    rows = slots.read(value, score)
    rate = y.float().mean(dim=1).clamp(0.01 / stored, 1 - 0.01 / stored)
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    asked = slice(stored, None)
    near = find(metric[:, asked], metric[:, :stored], y, neighbours, rng.happens(0.85, len(y), 1, 1))
    return Episode(rows.take(slice(0, stored)), rows.take(asked), y, near, tables.outcome[:, asked], entropy)


def find(query: Tensor, stored: Tensor, y: Tensor, neighbours: int, floor: Tensor) -> Near:
    """Find the k nearest rows, and where ``floor`` (b, 1, 1) says so the nearest events beside them.

    Parameters
    ----------
    query : (b, q, e)
    stored : (b, n, e)
    y : (b, n)
    neighbours : int, k
    floor : (b, 1, 1), bool
    """
    squared = _squared(query, stored)  # (b, q, n)
    k = min(neighbours, stored.shape[1])
    reach = squared.topk(k, dim=2, largest=False).values
    inside = squared <= reach[:, :, -1:]
    event = (y > 0)[:, None, :]
    count = min(int(max(_FLOOR_ROWS, _FLOOR_SHARE * k)), stored.shape[1])
    furthest = squared.masked_fill(~event, torch.inf).topk(count, dim=2, largest=False).values[:, :, -1:]
    floored = event & (squared <= furthest) & ~inside & floor & squared.isfinite()
    return Near(squared / reach.mean(dim=2, keepdim=True).clamp(min=1e-9), inside | floored, floored)


# ---- what rows look like to experts -----------------------------------------------------------------------------------------------


def _level_rates(tables: Tables, stored: int, smoothing: float = 20.0) -> Tensor:
    """Turn categories into the log-odds of the outcome at their level, each stored row's own outcome left out. (b, N, d)."""
    if not tables.category.any():
        return tables.value
    level = tables.value.nan_to_num(0.0).long()  # (b, N, d)
    level = torch.where(tables.category[:, None], level, 0)
    y = tables.outcome.float()
    y = torch.cat([y[:, :stored], torch.zeros_like(y[:, stored:])], dim=1)
    counts = torch.zeros_like(y)
    counts[:, :stored] = 1
    b, rows, d = level.shape
    size = int(level.max()) + 1
    table = torch.zeros(2, b, size, d, device=y.device)
    table[0].scatter_add_(1, level, counts[:, :, None].expand(b, rows, d))
    table[1].scatter_add_(1, level, y[:, :, None].expand(b, rows, d))
    overall = (y.sum(dim=1) / stored).clamp(min=1e-3)[:, None, None]
    n = table[0].gather(1, level) - counts[:, :, None]
    events = table[1].gather(1, level) - y[:, :, None]
    rate = torch.logit(((events + smoothing * overall) / (n + smoothing)).clamp(1e-4, 1 - 1e-4))
    return torch.where(tables.category[:, None] & ~tables.value.isnan(), rate, tables.value)


def _plain(value: Tensor, stored: int) -> Tensor:
    """Standardise on the stored rows; 0 where missing. (b, N, d)."""
    seen = (~value.isnan()).float()[:, :stored]
    filled = value.nan_to_num(0.0)
    count = seen.sum(dim=1, keepdim=True).clamp(min=1)
    centre = (filled[:, :stored] * seen).sum(dim=1, keepdim=True) / count
    spread = (((filled[:, :stored] - centre) * seen) ** 2).sum(dim=1, keepdim=True).div(count).sqrt()
    return ((filled - centre) / spread.clamp(min=1e-6)).clamp(-6, 6).masked_fill(value.isnan(), 0.0)


def _metric(plain: Tensor, guess: Tensor, rng: TaskRng) -> Tensor:
    """Return places whose distances a supervised encoder might give: weighed columns, and its own idea of the risk. (b, N, e)."""
    b, rows, d = plain.shape
    weight = rng.log_uniform(b, 1, d, low=0.1, high=3.0) / d**0.5
    learned = rng.log_uniform(b, 1, 1, low=0.1, high=4.0) * rng.happens(0.8, b, 1, 1)
    return torch.cat([plain * weight, guess[:, :, None] * learned, 0.02 * rng.normal(b, rows, 1)], dim=2)


# ---- experts ----------------------------------------------------------------------------------------------------------------------


def _ridge(plain: Tensor, y: Tensor, strength: float) -> Tensor:
    """Ridge discriminant, leave-one-out for the stored rows by the hat matrix. (b, N, 1)."""
    n = y.shape[1]
    x = torch.cat([torch.ones_like(plain[:, :, :1]), plain], dim=2)
    penalty = torch.full((x.shape[2],), strength * n, device=x.device)
    penalty[0] = 1e-4
    seen = x[:, :n]
    inverse = torch.linalg.inv(seen.transpose(1, 2) @ seen + torch.diag(penalty))
    weight = inverse @ (seen.transpose(1, 2) @ y.float()[:, :, None])
    fitted = x @ weight  # (b, N, 1)
    own = ((seen @ inverse) * seen).sum(dim=2)
    out_of_fold = y - (y - fitted[:, :n, 0]) / (1 - own).clamp(min=0.05)
    return torch.cat([out_of_fold[:, :, None], fitted[:, n:]], dim=1)


def _kernel(place: Tensor, y: Tensor) -> Tensor:
    """Log-odds of the share of events around each row, the row itself left out. (b, N, 1)."""
    n = y.shape[1]
    squared = _squared(place, place[:, :n])  # (b, N, n)
    squared[:, :n].diagonal(dim1=1, dim2=2).fill_(torch.inf)
    sample = squared[:, :, ::4]  # a quarter of the rows tells how far neighbours are
    width = sample.topk(max(1, _KERNEL_ROWS // 4), dim=2, largest=False).values[:, :, -1:].clamp(min=1e-9)
    mass = torch.exp(-2 * squared / width) + 1e-9
    return torch.logit(((mass @ y.float()[:, :, None]) / mass.sum(dim=2, keepdim=True)).clamp(1e-3, 1 - 1e-3))


def _imitated(signal: Tensor, plain: Tensor, rng: TaskRng, count: int, error: Tensor) -> Tensor:
    """Scores that know the signal up to an error of some size (b, count), part smooth in the columns, part noise. (b, N, count)."""
    b, rows, d = plain.shape
    smooth = torch.tanh(plain @ (rng.normal(b, d, count) * (2 / d) ** 0.5) + rng.normal(b, 1, count)) * 1.5
    own = rng.uniform(b, 1, count, high=1.0)
    wrong = smooth * own + rng.normal(b, rows, count) * (1 - own**2).sqrt()
    return signal[:, :, None] + wrong * error[:, None]


def _panel(signal: Tensor, plain: Tensor, rng: TaskRng) -> Tensor:
    """Imitate experts: kin of a few families that err alike, some useless, in a third of the tasks one that is nearly right. (b, N, m)."""
    b = len(signal)
    usual = rng.log_uniform(b, 1, low=0.3, high=2.5)  # how hard this task is for everybody
    error = usual * rng.log_uniform(b, _SIMULATED, low=0.6, high=1.8)
    best = rng.happens(1 / 3, b, 1) & (torch.arange(_SIMULATED, device=signal.device) == 0)
    error = torch.where(best, error * rng.uniform(b, 1, low=0.15, high=0.5), error)
    score = _imitated(signal, plain, rng, _SIMULATED, error)
    kin = rng.below(3, b, _SIMULATED)
    alike = _imitated(torch.zeros_like(signal), plain, rng, 3, torch.ones_like(usual).expand(b, 3))  # (b, N, 3)
    shared = alike.gather(2, kin[:, None].expand(-1, signal.shape[1], -1))
    score = score + shared * (usual * rng.uniform(b, 1, high=1.2))[:, None] * ~best[:, None]
    useless = rng.happens(0.15, b, 1, _SIMULATED)
    score = torch.where(useless, score - signal[:, :, None], score)
    return score.sign() * score.abs() ** rng.uniform(b, 1, _SIMULATED, low=0.7, high=1.3)


def _there(score: Tensor, rng: TaskRng) -> Tensor:
    """Choose which experts a task has; in one of twelve it has none. (b, m)."""
    b, _, m = score.shape
    return rng.happens(rng.uniform(b, 1, low=0.2, high=1.0), b, m) & ~rng.happens(1 / 12, b, 1)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of rows (t, i, e) and (t, j, e): (t, i, j)."""
    cross = torch.baddbmm((b**2).sum(dim=2)[:, None], a, b.transpose(1, 2), alpha=-2)
    return (cross + (a**2).sum(dim=2)[:, :, None]).clamp_(min=0)
