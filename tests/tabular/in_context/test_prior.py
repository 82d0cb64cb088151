"""Prior: reproducible from a seed, of the given shapes, with outcomes that follow their risk and signals that can be learned."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nearward.tabular.in_context import prior
from nearward.tabular.in_context.prior import FAMILIES, Tables, TaskRng, sample_tables


def drawn(rows: int, columns: int, tasks: int = 40, seed: int = 0) -> dict[str, Tables]:
    return {family: sample_tables(family, tasks, rows, columns, TaskRng(seed)) for family in FAMILIES}


def same(a: Tensor, b: Tensor) -> bool:
    return bool((a.isnan() == b.isnan()).all()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of rows (axis 1)."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)


def auroc(score: Tensor, outcome: Tensor) -> Tensor:
    """Of each task, by ranks; scores without ties."""
    rank, events = score.argsort(dim=1).argsort(dim=1) + 1.0, outcome.sum(dim=1)
    return ((rank * outcome).sum(dim=1) - events * (events + 1) / 2) / (events * (outcome.shape[1] - events))


def linear_fit(x: Tensor, signal: Tensor) -> Tensor:
    """Share of each signal's variance that a line through the columns explains, less what it would by chance."""
    x = torch.cat([torch.ones_like(x[:, :, :1]), x.nan_to_num()], dim=2).double()
    n, p = x.shape[1:]
    gram = x.transpose(1, 2) @ x + 1e-6 * torch.eye(p)
    fitted = x @ torch.linalg.solve(gram, x.transpose(1, 2) @ signal.double()[:, :, None])
    return 1 - (signal - fitted[:, :, 0]).var(dim=1) / signal.var(dim=1) * (n - 1) / (n - p)


# ---- shapes and seeds ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_tables_follow_from_the_seed(family: str) -> None:
    first, again, other = (sample_tables(family, 6, 60, 20, TaskRng(seed)) for seed in (5, 5, 6))
    for name in ("value", "category", "outcome", "signal", "risk"):
        assert same(getattr(first, name), getattr(again, name)), name
        assert not same(getattr(first, name), getattr(other, name)), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generator_continues(family: str) -> None:
    rng = TaskRng(1)
    first, second = (sample_tables(family, 2, 60, 5, rng) for _ in range(2))
    assert not same(first.value, second.value)
    assert not torch.equal(first.signal[0], first.signal[1])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    family=st.sampled_from(FAMILIES),
    tasks=st.integers(1, 4),
    rows=st.integers(24, 200),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**48 - 1),
)
def test_shapes_and_values_of_tables(family: str, tasks: int, rows: int, columns: int, seed: int) -> None:
    tables = sample_tables(family, tasks, rows, columns, TaskRng(seed))
    assert tables.family == family
    assert tables.value.shape == (tasks, rows, columns)
    assert tables.category.shape == (tasks, columns)
    assert {tables.outcome.shape, tables.signal.shape, tables.risk.shape} == {(tasks, rows)}
    dtypes = (torch.float32, torch.bool, torch.int64, torch.float32, torch.float32)
    assert (tables.value.dtype, tables.category.dtype, tables.outcome.dtype, tables.signal.dtype, tables.risk.dtype) == dtypes
    assert not tables.value.isinf().any()
    assert tables.outcome.unique().tolist() == [0, 1]
    assert tables.outcome.sum(dim=1).min() >= 8
    assert ((tables.risk >= 0) & (tables.risk <= 1)).all()
    assert tables.signal.isfinite().all()
    assert tables.signal.mean(dim=1).abs().max() < 1e-4


def test_random_numbers_lie_in_their_ranges() -> None:
    rng = TaskRng(0)
    assert 2 <= rng.uniform(5000, low=2, high=3).min() < rng.uniform(5000, low=2, high=3).max() < 3
    wide = rng.log_uniform(20_000, low=0.01, high=100)
    assert 0.01 <= wide.min() < 0.0105
    assert 95 < wide.max() <= 100.001
    assert (wide < 1).float().mean() == pytest.approx(0.5, abs=0.02)  # 1 is the middle of the logarithms
    assert rng.below(3, 1000).unique().tolist() == [0, 1, 2]
    assert rng.happens(0.3, 20_000).float().mean() == pytest.approx(0.3, abs=0.02)
    assert rng.happens(torch.tensor([0.0, 1.0]), 50, 2).float().mean(dim=0).tolist() == [0, 1]


# ---- columns -------------------------------------------------------------------------------------


def test_a_marginal_keeps_the_order_of_its_column() -> None:
    shown = torch.randn(20, 150, 12, generator=torch.Generator().manual_seed(0))
    value, category, _ = prior._marginals(shown, TaskRng(2))
    order = shown.argsort(dim=1)
    assert (value.gather(1, order).diff(dim=1) >= 0).all()
    distinct = torch.tensor([[len(value[b, :, j].unique()) for j in range(12)] for b in range(20)])
    assert (distinct == 2).any()  # flags
    assert (distinct == 150).float().mean() > 0.4  # numbers
    assert 0.02 < category.float().mean() < 0.3


