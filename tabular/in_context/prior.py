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


class Dice:
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


def draw_tables(family: str, tasks: int, rows: int, columns: int, dice: Dice) -> Tables:
    """Draw tasks of one family.

    Parameters
    ----------
    family : one of ``FAMILIES``
    tasks, rows, columns : int, b, n, d
    dice : Dice

    Returns
    -------
    Tables on the dice's device; the same seed draws the same tables on the same device
    """
    makers = {"dag": _dag, "layers": _layers, "ehr": _ehr}
    if family in makers:
        shown, signal = makers[family](tasks, rows, columns, dice)
        value, category, _ = _marginals(shown, dice)
    else:
        value, category, effect = _marginals(_correlated(tasks, rows, columns, dice), dice)
        signal = {"additive": _additive, "trees": _trees, "rules": _rules}[family](effect, dice)
    outcome, risk = _outcomes(_standard(signal), dice)
    return Tables(family, _holes(value, _standard(signal), dice), category, outcome, _standard(signal), risk)


# ---- columns --------------------------------------------------------------------------------------------------------------------


def _correlated(b: int, n: int, d: int, dice: Dice) -> Tensor:
    """Gaussian columns that share a few factors."""
    f = 4
    loading = dice.normal(b, f, d) * dice.happens(0.4, b, f, d) * dice.uniform(b, 1, 1, high=1.5)
    return _standard(dice.normal(b, n, f) @ loading + dice.normal(b, n, d))


