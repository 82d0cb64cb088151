"""Prior over synthetic tabular tasks, on which the in-context network is pretrained. No patient data.

A task is a table with an outcome. Six families generate tables and logits: a random directed graph (``dag``), a random layered network
(``layers``), additive effects with interactions (``additive``), oblivious trees (``trees``), rules (``rules``: parity, lookups,
conjunctions) and electronic health records (``ehr``: latent diseases drive sparse codes and log-normal labs, with shifts between sites).
Marginals, categories, missing values and an outcome of some prevalence are then added in the same way to all. Everything is vectorised
over tasks and runs on the generator's device.

Shapes: b tasks, n rows of a table, d columns, f latent factors, l levels of a category, t trees.
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
    """Random numbers as tensors on one device.

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
        """Return log-uniform numbers."""
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def below(self, high: int, *shape: int) -> Tensor:
        """Return integers in [0, high)."""
        return torch.randint(high, shape, generator=self._generator, device=self.device)

    def happens(self, probability: float | Tensor, *shape: int) -> Tensor:
        """Return Bernoulli draws, bool."""
        return self.uniform(*shape) < probability


@dataclass(frozen=True)
class Tables:
    """Tasks of one family and one shape.

    Parameters
    ----------
    family : str
    value : (b, n, d), columns as numbers, categories by level number; NaN where missing
    category : (b, d), bool, whether a column is categorical
    outcome : (b, n), 0 or 1
    signal : (b, n), standardised log-odds, without label noise
    risk : (b, n), true probability
    """

    family: str
    value: Tensor
    category: Tensor
    outcome: Tensor
    signal: Tensor
    risk: Tensor


def sample_tables(family: str, tasks: int, rows: int, columns: int, rng: TaskRng) -> Tables:
    """Sample tasks (b) of one of the ``FAMILIES``; the same seed gives the same tables on the same device."""
    generators = {"dag": _dag, "layers": _layers, "ehr": _ehr}
    if family in generators:
        columns_z, signal = generators[family](tasks, rows, columns, rng)
        value, category, _ = _marginals(columns_z, rng)
    else:
        value, category, effect = _marginals(_correlated(tasks, rows, columns, rng), rng)
        signal = {"additive": _additive, "trees": _trees, "rules": _rules}[family](effect, rng)
    signal = _standardize(signal)
    outcome, risk = _outcomes(signal, rng)
    return Tables(family, _with_missing(value, signal, rng), category, outcome, signal, risk)


# ---- columns --------------------------------------------------------------------------------------------------------------------


def _correlated(b: int, n: int, d: int, rng: TaskRng) -> Tensor:
    """Gaussian columns with a few common factors."""
    f = 4
    loading = rng.normal(b, f, d) * rng.happens(0.4, b, f, d) * rng.uniform(b, 1, 1, high=1.5)
    return _standardize(rng.normal(b, n, f) @ loading + rng.normal(b, n, d))


def _marginals(z: Tensor, rng: TaskRng) -> tuple[Tensor, Tensor, Tensor]:
    """Transform standardised columns (b, n, d) to other marginals.

    Returns the table's values, which columns are categorical (their levels unordered), and the standardised effects: the value of a
    number, a random effect of a level.
    """
    b, _, d = z.shape
    kind = torch.bucketize(
        rng.uniform(b, 1, d) * rng.uniform(b, 1, 1, low=0.6, high=1.4), torch.tensor([0.45, 0.65, 0.8, 0.92], device=rng.device)
    )
    rank = torch.special.ndtr(z)
    points = rng.log_uniform(b, 1, d, low=2, high=12).floor()
    count = rng.log_uniform(b, 1, d, low=3, high=_LEVELS).floor()
    level = (rank ** rng.uniform(b, 1, d, low=0.4, high=2.5) * count).floor().clamp(max=_LEVELS - 1)
    flag = (rank > rng.log_uniform(b, 1, d, low=0.5, high=0.98)).to(z.dtype)
    value = torch.where(kind == 1, (z * rng.uniform(b, 1, d, low=0.5, high=1.2)).exp(), z)  # a log-normal lab
    value = torch.where(kind == 2, (rank * points).floor(), value)  # a score of few points
    value = torch.where(kind == 3, flag, value)
    value = torch.where(kind == 4, level, value)
    level_effect = rng.normal(b, d, _LEVELS)
    effect = torch.gather(level_effect, 2, level.long().transpose(1, 2)).transpose(1, 2)  # (b, n, d)
    effect = torch.where(kind == 4, effect, torch.where(kind == 1, z, value))
    return value, (kind == 4).squeeze(1), _standardize(effect)