def test_categories_carry_level_numbers() -> None:
    tables = drawn(rows=300, columns=30)
    levels = [t.value[b, :, j] for t in tables.values() for b, j in t.category.nonzero().tolist()]
    seen = torch.cat([level[~level.isnan()] for level in levels])
    assert torch.equal(seen, seen.floor())
    assert (seen.min(), seen.max() <= 63) == (0, True)
    counts = torch.tensor([len(level[~level.isnan()].unique()) for level in levels], dtype=torch.float32)
    assert (counts >= 2).all()
    assert counts.median() > 5
    assert counts.max() > 30  # some have many levels


def test_the_effect_of_a_level_is_independent_of_its_number() -> None:
    """A level has the same effect in all its rows, uncorrelated with its number."""
    shown = torch.randn(60, 400, 10, generator=torch.Generator().manual_seed(1))
    value, category, acts = prior._marginals(shown, TaskRng(3))
    slopes = []
    for b, j in category.nonzero().tolist():
        level, effect = value[b, :, j], acts[b, :, j]
        means = torch.stack([effect[level == k].mean() for k in level.unique()])
        assert all(torch.allclose(effect[level == k], m, atol=1e-5) for k, m in zip(level.unique(), means, strict=True))
        slopes.append(float(correlation(level.unique()[None], means[None])))
    assert len(slopes) > 30
    assert abs(sum(slopes) / len(slopes)) < 3 * 0.5 / len(slopes) ** 0.5
    number = ~category[:, None].expand_as(value) & (value == shown)
    assert torch.allclose(acts[number], prior._standardize(shown)[number], atol=1e-4)  # a plain number acts as it is


def test_two_tables_of_five_have_missing_values() -> None:
    tables = [sample_tables(family, 150, 100, 20, TaskRng(seed)) for seed, family in enumerate(FAMILIES)]
    holed = torch.cat([t.value.isnan().any(dim=2).any(dim=1) for t in tables]).float().mean()
    assert holed == pytest.approx(0.4, abs=0.05)  # 900 tasks: three standard errors
    rate = torch.cat([t.value.isnan().float().mean(dim=1) for t in tables])  # (tasks, d)
    rate = rate[rate.sum(dim=1) > 0]
    assert (rate == 0).float().mean() == pytest.approx(0.5, abs=0.06)  # in such tables, half the columns are whole
    assert 0.4 < rate.max() < 0.9


def test_half_of_the_missingness_depends_on_the_value_or_the_risk() -> None:
    sample = torch.Generator().manual_seed(0)
    value, signal = torch.randn(300, 1000, 6, generator=sample), torch.randn(300, 1000, generator=sample)
    hole = prior._with_missing(value, signal, TaskRng(0)).isnan().float()
    observed = ~hole.bool()
    assert torch.equal(prior._with_missing(value, signal, TaskRng(0))[observed], value[observed])
    counted = (hole.mean(dim=1) > 0.05) & (hole.mean(dim=1) < 0.6)
    leaning = torch.stack([correlation(hole, value), correlation(hole, signal[:, :, None].expand_as(value))]).abs() > 0.12
    by_value, by_signal = leaning[0][counted].float().mean(), leaning[1][counted].float().mean()
    assert 0.08 < by_value < 0.3  # a quarter each, less those that lean but little
    assert 0.08 < by_signal < 0.3
    assert not (leaning[0] & leaning[1])[counted].any()


# ---- signals -------------------------------------------------------------------------------------


def test_no_signal_is_constant() -> None:
    for tables in drawn(rows=120, columns=20, tasks=100).values():
        assert tables.signal.std(dim=1) == pytest.approx(1.0, abs=1e-3), tables.family


def test_hardly_any_signal_of_two_columns_is_constant() -> None:
    """Where both columns are flags, a rule or a nonlinearity may be constant."""
    dead = torch.cat([t.signal.std(dim=1) < 0.5 for t in drawn(rows=120, columns=2, tasks=200).values()])
    assert dead.float().mean() < 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_signal_ranks_outcomes(family: str) -> None:
    tables = sample_tables(family, 60, 300, 10, TaskRng(4))
    area = auroc(tables.signal, tables.outcome)
    assert area.mean() > 0.7
    assert area.std() > 0.08  # weak signals and strong ones
    assert auroc(tables.signal, tables.outcome.flip(1)).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("family", ["dag", "layers", "ehr"])
def test_columns_explain_part_of_the_signal(family: str) -> None:
    known = linear_fit(sample_tables(family, 60, 400, 20, TaskRng(7)).value, sample_tables(family, 60, 400, 20, TaskRng(7)).signal)
    assert 0.1 < known.mean() < 0.9
    assert known.max() < 1