def _marginals(shown: Tensor, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    """Give standard columns (b, n, d) a marginal each.

    Returns what a table shows, which columns are categories (their levels in an order that means nothing), and what a level or
    value does (the same column for a number, a random effect for a level), standardised.
    """
    b, _, d = shown.shape
    kind = torch.bucketize(
        dice.uniform(b, 1, d) * dice.uniform(b, 1, 1, low=0.6, high=1.4), torch.tensor([0.45, 0.65, 0.8, 0.92], device=dice.device)
    )
    share = torch.special.ndtr(shown)
    grid = dice.log_uniform(b, 1, d, low=2, high=12).floor()
    count = dice.log_uniform(b, 1, d, low=3, high=_LEVELS).floor()
    level = (share ** dice.uniform(b, 1, d, low=0.4, high=2.5) * count).floor().clamp(max=_LEVELS - 1)
    rare = (share > dice.log_uniform(b, 1, d, low=0.5, high=0.98)).to(shown.dtype)
    value = torch.where(kind == 0, shown, shown)
    value = torch.where(kind == 1, (shown * dice.uniform(b, 1, d, low=0.5, high=1.2)).exp(), value)  # a lab
    value = torch.where(kind == 2, (share * grid).floor(), value)  # a score of few points
    value = torch.where(kind == 3, rare, value)  # a flag
    value = torch.where(kind == 4, level, value)
    effect_of = dice.normal(b, d, _LEVELS)
    effect = torch.gather(effect_of, 2, level.long().transpose(1, 2)).transpose(1, 2)  # (b, n, d)
    acts = torch.where(kind == 4, effect, torch.where(kind == 1, shown, value))
    return value, (kind == 4).squeeze(1), _standard(acts)


def _holes(value: Tensor, signal: Tensor, dice: Dice) -> Tensor:
    """Make holes in two tables of five, in some columns; in half of these, more of them where the value or the risk is high."""
    b, n, d = value.shape
    rate = dice.uniform(b, 1, d, high=0.6) * dice.happens(0.5, b, 1, d) * dice.happens(0.4, b, 1, 1)
    lean = dice.normal(b, 1, d) * dice.happens(0.5, b, 1, 1)
    cause = torch.where(dice.happens(0.5, b, 1, d), _standard(value), signal[:, :, None])
    chance = rate * 2 * torch.sigmoid(lean * cause)
    return value.masked_fill(dice.happens(chance, b, n, d), torch.nan)


# ---- signals ----------------------------------------------------------------------------------------------------------------------


def _dag(b: int, n: int, d: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """A random directed graph of 24 nodes; columns are nodes seen through noise, the signal is a late node not among them."""
    nodes = 24
    weight = dice.normal(b, nodes, nodes) * dice.happens(dice.log_uniform(b, 1, 1, low=0.06, high=0.5), b, nodes, nodes)
    made: list[Tensor] = []
    for j in range(nodes):
        own = dice.normal(b, n)
        if j:
            parents = torch.stack(made, dim=2)  # (b, n, j)
            heard = _bent(parents @ weight[:, :j, j : j + 1], dice).squeeze(2)
            own = _standard(heard) + own * dice.uniform(b, 1, low=0.2, high=1.0)
        made.append(_standard(own))
    everything = torch.stack(made, dim=2)  # (b, n, nodes)
    pick = dice.below(nodes - 1, b, d)
    seen = torch.gather(everything, 2, pick[:, None, :].expand(b, n, d))
    return _standard(seen + dice.normal(b, n, d) * dice.uniform(b, 1, d, high=0.8)), everything[:, :, -1]


def _layers(b: int, n: int, d: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """A random network of three layers; columns are units of any layer, the signal a unit of the last."""
    wide = 24
    state = dice.normal(b, n, 8) * dice.uniform(b, 1, 8, low=0.3, high=2.0)
    seen = [state]
    for _ in range(3):
        keep = dice.happens(0.5, b, state.shape[2], wide)
        state = _standard(_bent(_standard(state @ (dice.normal(b, state.shape[2], wide) * keep)), dice) + 0.15 * dice.normal(b, n, wide))
        seen.append(state)
    units = torch.cat(seen, dim=2)  # (b, n, 80), the last unit is the signal
    pick = dice.below(units.shape[2] - 1, b, d)
    shown = torch.gather(units, 2, pick[:, None, :].expand(b, n, d))
    return _standard(shown + dice.normal(b, n, d) * dice.uniform(b, 1, d, high=0.6)), units[:, :, -1]


def _ehr(b: int, n: int, d: int, dice: Dice) -> tuple[Tensor, Tensor]:
    """Latent diseases; codes when they are present, labs that they shift, sites that measure differently."""
    f = 6
    burden = dice.normal(b, n, 1)  # frailty: diseases come together
    ill = (dice.normal(b, n, f) + 0.7 * burden > dice.uniform(b, 1, f, low=0.3, high=2.2)).float() * (1 + dice.normal(b, n, f).abs())
    site = dice.below(4, b, n)
    loading = dice.normal(b, f, d) * dice.happens(0.25, b, f, d)
    lab = ill @ loading + 0.4 * burden * dice.normal(b, 1, d) * dice.happens(0.3, b, 1, d)
    shift = dice.normal(b, 4, d) * dice.uniform(b, 1, 1, high=0.6)
    lab = lab + torch.gather(shift, 1, site[:, :, None].expand(b, n, d)) + dice.normal(b, n, d) * dice.uniform(b, 1, d, low=0.3, high=1.5)
    code = torch.where(dice.happens(torch.sigmoid(2 * (lab - dice.uniform(b, 1, d, low=0.5, high=3.0))), b, n, d), 1.5, -0.3)
    shown = torch.where(dice.happens(dice.uniform(b, 1, 1), b, 1, d), code + 0.01 * dice.normal(b, n, d), lab)
    harm = dice.normal(b, f, 1).abs() * dice.happens(0.6, b, f, 1)
    pair = ill[:, :, :1] * ill[:, :, 1:2] * dice.normal(b, 1, 1)  # two diseases that are worse together
    return _standard(shown), (ill @ harm + pair + 0.5 * burden).squeeze(2) + 0.2 * dice.normal(b, n)


def _additive(x: Tensor, dice: Dice) -> Tensor:
    """A few columns, each bent in its way, and a few products."""
    b, n, d = x.shape
    weight = dice.normal(b, 1, d) * dice.happens(dice.uniform(b, 1, 1, low=0.05, high=0.7), b, 1, d)
    weight[:, 0, 0] = dice.normal(b)  # never quite nothing
    pairs = max(1, d // 3)
    product = x.gather(2, dice.below(d, b, 1, pairs).expand(b, n, pairs)) * x.gather(2, dice.below(d, b, 1, pairs).expand(b, n, pairs))
    heard = (product * dice.normal(b, 1, pairs) * dice.happens(0.4, b, 1, pairs)).sum(dim=2)
    return (_bent(x, dice) * weight).sum(dim=2) + heard * dice.uniform(b, 1, high=1.0) * dice.happens(0.6, b, 1)


def _trees(x: Tensor, dice: Dice) -> Tensor:
    """A forest of oblivious trees on few columns."""
    b, n, d = x.shape
    t, depth = int(2 ** dice.uniform(1, high=5).item()), 2 + int(dice.below(3, 1).item())
    relevant = dice.below(d, b, max(2, round(d**0.7)))
    asked = relevant.gather(1, dice.below(relevant.shape[1], b, t * depth))  # (b, t * depth)
    answer = x.gather(2, asked[:, None, :].expand(b, n, t * depth)) > dice.normal(b, 1, t * depth)
    power = 2 ** torch.arange(depth, device=dice.device)
    leaf = (answer.view(b, n, t, depth) * power).sum(dim=3)  # (b, n, t)
    worth = dice.normal(b, t, 2**depth)
    return worth.gather(2, leaf.transpose(1, 2)).sum(dim=1)


def _rules(x: Tensor, dice: Dice) -> Tensor:
    """Parity of two to four signs, a lookup of two columns cut in four, or a conjunction; beside a weak linear part."""
    b, n, d = x.shape
    order = 2 + int(dice.below(3, 1).item())
    sign = torch.sign(x.gather(2, dice.below(d, b, 1, order).expand(b, n, order)) - 0.3 * dice.normal(b, 1, order))
    two = x.gather(2, dice.below(d, b, 1, 2).expand(b, n, 2))
    cell = torch.bucketize(two, torch.tensor([-0.7, 0.0, 0.7], device=dice.device))  # (b, n, 2)
    lookup = dice.normal(b, 16).gather(1, cell[:, :, 0] * 4 + cell[:, :, 1])
    both = (sign > 0).all(dim=2).float()
    which = dice.below(3, b, 1)
    rule = torch.where(which == 0, sign.prod(dim=2), torch.where(which == 1, lookup, 2 * both))
    linear = (x * dice.normal(b, 1, d) * dice.happens(0.3, b, 1, d)).sum(dim=2)
    return _standard(rule) + _standard(linear) * dice.uniform(b, 1, high=0.8)


# ---- outcomes ---------------------------------------------------------------------------------------------------------------------


def _outcomes(signal: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Draw outcomes of a prevalence in [.005, .5], of signals weak to strong, with some mistaken labels."""
    b, n = signal.shape
    prevalence = dice.log_uniform(b, 1, low=max(_PREVALENCE[0], min(0.3, 1.5 * _FEWEST_EVENTS / n)), high=_PREVALENCE[1])
    slope = dice.log_uniform(b, 1, low=0.4, high=6.0)
    low, high = torch.full_like(prevalence, -40.0), torch.full_like(prevalence, 40.0)
    for _ in range(24):  # the intercept that gives this prevalence
        middle = (low + high) / 2
        above = torch.sigmoid(slope * signal + middle).mean(dim=1, keepdim=True) > prevalence
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    risk = torch.sigmoid(slope * signal + low)
    lost = dice.uniform(b, 1, high=0.2) * dice.happens(0.3, b, 1)  # events that nobody wrote down
    false = dice.uniform(b, 1, high=0.05) * dice.happens(0.15, b, 1) * prevalence
    risk = risk * (1 - lost) + (1 - risk) * false
    outcome = dice.happens(risk, b, n)
    short = outcome.sum(dim=1, keepdim=True) < _FEWEST_EVENTS  # then those next in line have it too
    next_in_line = (risk + outcome).argsort(dim=1, descending=True).argsort(dim=1) < _FEWEST_EVENTS
    return (outcome | (short & next_in_line)).long(), risk


def _bent(x: Tensor, dice: Dice) -> Tensor:
    """Bend each column (the last axis) in one of six ways."""
    way = dice.below(6, x.shape[0], 1, x.shape[2])
    edge = dice.normal(x.shape[0], 1, x.shape[2])
    out = torch.where(way == 1, torch.tanh(2 * (x - edge)), x)
    out = torch.where(way == 2, (x - edge).abs(), out)
    out = torch.where(way == 3, (x > edge).to(x.dtype), out)
    out = torch.where(way == 4, torch.sin(2 * x), out)
    return torch.where(way == 5, torch.relu(x - edge), out)


def _standard(x: Tensor) -> Tensor:
    """Standardise over rows (axis 1)."""
    return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True).clamp(min=1e-6)
