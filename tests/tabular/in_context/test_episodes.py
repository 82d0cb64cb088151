"""Episodes: out-of-fold experts, queries without influence of their outcomes, and contexts as retrieval finds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from nearward.tabular.in_context import episodes
from nearward.tabular.in_context.episodes import Episode, Neighbors, find_neighbors, make_episode
from nearward.tabular.in_context.prior import FAMILIES, Tables, TaskRng, sample_tables
from nearward.tabular.in_context.row_features import EXPERTS, FEATURES, INPUTS, RowFeatures


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """Small tasks are faster with one thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def columns_and_outcome(seed: int, b: int = 1, rows: int = 40, n: int = 30, d: int = 3) -> tuple[Tensor, Tensor]:
    """Columns (b, rows, d) and outcomes of the first n rows, which depend on the first column."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(b, rows, d, generator=rng)
    return x, (x[:, :n, 0] + torch.randn(b, n, generator=rng) > 0.5).long()


def flipped(y: Tensor, row: int) -> Tensor:
    out = y.clone()
    out[:, row] = 1 - out[:, row]
    return out


def parts(item: Episode | RowFeatures | Neighbors, but: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Every tensor of an episode, by its path."""
    out: dict[str, Tensor] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Tensor):
            out[field.name] = value
        else:
            out |= {f"{field.name}.{name}": tensor for name, tensor in parts(value).items()}
    return {name: tensor for name, tensor in out.items() if name not in but}


def auroc(score: Tensor, outcome: Tensor) -> float:
    """Mean over tasks, by ranks."""
    rank, events = score.argsort(dim=1).argsort(dim=1) + 1.0, outcome.sum(dim=1)
    return float((((rank * outcome).sum(dim=1) - events * (events + 1) / 2) / (events * (outcome.shape[1] - events))).mean())


# ---- ridge ---------------------------------------------------------------------------------------


