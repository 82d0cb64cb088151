"""Made-up clinics: the tasks that the in-context model is trained on. No patient was ever in one.

A task is a table with an outcome. Six families make the tables and the logits: a random directed graph (``dag``), a random layered
network (``layers``), additive effects with interactions (``additive``), oblivious trees (``trees``), rules (``rules``: parity, lookups,
conjunctions) and sick people (``ehr``: latent diseases drive sparse codes and log-normal labs, sites shift, tests are ordered when they are
needed). All are then given marginals, levels, holes and an outcome of some prevalence in the same way. Everything is vectorised over
tasks and runs where the generator's device is.

Letters: b tasks, n rows of a table, d columns, f latent factors, l levels of a category, t trees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FAMILIES = ("dag", "layers", "additive", "trees", "rules", "ehr")

_LEVELS = 64  # of a category, at most
_FEWEST_EVENTS = 8
_PREVALENCE = (0.005, 0.5)


class TaskRng:
    """Everything random about tasks: shapes in, tensors on one device out.

    Parameters
    ----------
    seed : int
    device : torch device
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return uniform numbers in [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self._generator, device=self.device)

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Return numbers whose logarithm is uniform."""
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def below(self, most: int, *shape: int) -> Tensor:
        """Return whole numbers 0 … most - 1."""
        return torch.randint(most, shape, generator=self._generator, device=self.device)

    def happens(self, chance: float | Tensor, *shape: int) -> Tensor:
        """Return booleans, True with probability ``chance``."""
        return self.uniform(*shape) < chance


@dataclass(frozen=True)
class Tables:
    """Tasks of one family and one shape.

    Parameters
    ----------
    family : str
    value : (b, n, d), columns as numbers; NaN where missing; a category's level number
    category : (b, d), bool, whether a column is a category
    outcome : (b, n), 0 or 1
    signal : (b, n), standardised: what is to be known about each row's log-odds
    risk : (b, n), the true probability
    """

    family: str
    value: Tensor
    category: Tensor
    outcome: Tensor
    signal: Tensor
    risk: Tensor


def draw_tables(family: str, tasks: int, rows: int, columns: int, rng: TaskRng) -> Tables:
    """Draw tasks of one family.

    Parameters
    ----------
    family : one of ``FAMILIES``
    tasks, rows, columns : int, b, n, d
    rng : Dice

    Returns
    -------
    Tables on the dice's device; the same seed draws the same tables on the same device
    """
    makers = {"dag": _dag, "layers": _layers, "ehr": _ehr}
    if family in makers:
        shown, signal = makers[family](tasks, rows, columns, rng)
        value, category, _ = _marginals(shown, rng)
    else:
        value, category, effect = _marginals(_correlated(tasks, rows, columns, rng), rng)
        signal = {"additive": _additive, "trees": _trees, "rules": _rules}[family](effect, rng)
    outcome, risk = _outcomes(_standard(signal), rng)
    return Tables(family, _holes(value, _standard(signal), rng), category, outcome, _standard(signal), risk)


# ---- columns --------------------------------------------------------------------------------------------------------------------


def _correlated(b: int, n: int, d: int, rng: TaskRng) -> Tensor:
    """Gaussian columns that share a few factors."""
    f = 4
    loading = rng.normal(b, f, d) * rng.happens(0.4, b, f, d) * rng.uniform(b, 1, 1, high=1.5)
    return _standard(rng.normal(b, n, f) @ loading + rng.normal(b, n, d))


def _marginals(shown: Tensor, rng: TaskRng) -> tuple[Tensor, Tensor, Tensor]:
    """Give standard columns (b, n, d) a marginal each.

    Returns what a table shows, which columns are categories (their levels in an order that means nothing), and what a level or
    value does (the same column for a number, a random effect for a level), standardised.
    """
    b, _, d = shown.shape
    kind = torch.bucketize(
        rng.uniform(b, 1, d) * rng.uniform(b, 1, 1, low=0.6, high=1.4), torch.tensor([0.45, 0.65, 0.8, 0.92], device=rng.device)
    )
    share = torch.special.ndtr(shown)
    grid = rng.log_uniform(b, 1, d, low=2, high=12).floor()
    count = rng.log_uniform(b, 1, d, low=3, high=_LEVELS).floor()
    level = (share ** rng.uniform(b, 1, d, low=0.4, high=2.5) * count).floor().clamp(max=_LEVELS - 1)
    rare = (share > rng.log_uniform(b, 1, d, low=0.5, high=0.98)).to(shown.dtype)
    value = torch.where(kind == 0, shown, shown)
    value = torch.where(kind == 1, (shown * rng.uniform(b, 1, d, low=0.5, high=1.2)).exp(), value)  # a lab
    value = torch.where(kind == 2, (share * grid).floor(), value)  # a score of few points
    value = torch.where(kind == 3, rare, value)  # a flag
    value = torch.where(kind == 4, level, value)
    effect_of = rng.normal(b, d, _LEVELS)
    effect = torch.gather(effect_of, 2, level.long().transpose(1, 2)).transpose(1, 2)  # (b, n, d)
    acts = torch.where(kind == 4, effect, torch.where(kind == 1, shown, value))
    return value, (kind == 4).squeeze(1), _standard(acts)


def _holes(value: Tensor, signal: Tensor, rng: TaskRng) -> Tensor:
    """Make holes in two tables of five, in some columns; in half of these, more of them where the value or the risk is high."""
    b, n, d = value.shape
    rate = rng.uniform(b, 1, d, high=0.6) * rng.happens(0.5, b, 1, d) * rng.happens(0.4, b, 1, 1)
    lean = rng.normal(b, 1, d) * rng.happens(0.5, b, 1, 1)
    cause = torch.where(rng.happens(0.5, b, 1, d), _standard(value), signal[:, :, None])
    chance = rate * 2 * torch.sigmoid(lean * cause)
    return value.masked_fill(rng.happens(chance, b, n, d), torch.nan)


# ---- signals ----------------------------------------------------------------------------------------------------------------------


def _dag(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """A random directed graph of 24 nodes; columns are nodes seen through noise, the signal is a late node not among them."""
    nodes = 24
    weight = rng.normal(b, nodes, nodes) * rng.happens(rng.log_uniform(b, 1, 1, low=0.06, high=0.5), b, nodes, nodes)
    made: list[Tensor] = []
    for j in range(nodes):
        own = rng.normal(b, n)
        if j:
            parents = torch.stack(made, dim=2)  # (b, n, j)
            heard = _bent(parents @ weight[:, :j, j : j + 1], rng).squeeze(2)
            own = _standard(heard) + own * rng.uniform(b, 1, low=0.2, high=1.0)
        made.append(_standard(own))
    everything = torch.stack(made, dim=2)  # (b, n, nodes)
    pick = rng.below(nodes - 1, b, d)
    seen = torch.gather(everything, 2, pick[:, None, :].expand(b, n, d))
    return _standard(seen + rng.normal(b, n, d) * rng.uniform(b, 1, d, high=0.8)), everything[:, :, -1]


def _layers(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """A random network of three layers; columns are units of any layer, the signal a unit of the last."""
    wide = 24
    state = rng.normal(b, n, 8) * rng.uniform(b, 1, 8, low=0.3, high=2.0)
    seen = [state]
    for _ in range(3):
        keep = rng.happens(0.5, b, state.shape[2], wide)
        state = _standard(_bent(_standard(state @ (rng.normal(b, state.shape[2], wide) * keep)), rng) + 0.15 * rng.normal(b, n, wide))
        seen.append(state)
    units = torch.cat(seen, dim=2)  # (b, n, 80), the last unit is the signal
    pick = rng.below(units.shape[2] - 1, b, d)
    shown = torch.gather(units, 2, pick[:, None, :].expand(b, n, d))
    return _standard(shown + rng.normal(b, n, d) * rng.uniform(b, 1, d, high=0.6)), units[:, :, -1]


def _ehr(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """Latent diseases; codes when they are present, labs that they shift, sites that measure differently."""
    f = 6
    burden = rng.normal(b, n, 1)  # frailty: diseases come together
    ill = (rng.normal(b, n, f) + 0.7 * burden > rng.uniform(b, 1, f, low=0.3, high=2.2)).float() * (1 + rng.normal(b, n, f).abs())
    site = rng.below(4, b, n)
    loading = rng.normal(b, f, d) * rng.happens(0.25, b, f, d)
    lab = ill @ loading + 0.4 * burden * rng.normal(b, 1, d) * rng.happens(0.3, b, 1, d)
    shift = rng.normal(b, 4, d) * rng.uniform(b, 1, 1, high=0.6)
    lab = lab + torch.gather(shift, 1, site[:, :, None].expand(b, n, d)) + rng.normal(b, n, d) * rng.uniform(b, 1, d, low=0.3, high=1.5)
    code = torch.where(rng.happens(torch.sigmoid(2 * (lab - rng.uniform(b, 1, d, low=0.5, high=3.0))), b, n, d), 1.5, -0.3)
    shown = torch.where(rng.happens(rng.uniform(b, 1, 1), b, 1, d), code + 0.01 * rng.normal(b, n, d), lab)
    harm = rng.normal(b, f, 1).abs() * rng.happens(0.6, b, f, 1)
    pair = ill[:, :, :1] * ill[:, :, 1:2] * rng.normal(b, 1, 1)  # two diseases that are worse together
    return _standard(shown), (ill @ harm + pair + 0.5 * burden).squeeze(2) + 0.2 * rng.normal(b, n)


def _additive(x: Tensor, rng: TaskRng) -> Tensor:
    """A few columns, each bent in its way, and a few products."""
    b, n, d = x.shape
    weight = rng.normal(b, 1, d) * rng.happens(rng.uniform(b, 1, 1, low=0.05, high=0.7), b, 1, d)
    weight[:, 0, 0] = rng.normal(b)  # never quite nothing
    pairs = max(1, d // 3)
    product = x.gather(2, rng.below(d, b, 1, pairs).expand(b, n, pairs)) * x.gather(2, rng.below(d, b, 1, pairs).expand(b, n, pairs))
    heard = (product * rng.normal(b, 1, pairs) * rng.happens(0.4, b, 1, pairs)).sum(dim=2)
    return (_bent(x, rng) * weight).sum(dim=2) + heard * rng.uniform(b, 1, high=1.0) * rng.happens(0.6, b, 1)


def _trees(x: Tensor, rng: TaskRng) -> Tensor:
    """A forest of oblivious trees on few columns."""
    b, n, d = x.shape
    t, depth = int(2 ** rng.uniform(1, high=5).item()), 2 + int(rng.below(3, 1).item())
    relevant = rng.below(d, b, max(2, round(d**0.7)))
    asked = relevant.gather(1, rng.below(relevant.shape[1], b, t * depth))  # (b, t * depth)
    answer = x.gather(2, asked[:, None, :].expand(b, n, t * depth)) > rng.normal(b, 1, t * depth)
    power = 2 ** torch.arange(depth, device=rng.device)
    leaf = (answer.view(b, n, t, depth) * power).sum(dim=3)  # (b, n, t)
    worth = rng.normal(b, t, 2**depth)
    return worth.gather(2, leaf.transpose(1, 2)).sum(dim=1)


def _rules(x: Tensor, rng: TaskRng) -> Tensor:
    """Parity of two to four signs, a lookup of two columns cut in four, or a conjunction; beside a weak linear part."""
    b, n, d = x.shape
    order = 2 + int(rng.below(3, 1).item())
    sign = torch.sign(x.gather(2, rng.below(d, b, 1, order).expand(b, n, order)) - 0.3 * rng.normal(b, 1, order))
    two = x.gather(2, rng.below(d, b, 1, 2).expand(b, n, 2))
    cell = torch.bucketize(two, torch.tensor([-0.7, 0.0, 0.7], device=rng.device))  # (b, n, 2)
    lookup = rng.normal(b, 16).gather(1, cell[:, :, 0] * 4 + cell[:, :, 1])
    both = (sign > 0).all(dim=2).float()
    which = rng.below(3, b, 1)
    rule = torch.where(which == 0, sign.prod(dim=2), torch.where(which == 1, lookup, 2 * both))
    linear = (x * rng.normal(b, 1, d) * rng.happens(0.3, b, 1, d)).sum(dim=2)
    return _standard(rule) + _standard(linear) * rng.uniform(b, 1, high=0.8)


# ---- outcomes ---------------------------------------------------------------------------------------------------------------------


def _outcomes(signal: Tensor, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """Draw outcomes of a prevalence in [.005, .5], of signals weak to strong, with some mistaken labels."""
    b, n = signal.shape
    prevalence = rng.log_uniform(b, 1, low=max(_PREVALENCE[0], min(0.3, 1.5 * _FEWEST_EVENTS / n)), high=_PREVALENCE[1])
    slope = rng.log_uniform(b, 1, low=0.4, high=6.0)
    low, high = torch.full_like(prevalence, -40.0), torch.full_like(prevalence, 40.0)
    for _ in range(24):  # the intercept that gives this prevalence
        middle = (low + high) / 2
        above = torch.sigmoid(slope * signal + middle).mean(dim=1, keepdim=True) > prevalence
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    risk = torch.sigmoid(slope * signal + low)
    lost = rng.uniform(b, 1, high=0.2) * rng.happens(0.3, b, 1)  # events that nobody wrote down
    false = rng.uniform(b, 1, high=0.05) * rng.happens(0.15, b, 1) * prevalence
    risk = risk * (1 - lost) + (1 - risk) * false
    outcome = rng.happens(risk, b, n)
    short = outcome.sum(dim=1, keepdim=True) < _FEWEST_EVENTS  # then those next in line have it too
    next_in_line = (risk + outcome).argsort(dim=1, descending=True).argsort(dim=1) < _FEWEST_EVENTS
    return (outcome | (short & next_in_line)).long(), risk


def _bent(x: Tensor, rng: TaskRng) -> Tensor:
    """Bend each column (the last axis) in one of six ways."""
    way = rng.below(6, x.shape[0], 1, x.shape[2])
    edge = rng.normal(x.shape[0], 1, x.shape[2])
    out = torch.where(way == 1, torch.tanh(2 * (x - edge)), x)
    out = torch.where(way == 2, (x - edge).abs(), out)
    out = torch.where(way == 3, (x > edge).to(x.dtype), out)
    out = torch.where(way == 4, torch.sin(2 * x), out)
    return torch.where(way == 5, torch.relu(x - edge), out)


def _standard(x: Tensor) -> Tensor:
    """Standardise over rows (axis 1)."""
    return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True).clamp(min=1e-6)