def _with_missing(value: Tensor, signal: Tensor, rng: TaskRng) -> Tensor:
    """Remove values in two tables of five, in some columns; in half of these more often where the value or the risk is high (or low)."""
    b, n, d = value.shape
    rate = rng.uniform(b, 1, d, high=0.6) * rng.happens(0.5, b, 1, d) * rng.happens(0.4, b, 1, 1)
    slope = rng.normal(b, 1, d) * rng.happens(0.5, b, 1, 1)
    cause = torch.where(rng.happens(0.5, b, 1, d), _standardize(value), signal[:, :, None])
    probability = rate * 2 * torch.sigmoid(slope * cause)
    return value.masked_fill(rng.happens(probability, b, n, d), torch.nan)


# ---- signals ----------------------------------------------------------------------------------------------------------------------


def _dag(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """A random directed graph of 24 nodes; columns are noisy nodes, the signal is the last node, which is no column."""
    nodes = 24
    weight = rng.normal(b, nodes, nodes) * rng.happens(rng.log_uniform(b, 1, 1, low=0.06, high=0.5), b, nodes, nodes)
    values: list[Tensor] = []
    for j in range(nodes):
        value = rng.normal(b, n)
        if j:
            parents = torch.stack(values, dim=2)  # (b, n, j)
            effect = _nonlinear(parents @ weight[:, :j, j : j + 1], rng).squeeze(2)
            value = _standardize(effect) + value * rng.uniform(b, 1, low=0.2, high=1.0)
        values.append(_standardize(value))
    graph = torch.stack(values, dim=2)  # (b, n, nodes)
    column = rng.below(nodes - 1, b, d)
    observed = torch.gather(graph, 2, column[:, None, :].expand(b, n, d))
    return _standardize(observed + rng.normal(b, n, d) * rng.uniform(b, 1, d, high=0.8)), graph[:, :, -1]


def _layers(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """A random network of three layers; columns are noisy units of any layer, the signal is the last unit."""
    width = 24
    hidden = rng.normal(b, n, 8) * rng.uniform(b, 1, 8, low=0.3, high=2.0)
    layers = [hidden]
    for _ in range(3):
        connected = rng.happens(0.5, b, hidden.shape[2], width)
        linear = _standardize(hidden @ (rng.normal(b, hidden.shape[2], width) * connected))
        hidden = _standardize(_nonlinear(linear, rng) + 0.15 * rng.normal(b, n, width))
        layers.append(hidden)
    units = torch.cat(layers, dim=2)  # (b, n, 80)
    column = rng.below(units.shape[2] - 1, b, d)
    observed = torch.gather(units, 2, column[:, None, :].expand(b, n, d))
    return _standardize(observed + rng.normal(b, n, d) * rng.uniform(b, 1, d, high=0.6)), units[:, :, -1]


def _ehr(b: int, n: int, d: int, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """Health records: latent diseases drive codes and labs, and sites measure differently."""
    f = 6
    frailty = rng.normal(b, n, 1)  # correlates the diseases
    severity = (rng.normal(b, n, f) + 0.7 * frailty > rng.uniform(b, 1, f, low=0.3, high=2.2)).float() * (1 + rng.normal(b, n, f).abs())
    site = rng.below(4, b, n)
    loading = rng.normal(b, f, d) * rng.happens(0.25, b, f, d)
    lab = severity @ loading + 0.4 * frailty * rng.normal(b, 1, d) * rng.happens(0.3, b, 1, d)
    shift = rng.normal(b, 4, d) * rng.uniform(b, 1, 1, high=0.6)
    lab = lab + torch.gather(shift, 1, site[:, :, None].expand(b, n, d)) + rng.normal(b, n, d) * rng.uniform(b, 1, d, low=0.3, high=1.5)
    code = torch.where(rng.happens(torch.sigmoid(2 * (lab - rng.uniform(b, 1, d, low=0.5, high=3.0))), b, n, d), 1.5, -0.3)
    value = torch.where(rng.happens(rng.uniform(b, 1, 1), b, 1, d), code + 0.01 * rng.normal(b, n, d), lab)
    harm = rng.normal(b, f, 1).abs() * rng.happens(0.6, b, f, 1)
    interaction = severity[:, :, :1] * severity[:, :, 1:2] * rng.normal(b, 1, 1)
    return _standardize(value), (severity @ harm + interaction + 0.5 * frailty).squeeze(2) + 0.2 * rng.normal(b, n)


def _additive(x: Tensor, rng: TaskRng) -> Tensor:
    """Nonlinear effects of a few columns, and a few interactions."""
    b, n, d = x.shape
    weight = rng.normal(b, 1, d) * rng.happens(rng.uniform(b, 1, 1, low=0.05, high=0.7), b, 1, d)
    weight[:, 0, 0] = rng.normal(b)  # at least one effect
    pairs = max(1, d // 3)
    interaction = x.gather(2, rng.below(d, b, 1, pairs).expand(b, n, pairs)) * x.gather(2, rng.below(d, b, 1, pairs).expand(b, n, pairs))
    interactions = (interaction * rng.normal(b, 1, pairs) * rng.happens(0.4, b, 1, pairs)).sum(dim=2)
    return (_nonlinear(x, rng) * weight).sum(dim=2) + interactions * rng.uniform(b, 1, high=1.0) * rng.happens(0.6, b, 1)


def _trees(x: Tensor, rng: TaskRng) -> Tensor:
    """A forest of oblivious trees on few columns."""
    b, n, d = x.shape
    t, depth = int(2 ** rng.uniform(1, high=5).item()), 2 + int(rng.below(3, 1).item())
    relevant = rng.below(d, b, max(2, round(d**0.7)))
    column = relevant.gather(1, rng.below(relevant.shape[1], b, t * depth))  # (b, t * depth)
    split = x.gather(2, column[:, None, :].expand(b, n, t * depth)) > rng.normal(b, 1, t * depth)
    power = 2 ** torch.arange(depth, device=rng.device)
    leaf = (split.view(b, n, t, depth) * power).sum(dim=3)  # (b, n, t)
    leaf_value = rng.normal(b, t, 2**depth)
    return leaf_value.gather(2, leaf.transpose(1, 2)).sum(dim=1)


def _rules(x: Tensor, rng: TaskRng) -> Tensor:
    """Parity of two to four signs, a lookup by two binned columns, or a conjunction; plus a weak linear part."""
    b, n, d = x.shape
    order = 2 + int(rng.below(3, 1).item())
    sign = torch.sign(x.gather(2, rng.below(d, b, 1, order).expand(b, n, order)) - 0.3 * rng.normal(b, 1, order))
    pair = x.gather(2, rng.below(d, b, 1, 2).expand(b, n, 2))
    bins = torch.bucketize(pair, torch.tensor([-0.7, 0.0, 0.7], device=rng.device))  # (b, n, 2)
    lookup = rng.normal(b, 16).gather(1, bins[:, :, 0] * 4 + bins[:, :, 1])
    conjunction = (sign > 0).all(dim=2).float()
    which = rng.below(3, b, 1)
    rule = torch.where(which == 0, sign.prod(dim=2), torch.where(which == 1, lookup, 2 * conjunction))
    linear = (x * rng.normal(b, 1, d) * rng.happens(0.3, b, 1, d)).sum(dim=2)
    return _standardize(rule) + _standardize(linear) * rng.uniform(b, 1, high=0.8)


# ---- outcomes ---------------------------------------------------------------------------------------------------------------------


def _outcomes(signal: Tensor, rng: TaskRng) -> tuple[Tensor, Tensor]:
    """Sample outcomes of a prevalence in [.005, .5], from weak to strong signals, with some label noise."""
    b, n = signal.shape
    prevalence = rng.log_uniform(b, 1, low=max(_PREVALENCE[0], min(0.3, 1.5 * _FEWEST_EVENTS / n)), high=_PREVALENCE[1])
    slope = rng.log_uniform(b, 1, low=0.4, high=6.0)
    low, high = torch.full_like(prevalence, -40.0), torch.full_like(prevalence, 40.0)
    for _ in range(24):  # bisection for the intercept of this prevalence
        intercept = (low + high) / 2
        above = torch.sigmoid(slope * signal + intercept).mean(dim=1, keepdim=True) > prevalence
        low, high = torch.where(above, low, intercept), torch.where(above, intercept, high)
    risk = torch.sigmoid(slope * signal + low)
    unrecorded = rng.uniform(b, 1, high=0.2) * rng.happens(0.3, b, 1)
    false = rng.uniform(b, 1, high=0.05) * rng.happens(0.15, b, 1) * prevalence
    risk = risk * (1 - unrecorded) + (1 - risk) * false
    outcome = rng.happens(risk, b, n)
    short = outcome.sum(dim=1, keepdim=True) < _FEWEST_EVENTS  # then the rows of highest risk become events
    highest = (risk + outcome).argsort(dim=1, descending=True).argsort(dim=1) < _FEWEST_EVENTS
    return (outcome | (short & highest)).long(), risk


def _nonlinear(x: Tensor, rng: TaskRng) -> Tensor:
    """Apply one of six functions to each column (the last axis)."""
    function = rng.below(6, x.shape[0], 1, x.shape[2])
    threshold = rng.normal(x.shape[0], 1, x.shape[2])
    out = torch.where(function == 1, torch.tanh(2 * (x - threshold)), x)
    out = torch.where(function == 2, (x - threshold).abs(), out)
    out = torch.where(function == 3, (x > threshold).to(x.dtype), out)
    out = torch.where(function == 4, torch.sin(2 * x), out)
    return torch.where(function == 5, torch.relu(x - threshold), out)


def _standardize(x: Tensor) -> Tensor:
    """Standardise over rows (axis 1)."""
    return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True).clamp(min=1e-6)