def refit(x: np.ndarray, outcome: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge by augmented least squares, intercept first, the intercept penalised by a ten-thousandth."""
    root = np.sqrt(np.append(1e-4, np.full(x.shape[1], penalty)))
    design = np.vstack([np.column_stack([np.ones(len(x)), x]), np.diag(root)])
    return np.linalg.lstsq(design, np.append(outcome, np.zeros(len(root))), rcond=None)[0]


@pytest.mark.parametrize("strength", [1e-2, 1.0])
@pytest.mark.parametrize(("n", "d"), [(30, 3), (40, 20)])
def test_leave_one_out_ridge_equals_the_refit_without_the_row(strength: float, n: int, d: int) -> None:
    x, y = columns_and_outcome(0, rows=n + 5, n=n, d=d)
    score = episodes._ridge(x, y, strength)[0, :, 0].numpy()
    design, outcome = x[0].double().numpy(), y[0].double().numpy()
    for i in range(n):
        others = np.arange(n) != i
        weight = refit(design[:n][others], outcome[others], strength * n)
        assert score[i] == pytest.approx(weight[0] + design[i] @ weight[1:], abs=2e-4)
    weight = refit(design[:n], outcome, strength * n)
    assert score[n:] == pytest.approx(weight[0] + design[n:] @ weight[1:], abs=1e-5)  # queries: the fit on everybody
    assert np.abs(score[:n] - weight[0] - design[:n] @ weight[1:]).max() > 1e-2


def test_ridge_of_a_task_does_not_depend_on_the_tasks_beside_it() -> None:
    x, y = columns_and_outcome(1, b=3)
    together = episodes._ridge(x, y, 1e-2)
    for task in range(3):
        assert torch.allclose(episodes._ridge(x[task : task + 1], y[task : task + 1], 1e-2)[0], together[task], atol=1e-5)


# ---- kernels -------------------------------------------------------------------------------------


def slow_kernel(place: np.ndarray, y: np.ndarray, row: int) -> float:
    """One row's log-odds, one neighbour at a time."""
    sq_distance = [np.inf if j == row else float(((place[row] - place[j]) ** 2).sum()) for j in range(len(y))]
    width = sorted(sq_distance[::4])[6]  # the seventh of every fourth row: about the thirtieth of all
    mass = [np.exp(-2 * s / width) for s in sq_distance]
    share = np.clip(np.dot(mass, y) / sum(mass), 1e-3, 1 - 1e-3)
    return float(np.log(share / (1 - share)))


def test_kernel_equals_the_slow_loop() -> None:
    x, y = columns_and_outcome(2, rows=60, n=48)
    score = episodes._kernel(x, y)[0, :, 0]
    for i in range(60):
        assert score[i].item() == pytest.approx(slow_kernel(x[0].double().numpy(), y[0].numpy(), i), abs=1e-3)


@pytest.mark.parametrize("expert", [episodes._kernel, lambda x, y: episodes._ridge(x, y, 1e-2)], ids=["kernel", "ridge"])
def test_no_out_of_fold_score_depends_on_its_own_outcome(expert: object) -> None:
    x, y = columns_and_outcome(3, b=2, rows=60, n=48)
    before = expert(x, y)  # type: ignore[operator]
    for row in (0, 4, 17, 47):
        after = expert(x, flipped(y, row))  # type: ignore[operator]
        assert torch.allclose(after[:, row], before[:, row], atol=2e-4)
        others = torch.arange(60) != row
        assert ((after - before).abs()[:, others, 0] > 1e-3).float().mean() > 0.5  # other rows depend on it, queries too


# ---- target encoding ---------------------------------------------------------------------------------


def tables_of(value: Tensor, category: Tensor, outcome: Tensor) -> Tables:
    zero = torch.zeros(outcome.shape)
    return Tables("by hand", value, category, outcome, zero, zero)


def test_target_encoding_of_queries_by_hand() -> None:
    """Stored: level 0 with 1 event of 3, level 1 with 1 of 1; overall 2 of 4, which counts as 20 rows more of each level."""
    nan = torch.nan
    value = torch.tensor([[[0.0, -7.5], [0, 2], [0, 3], [1, 4], [0, 5], [1, nan], [2, 1], [nan, 9]]])
    outcome = torch.tensor([[1, 0, 0, 1, 1, 1, 1, 1]])
    shown = episodes._target_encoded(tables_of(value, torch.tensor([[True, False]]), outcome), 4)
    rates = torch.sigmoid(shown[0, 4:7, 0])
    assert rates.tolist() == pytest.approx([(1 + 10) / 23, (1 + 10) / 21, 10 / 20], rel=1e-5)
    assert shown[0, 7, 0].isnan()
    assert torch.equal(shown[:, :, 1].nan_to_num(), value[:, :, 1].nan_to_num())  # a number is residual as it is


def test_target_encoding_is_leave_one_out() -> None:
    rng = torch.Generator().manual_seed(0)
    level = (torch.arange(60) % 5).float()[None, :, None]
    y = (torch.rand(1, 60, generator=rng) < 0.4).long()
    before = episodes._target_encoded(tables_of(level, torch.ones(1, 1, dtype=torch.bool), y), 50)
    moved = 0
    for i in range(50):
        j = next(j for j in range(50) if j % 5 != i % 5 and y[0, j] != y[0, i])  # swapped with another level's: overall stays the same
        after = episodes._target_encoded(tables_of(level, torch.ones(1, 1, dtype=torch.bool), flipped(flipped(y, i), j)), 50)
        assert after[0, i, 0].item() == pytest.approx(before[0, i, 0].item(), abs=1e-5)
        kin = torch.arange(50, 60)[torch.arange(50, 60) % 5 == i % 5]
        moved += int((after[0, kin, 0] != before[0, kin, 0]).all())
    assert moved == 50


@pytest.mark.xfail(
    reason="a leave-one-out rate is lower for events than for others of the same level, and rows of a kind find_neighbors each other by it"
)
def test_uninformative_categories_make_no_expert_informative() -> None:
    rng = TaskRng(0)
    value = torch.cat([rng.below(5, 40, 512, 4).float(), rng.normal(40, 512, 2)], dim=2)
    category = torch.tensor([[True] * 4 + [False] * 2]).expand(40, -1)
    outcome = rng.happens(0.15, 40, 512).long()
    places = episodes._standardized(episodes._target_encoded(tables_of(value, category, outcome), 384), 384)
    score = episodes._kernel(places, outcome[:, :384])[:, :, 0]
    assert auroc(score[:, 384:], outcome[:, 384:]) == pytest.approx(0.5, abs=0.03)
    assert auroc(score[:, :384], outcome[:, :384]) == pytest.approx(0.5, abs=0.04)


def test_columns_are_standardised_on_stored_rows_and_zero_where_missing() -> None:
    value = torch.tensor([[[1.0, 5], [3, 5], [torch.nan, 5], [1e6, 6], [2, torch.nan]]])
    shown = episodes._standardized(value, 3)
    assert shown[0].tolist() == [[-1, 0], [1, 0], [0, 0], [6, 6], [0, 0]]


# ---- episodes -------------------------------------------------------------------------------------


def episode_of(tables: Tables, stored: int = 130, neighbours: int = 20, seed: int = 9) -> Episode:
    return make_episode(tables, stored, neighbours, TaskRng(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_outcome_of_a_query_changes_nothing_else(family: str) -> None:
    tables = sample_tables(family, 4, 150, 8, TaskRng(0))
    outcome = tables.outcome.clone()
    outcome[:, 130:] = 1 - outcome[:, 130:]
    before, after = episode_of(tables), episode_of(replace(tables, outcome=outcome))
    assert torch.equal(after.query_outcome, 1 - before.query_outcome)
    for name, tensor in parts(before, but=("query_outcome",)).items():
        assert torch.equal(tensor, parts(after)[name]), name
    stored = episode_of(replace(tables, outcome=flipped(tables.outcome, 3)))
    assert not torch.equal(stored.query.inputs, before.query.inputs)
    assert not torch.equal(stored.stored_outcome, before.stored_outcome)


def test_a_query_does_not_influence_other_rows() -> None:
    """The values of one query change neither the stored rows nor another query."""
    tables = sample_tables("additive", 3, 150, 8, TaskRng(1))
    value = tables.value.clone()
    value[:, 140] = torch.where(tables.category, 0.0, 2.5)
    before, after = episode_of(tables), episode_of(replace(tables, value=value))
    others = torch.arange(20) != 10
    assert torch.equal(before.stored.inputs, after.stored.inputs)
    assert torch.allclose(before.query.inputs[:, others], after.query.inputs[:, others], atol=1e-5)
    assert torch.equal(before.neighbors.mask[:, others], after.neighbors.mask[:, others])
    assert (before.query.inputs[:, 10] - after.query.inputs[:, 10]).abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_and_values_of_episodes(family: str) -> None:
    tables = sample_tables(family, 5, 200, 12, TaskRng(3))
    episode = episode_of(tables, stored=160, neighbours=24)
    assert episode.stored.inputs.shape == (5, 160, INPUTS)
    assert episode.query.inputs.shape == (5, 40, INPUTS)
    assert {item.shape for item in (episode.neighbors.sq_distance, episode.neighbors.mask, episode.neighbors.floored)} == {(5, 40, 160)}
    assert torch.equal(episode.stored_outcome, tables.outcome[:, :160])
    assert torch.equal(episode.query_outcome, tables.outcome[:, 160:])
    for name, tensor in parts(episode).items():
        assert tensor.double().isfinite().all(), name
    assert episode.stored.inputs.abs().max() < 40
    assert (episode.neighbors.mask.sum(dim=2) >= 24).all()
    assert not (episode.neighbors.floored & (episode.stored_outcome == 0)[:, None]).any()
    rate = episode.stored_outcome.double().mean(dim=1)
    assert episode.entropy.double().numpy() == pytest.approx((-rate * rate.log() - (1 - rate) * (1 - rate).log()).numpy(), rel=1e-4)


def test_the_same_seed_makes_the_same_episode() -> None:
    tables = sample_tables("dag", 3, 150, 8, TaskRng(4))
    first, again, other = (episode_of(tables, seed=seed) for seed in (5, 5, 6))
    for name, tensor in parts(first).items():
        assert torch.equal(tensor, parts(again)[name]), name
    assert not torch.equal(first.stored.inputs, other.stored.inputs)
    assert not torch.equal(first.neighbors.mask, other.neighbors.mask)


def test_calibrated_experts_are_as_good_on_queries_as_on_stored_rows() -> None:
    """With number columns only, the log-loss of calibrated experts is the same on new rows as on stored ones."""
    losses: dict[str, list[Tensor]] = {"stored": [], "query": []}
    for i, family in enumerate(FAMILIES):
        tables = sample_tables(family, 20, 768, 6, TaskRng(10 + i))
        episode = episode_of(replace(tables, category=torch.zeros_like(tables.category)), stored=384)
        for name, rows, outcome in (("stored", episode.stored, episode.stored_outcome), ("query", episode.query, episode.query_outcome)):
            loss = binary_cross_entropy_with_logits(
                rows.log_odds, outcome[:, :, None].expand_as(rows.log_odds).float(), reduction="none"
            ).mean(dim=1)  # (b, s), nats
            losses[name].append(torch.stack([loss, episode.entropy[:, None].expand_as(loss)])[:, rows.present])
    (stored, base), (query, _) = (torch.cat(each, dim=1) for each in losses.values())
    assert stored.sum() / base.sum() < 0.9
    assert query.sum() / base.sum() == pytest.approx(float(stored.sum() / base.sum()), abs=0.03)
    assert ((query - stored) / base).median().abs() < 0.02


# ---- simulated experts ----------------------------------------------------------------------------


def test_simulated_scores_are_the_signal_plus_an_error_of_this_size() -> None:
    rng = TaskRng(0)
    signal, columns = rng.normal(30, 800), rng.normal(30, 800, 6)
    same = episodes._simulated_scores(signal, columns, rng, 3, torch.zeros(30, 3))
    assert torch.equal(same, signal[:, :, None].expand(30, 800, 3))
    errors = torch.tensor([0.3, 1.0, 3.0]).expand(30, 3)
    score = episodes._simulated_scores(signal, columns, rng, 3, errors)
    wrong = (score - signal[:, :, None]).std(dim=1)  # smooth and noisy parts together
    assert wrong.mean(dim=0).numpy() == pytest.approx([0.3, 1.0, 3.0], rel=0.15)
    smooth = episodes._simulated_scores(torch.zeros(30, 800), columns, rng, 1, torch.ones(30, 1))[:, :, 0]
    x = torch.cat([torch.ones(30, 800, 1), columns], dim=2)
    residual = smooth - (x @ torch.linalg.lstsq(x, smooth[:, :, None]).solution)[:, :, 0]
    explained = 1 - residual.var(dim=1) / smooth.var(dim=1)
    assert explained.max() > 0.5  # some errors are smooth in the columns,
    assert explained.min() < 0.1  # some are noise


def test_some_simulated_experts_are_useless_and_in_a_third_of_the_tasks_one_is_nearly_right() -> None:
    rng = TaskRng(1)
    signal, columns = rng.normal(600, 150), rng.normal(600, 150, 5)
    score = episodes._simulated_experts(signal, columns, rng)
    assert score.shape == (600, 150, 8)
    centred = score - score.mean(dim=1, keepdim=True)
    correlation = (centred * signal[:, :, None]).sum(dim=1) / centred.norm(dim=1) / signal.norm(dim=1)[:, None]  # (tasks, m), correlations
    useless = (correlation.abs() < 0.2).float().mean()
    assert 0.15 < useless < 0.4  # 15 % by choice, and those of the hardest tasks
    ahead = correlation[:, 0] > correlation[:, 1:].max(dim=1).values
    assert 0.3 < ahead.float().mean() < 0.5
    others = (
        torch.stack([correlation[:, j] > correlation[:, torch.arange(8) != j].max(dim=1).values for j in range(1, 8)]).float().mean(dim=1)
    )
    assert others.max() < 0.15


def test_one_task_of_twelve_has_no_expert() -> None:
    present = episodes._present_experts(torch.zeros(6000, 1, 13), TaskRng(2))
    assert (~present.any(dim=1)).float().mean() == pytest.approx(1 / 12 + 0.015, abs=0.015)  # some more by chance
    assert present.float().mean() == pytest.approx(0.6 * 11 / 12, abs=0.02)
    assert present.sum(dim=1).unique().tolist() == list(range(14))


# ---- contexts ------------------------------------------------------------------------------------


def slow_find(query: np.ndarray, stored: np.ndarray, y: np.ndarray, k: int, floor: bool) -> tuple[set[int], set[int], np.ndarray]:
    """One query's context: the k nearest, the nearest events beside them, and the scaled distances."""
    sq_distance = np.array([sum((a - b) ** 2 for a, b in zip(query, row, strict=True)) for row in stored])
    order = np.argsort(sq_distance)
    nearest = {int(i) for i in order[:k]}
    events = [int(i) for i in order if y[i]][: max(8, int(0.05 * k))]
    return nearest, {i for i in events if i not in nearest} if floor else set(), sq_distance / sq_distance[order[:k]].mean()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 60),
    k=st.integers(1, 70),
    prevalence=st.floats(0, 1),
    floor=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_find_neighbors_equals_the_slow_loop(seed: int, n: int, k: int, prevalence: float, floor: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    query, stored, y = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, n, 4)), (rng.random((2, n)) < prevalence).astype(np.int64)
    near = find_neighbors(*(torch.tensor(item) for item in (query, stored, y)), k, torch.tensor(floor)[:, None, None])
    for task in (0, 1):
        for q in range(3):
            nearest, added, distance = slow_find(query[task, q], stored[task], y[task], min(k, n), floor[task])
            assert set(near.mask[task, q].nonzero().flatten().tolist()) == nearest | added
            assert set(near.floored[task, q].nonzero().flatten().tolist()) == added
            assert near.sq_distance[task, q].numpy() == pytest.approx(distance, rel=1e-6, abs=1e-9)
            assert len(added) <= 8


def test_the_floor_is_a_twentieth_where_contexts_are_large() -> None:
    """400 rows on a line, the events furthest out: of a context of 200, ten are floored, the nearest ten."""
    stored = torch.arange(400.0, dtype=torch.float64)[None, :, None]
    y = (torch.arange(400) >= 300).long()[None]
    query = torch.zeros(1, 1, 1, dtype=torch.float64)
    near = find_neighbors(query, stored, y, 200, torch.ones(1, 1, 1, dtype=torch.bool))
    assert near.floored[0, 0].nonzero().flatten().tolist() == list(range(300, 310))
    assert near.mask[0, 0].nonzero().flatten().tolist() == [*range(200), *range(300, 310)]
    assert near.sq_distance[0, 0, :200].mean() == pytest.approx(1)
    without = find_neighbors(query, stored, y, 200, torch.zeros(1, 1, 1, dtype=torch.bool))
    assert not without.floored.any()
    assert without.mask.sum() == 200


def test_contexts_are_supervised_and_most_tasks_have_a_floor() -> None:
    """The embedding is supervised: contexts of events have more events than contexts of non-events."""
    floors, gaps = [], []
    for seed, family in enumerate(FAMILIES):
        episode = episode_of(sample_tables(family, 60, 320, 10, TaskRng(seed)), stored=256, neighbours=32, seed=seed)
        share = ((episode.neighbors.mask & ~episode.neighbors.floored) * episode.stored_outcome[:, None]).sum(dim=2) / 32
        y = episode.query_outcome
        gaps.append((share * y).sum() / y.sum() - (share * (1 - y)).sum() / (1 - y).sum())
        floors.append(episode.neighbors.floored.any(dim=2).any(dim=1).float().mean())
    assert min(gaps) > 0.05
    assert float(torch.stack(floors).mean()) == pytest.approx(0.85, abs=0.08)


def test_filled_slots_vary() -> None:
    """Episodes have few and many columns, and good, poor or no experts."""
    episode = episode_of(sample_tables("trees", 120, 150, 40, TaskRng(8)))
    filled = episode.stored.present.sum(dim=1)
    assert filled.min() == 0
    assert filled.max() > 9
    assert (episode.stored.present.int().diff(dim=1) <= 0).all()  # the first slots are filled first
    gain = episode.stored.inputs[:, 0, 2 * FEATURES + 2 * EXPERTS]
    assert gain.max() > 0.6
    assert ((gain > 0) & (gain < 0.15)).any()