class Loaded:
    """A generator that returns columns 0, 1, 2, …, the first of every choice, and zero."""

    device = torch.device("cpu")

    def below(self, most: int, *shape: int) -> Tensor:
        return torch.arange(math.prod(shape)).view(shape) % most if len(shape) > 2 else torch.zeros(shape, dtype=torch.long)

    def normal(self, *shape: int) -> Tensor:
        return torch.zeros(shape)

    def uniform(self, *shape: int, high: float = 1.0) -> Tensor:
        return torch.full(shape, high)

    def happens(self, chance: float, *shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.bool)


def test_parity_has_no_linear_signal() -> None:
    """The parity of two signs, by hand: no column and no linear model explains it, and the product of the signs is equal to it."""
    x = torch.randn(1, 20_000, 5, generator=torch.Generator().manual_seed(0))
    parity = prior._rules(x, Loaded())  # type: ignore[arg-type]
    by_hand = torch.where((x[:, :, 0] > 0) == (x[:, :, 1] > 0), 1.0, -1.0)
    assert correlation(parity, by_hand) == pytest.approx(1.0, abs=1e-5)
    assert correlation(x, parity[:, :, None].expand_as(x)).abs().max() < 0.03
    assert linear_fit(x, parity).abs() < 0.002


def test_linear_models_explain_few_rules_and_most_sums() -> None:
    sample = torch.Generator().manual_seed(3)
    x = torch.randn(200, 400, 8, generator=sample)
    hidden = {
        make.__name__: (torch.cat([linear_fit(x[i : i + 20], make(x[i : i + 20], TaskRng(i))) for i in range(0, 200, 20)]) < 0.3)
        .float()
        .mean()
        for make in (prior._rules, prior._additive)
    }
    assert hidden["_rules"] > 0.25
    assert hidden["_additive"] < hidden["_rules"]


# ---- outcomes ------------------------------------------------------------------------------------


def test_prevalences_span_a_half_to_a_half_percent_evenly() -> None:
    share = torch.cat([t.outcome.float().mean(dim=1) for t in drawn(rows=4000, columns=2, tasks=20).values()])
    assert 0.002 <= share.min() < 0.009
    assert 0.35 < share.max() < 0.6
    assert (share < 0.05).float().mean() == pytest.approx(0.5, abs=0.14)  # .05 is the middle of the logarithms; 120 tasks


def test_outcomes_follow_the_risk() -> None:
    """Pooled over tasks, the event rate equals the risk."""
    tables = [sample_tables(family, 60, 1000, 5, TaskRng(20 + i)) for i, family in enumerate(FAMILIES)]
    risk, outcome = (torch.cat([getattr(t, name).flatten() for t in tables]) for name in ("risk", "outcome"))
    assert outcome.float().mean() == pytest.approx(float(risk.mean()), abs=0.003)
    for part in range(10):
        rows = (risk * 10).floor() == part
        assert rows.sum() > 2000
        assert outcome[rows].float().mean() == pytest.approx(float(risk[rows].mean()), abs=0.02), part


def test_the_risk_has_the_sampled_prevalence_for_weak_and_strong_signals() -> None:
    signal = torch.randn(400, 500, generator=torch.Generator().manual_seed(0))
    risk = prior._outcomes(signal, TaskRng(1))[1]
    drawn_for = TaskRng(1).log_uniform(400, 1, low=12 / 500, high=0.5)[:, 0]
    ratio = risk.mean(dim=1) / drawn_for
    assert ratio.median() == pytest.approx(1, abs=1e-3)  # most tasks have no mistaken labels
    assert 0.8 <= ratio.min() < 0.95  # some lost up to a fifth of their events
    assert ratio.max() <= 1.05 + 1e-3
    strength = (torch.logit(risk) * signal).mean(dim=1)
    assert strength.max() / strength.min() > 8


def test_where_events_are_too_few_the_highest_risks_become_events(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    eight, risk = prior._outcomes(signal, TaskRng(1))
    monkeypatch.setattr(prior, "_FEWEST_EVENTS", 4)  # of 20 rows, the prevalences drawn are the same for 4 and for 8
    four, same_risk = prior._outcomes(signal, TaskRng(1))
    assert torch.equal(risk, same_risk)
    count = four.sum(dim=1)
    assert torch.equal(eight[count >= 8], four[count >= 8])
    short = (count > 4) & (count < 8)
    assert short.sum() > 20
    for before, after, line in zip(four[short], eight[short], risk[short], strict=True):
        added = (after > before).nonzero().flatten()
        free = (before == 0).nonzero().flatten()
        assert after.sum() == 8
        assert (after >= before).all()
        assert sorted(added.tolist()) == sorted(free[line[free].argsort(descending=True)][: len(added)].tolist())
