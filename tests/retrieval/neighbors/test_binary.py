"""Contexts: no row near an encoder that knew its outcome, votes that add up, a floor that informs without inflating."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors import binary as module
from nearward.retrieval.neighbors.binary import SETTINGS, Context, RetrievalSetting, Retriever, fit_retriever
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.voting import Neighbours, compute_weights, join_contexts
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import NearwardError

CONFIG = EncoderConfig(steps=30, batch=64, axes=7, hidden=16)
EMBEDDINGS = ("linear metric", "AWARE encoders")
Fitted = tuple[Retriever, Context, np.ndarray, list[module.SettingTrial]]


class Cohort:
    """Patients of whom about one in eight has the outcome; some come several times."""

    def __init__(self, seed: int = 0, n: int = 480, patients: int = 300, folds: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(n, 4))
        self.outcome = (self.x[:, 0] + self.x[:, 1] * self.x[:, 2] + 0.5 * rng.normal(size=n) > 1.5).astype(np.int64)
        self.group = np.unique(rng.integers(0, patients, size=n), return_inverse=True)[1]
        self.fold = assign_folds(self.outcome, self.group, folds, seed)

    @property
    def data(self) -> TrainingData:
        return TrainingData(self.outcome, self.group, self.fold)

    def fit(self, settings: tuple[RetrievalSetting, ...] = SETTINGS, config: EncoderConfig = CONFIG) -> Fitted:
        retriever, vote, head, trials = fit_retriever(self.x, self.data, config, 0, lambda _: None, settings)
        parts = [
            retriever._shard_contexts(f, embed(encoder, self.x[shard.rows])[0], (retriever.setting,), len(retriever.shards), self.group)[0]
            for f, (encoder, shard) in enumerate(zip(retriever.encoders, retriever.shards, strict=True))
        ]
        context = join_contexts(parts, 0, parts[0].shard).take(np.argsort(np.concatenate([shard.rows for shard in retriever.shards])))
        np.testing.assert_allclose(vote, context.vote, atol=1e-12)
        return retriever, context, head, trials


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


def by_encoders(cohort: Cohort, settings: tuple[RetrievalSetting, ...] = SETTINGS) -> Fitted:
    """Fit, and keep the encoders whether the metrics rank better or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ranks_clearly_better", lambda *_: False)
        return cohort.fit(settings)


@pytest.fixture(scope="module")
def fitted(cohort: Cohort) -> Fitted:
    return by_encoders(cohort)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return np.random.default_rng(99).normal(size=(60, 4))


def by_distance(places: list[np.ndarray], outcome: list[int], rule: RetrievalSetting, temperature: float = 0.5) -> Retriever:
    """A retriever whose encoders change nothing: one shard for each array of rows, numbered through."""
    known, shards, begin = np.array(outcome, dtype=float), [], 0
    for rows in places:
        shards.append(Shard(rows.astype(np.float32), np.arange(begin, begin + len(rows))))
        begin += len(rows)
    return Retriever(
        encoders=tuple(LinearMetric(np.eye(rows.shape[1]), temperature) for rows in places),
        heads=(),
        shards=tuple(shards),
        outcome=known,
        setting=rule,
        radius=np.full(len(places), np.inf),
    )


def shuffled(retriever: Retriever, seed: int) -> Retriever:
    """The same retriever with the rows of its shards stored in another order."""
    rng, shards = np.random.default_rng(seed), []
    for shard in retriever.shards:
        order = rng.permutation(len(shard.rows))
        shards.append(Shard(shard.vectors[order], shard.rows[order]))
    return replace(retriever, shards=tuple(shards))


def check(context: Context, outcome: np.ndarray) -> None:
    """What holds of every context."""
    present = context.row >= 0
    assert (context.weight >= 0).all()
    assert context.weight.sum(axis=1) == pytest.approx(np.ones(len(context.row)), abs=1e-12)
    assert context.vote == pytest.approx((context.weight * context.outcome).sum(axis=1), abs=1e-12)
    assert (context.weight[~present] == 0).all()
    assert (context.outcome[present] == outcome[context.row[present]]).all()
    assert (np.isfinite(context.sq_distance) == present).all()
    assert (context.outcome[context.floored] == 1).all()
    assert not context.floored[~present].any()
    for row in context.row:
        assert len(set(row[row >= 0])) == (row >= 0).sum()


# ---- by hand -------------------------------------------------------------------------------------


def test_a_vote_by_hand() -> None:
    """At distances 0, 1, 2 with width 1 and temperature .5: e^-d², less what the furthest weighs."""
    retriever = by_distance([np.array([[0.0], [1.0], [2.0], [9.0]])], [1, 0, 0, 1], RetrievalSetting(3, False, 1.0))
    context, head = retriever.context(np.array([[0.0]]))
    mass = np.array([1 - math.exp(-4), math.exp(-1) - math.exp(-4), 0])
    assert context.row.tolist() == [[0, 1, 2]]
    assert context.sq_distance.tolist() == [[0, 1, 4]]
    assert context.weight[0] == pytest.approx(mass / mass.sum())
    assert context.vote == pytest.approx([mass[0] / mass.sum()])
    assert head.tolist() == [0]
    wider = replace(retriever, setting=RetrievalSetting(3, False, 4.0)).context(np.array([[0.0]]))[0]
    assert wider.weight[0, 1] == pytest.approx((math.exp(-0.25) - math.exp(-1)) / (1 + math.exp(-0.25) - 2 * math.exp(-1)))


def test_every_shard_has_an_equal_say() -> None:
    retriever = by_distance(
        [np.array([[0.0], [1.0], [5.0]]), np.array([[7.0], [8.0], [9.0]])], [1, 1, 1, 0, 0, 0], RetrievalSetting(4, False, 1.0)
    )
    context, _ = retriever.context(np.array([[0.0]]))
    assert context.shard.tolist() == [0, 0, 1, 1]
    assert context.row.tolist() == [[0, 1, 3, 4]]
    assert context.weight[0, :2].sum() == pytest.approx(0.5)
    assert context.vote == pytest.approx([0.5])


def test_neighbours_at_equal_distance_have_equal_weights() -> None:
    retriever = by_distance([np.array([[1.0], [-1.0], [1.0]])], [1, 0, 0], RetrievalSetting(3, False, 1.0))
    assert retriever.context(np.array([[0.0]]))[0].weight[0] == pytest.approx([1 / 3] * 3)


def test_a_shard_smaller_than_its_share_leaves_places_empty() -> None:
    retriever = by_distance([np.array([[0.0], [1.0]])], [1, 0], RetrievalSetting(30, True, 1.0))
    context, _ = retriever.context(np.array([[0.0], [0.4]]))
    check(context, retriever.outcome)
    assert (context.row >= 0).sum(axis=1).tolist() == [2, 2]


def test_the_nearest_patients_are_counted_as_similar_and_a_patient_unlike_any_has_none() -> None:
    rng = np.random.default_rng(0)
    cohort = Cohort(n=200)  # few: plain columns
    retriever, _, _, _ = cohort.fit()
    assert all(isinstance(encoder, LinearMetric) for encoder in retriever.encoders)
    usual = retriever.similar_count(retriever.context(rng.normal(size=(20, 4)) * 0.3)[0])
    unlike = retriever.similar_count(retriever.context(np.full((1, 4), 50.0))[0])
    assert usual.min() > 0
    assert unlike.tolist() == [0]


# ---- class floor ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def separated() -> Retriever:
    """Two shards: 90 patients without the outcome around 0, and 10 with it around 2."""
    rng = np.random.default_rng(0)
    places = [np.concatenate([rng.normal(0, 0.5, size=(90, 2)), rng.normal(2, 0.3, size=(10, 2))]) for _ in range(2)]
    return by_distance(places, ([0] * 90 + [1] * 10) * 2, RetrievalSetting(20, True, 1.0))


def test_the_floor_brings_events_flagged_and_only_them(separated: Retriever) -> None:
    context, _ = separated.context(np.zeros((1, 2)))
    check(context, separated.outcome)
    assert context.floored.sum() == 8
    assert context.outcome[~context.floored].sum() == 0
    user_estimators = context.row[context.floored]
    distance = ((np.concatenate([s.vectors for s in separated.shards]) ** 2).sum(axis=1))[separated.outcome == 1]
    nearest = {int(r) for half in (range(90, 100), range(190, 200)) for r in sorted(half, key=lambda r: _of(distance, r))[:4]}
    assert set(user_estimators.tolist()) == nearest
    assert separated.similar_count(context).tolist() == [20]  # those it brought are not similar
    without = replace(separated, setting=RetrievalSetting(20, False, 1.0)).context(np.zeros((1, 2)))[0]
    assert not without.floored.any()
    assert without.row.tolist() == [[r for r, f in zip(context.row[0], context.floored[0], strict=True) if not f and r >= 0]]


def _of(distance: np.ndarray, row: int) -> float:
    return float(distance[(row - 90) if row < 100 else (row - 190 + 10)])


def test_the_floor_does_not_inflate_a_vote_that_knows_no_event(separated: Retriever) -> None:
    query = np.random.default_rng(3).normal(0, 0.6, size=(200, 2))
    plain = replace(separated, setting=RetrievalSetting(20, False, 1.0)).context(query)[0].vote
    floored = separated.context(query)[0].vote
    nobody = plain == 0
    assert nobody.sum() > 100
    assert (floored[nobody] > 0).all()
    assert (floored[nobody] <= 0.1 + 1e-12).all()
    assert floored[nobody].min() < 0.01


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    prevalence=st.sampled_from([0.02, 0.1, 0.4]),
    width=st.sampled_from([1.0, 4.0, 1e6]),
    floor=st.booleans(),
    levels=st.sampled_from([2, 5, None]),
)
def test_votes_add_up_and_the_floor_never_passes_the_prevalence(
    seed: int, prevalence: float, width: float, floor: bool, levels: int | None
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(80, 2)) if levels is None else rng.integers(0, levels, size=(80, 2)).astype(float)
    outcome = (rng.random(80) < prevalence).astype(int)
    outcome[[0, 40]] = 1, 0
    retriever = by_distance([rows[:40], rows[40:]], outcome.tolist(), RetrievalSetting(12, floor, width))
    query = np.concatenate([rows[:5], rng.normal(size=(10, 2)), np.full((1, 2), 1e3)])
    context, _ = retriever.context(query)
    check(context, retriever.outcome)
    if floor:
        share = context.shard == 0
        for part in (share, ~share):
            nobody = ~((context.outcome == 1) & ~context.floored & (context.weight > 0))[:, part].any(axis=1)
            vote = (context.weight * context.outcome)[:, part].sum(axis=1) / context.weight[:, part].sum(axis=1)
            assert (vote[nobody] <= outcome.mean() + 1e-9).all()


def test_the_floor_says_nothing_among_events_only() -> None:
    retriever = by_distance([np.arange(40.0)[:, None]], [1] * 20 + [0] * 20, RetrievalSetting(5, True, 1.0))
    context, _ = retriever.context(np.array([[0.0]]))
    assert context.vote == pytest.approx([1])
    assert context.weight[context.floored].sum() == 0


# ---- cross-fitted shards -------------------------------------------------------------------------


def test_every_shard_holds_the_fold_that_its_encoder_was_trained_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """``test_training.py`` has that encoder f neither learns from fold f nor is stopped by it."""
    cohort = Cohort(seed=1)
    trained: list[AwareEncoder] = []

    def recording(inputs: EncoderInputs, data: TrainingData, *rest: Any) -> list[AwareEncoder]:
        assert np.array_equal(inputs.dense, cohort.x)
        assert np.array_equal(data.fold, cohort.fold)
        trained.extend(train_encoders(inputs, data, *rest))
        return trained

    monkeypatch.setattr(module, "train_encoders", recording)
    retriever, out_of_fold, _, _ = by_encoders(cohort)
    assert list(retriever.encoders) == trained
    for f, (shard, events) in enumerate(zip(retriever.shards, retriever.events, strict=True)):
        stored = set(shard.rows.tolist())
        assert stored == set(np.flatnonzero(cohort.fold == f))
        assert set(events.rows.tolist()) == {r for r in stored if cohort.outcome[r] == 1}
        for row in stored:  # and a stored row is judged by the encoder that never saw it
            neighbours = out_of_fold.row[row]
            assert set(neighbours[neighbours >= 0]) <= stored


def test_no_context_of_a_stored_row_has_a_row_of_its_patient(cohort: Cohort, fitted: Fitted) -> None:
    assert np.bincount(cohort.group).max() >= 3
    for rule in (RetrievalSetting(60, False, 1.0), RetrievalSetting(60, True, 4.0), RetrievalSetting(900, True, 1.0)):
        out_of_fold = cohort.fit((rule,))[1]
        check(out_of_fold, cohort.outcome)
        present = out_of_fold.row >= 0
        patient = np.where(present, cohort.group[out_of_fold.row], -1)
        assert not (patient == cohort.group[:, None]).any()
        assert present.sum(axis=1).min() >= 20


def test_an_out_of_fold_vote_is_the_vote_without_the_patients_rows(cohort: Cohort) -> None:
    rule = RetrievalSetting(60, False, 1.0)
    retriever, out_of_fold, head, _ = cohort.fit((rule,))
    repeated = np.flatnonzero(np.bincount(cohort.group)[cohort.group] > 1)
    for i in [*range(5), *repeated[:10]]:
        f = int(cohort.fold[i])
        shard = retriever.shards[f]
        others = shard.subset(shard.rows[cohort.group[shard.rows] != cohort.group[i]])
        alone = replace(
            retriever,
            encoders=(retriever.encoders[f],),
            heads=retriever.heads[f : f + 1],
            shards=(others,),
            setting=replace(rule, neighbours=20),
        )
        context, logit = alone.context(cohort.x[i : i + 1])
        assert context.row[0].tolist() == out_of_fold.row[i].tolist()
        assert context.vote[0] == pytest.approx(out_of_fold.vote[i], abs=1e-9)
        assert logit[0] == pytest.approx(head[i], abs=1e-9)


def test_the_setting_is_that_with_the_best_out_of_fold_auprc(cohort: Cohort, fitted: Fitted) -> None:
    retriever, out_of_fold, _, trials = fitted
    assert [(trial.embedding, trial.setting) for trial in trials] == [(kind, rule) for kind in EMBEDDINGS for rule in SETTINGS]
    trials = [trial for trial in trials if trial.embedding == EMBEDDINGS[1]]  # the fixture keeps the encoders
    best = max(trials, key=lambda trial: trial.vote_auprc)
    assert retriever.setting == best.setting
    assert best.vote_auprc == pytest.approx(average_precision_score(cohort.outcome, out_of_fold.vote))
    for rule in (SETTINGS[0], SETTINGS[3]):  # a rule tried among others does as it does alone
        alone = by_encoders(cohort, (rule,))[3][1].vote_auprc
        assert alone == pytest.approx(next(t.vote_auprc for t in trials if t.setting == rule))
    assert len({trial.vote_auprc for trial in trials}) > 6
    assert best.vote_auprc > 1.5 * cohort.outcome.mean()


def test_nine_in_ten_stored_rows_have_their_neighbours_within_reach(cohort: Cohort) -> None:
    retriever, out_of_fold, _, _ = cohort.fit((RetrievalSetting(60, False, 1.0),))
    for f in range(3):
        furthest = out_of_fold.sq_distance[cohort.fold == f].max(axis=1)
        assert (furthest <= retriever.radius[f]).mean() == pytest.approx(0.9, abs=0.02)


def test_with_few_rows_or_few_events_no_encoder_is_tried() -> None:
    few_rows, few_events = Cohort(n=299), Cohort(n=400)
    few_events.outcome[np.flatnonzero(few_events.outcome)[29:]] = 0
    for cohort in (few_rows, few_events):
        retriever, out_of_fold, head, _ = cohort.fit()
        assert {type(encoder) for encoder in retriever.encoders} == {LinearMetric}
        assert not head.any()
        assert not retriever.has_head
        check(out_of_fold, cohort.outcome)
    assert few_rows.outcome.sum() >= 30
    enough = Cohort(n=300)
    assert enough.outcome.sum() >= 30
    assert enough.fit(SETTINGS[:1])[0].has_head


def test_metrics_are_chosen_where_they_rank_clearly_better_and_encoders_elsewhere(queries: np.ndarray) -> None:
    """Risk that lies in a product is seen by a network alone; where outcomes are noise neither is better; one step teaches no network."""
    rng = np.random.default_rng(0)
    product, noise, linear = (Cohort(n=1500, patients=1500) for _ in range(3))
    product.x = rng.normal(size=(1500, 12))
    product.outcome = (product.x[:, 0] * product.x[:, 1] > 1).astype(np.int64)
    noise.outcome = rng.permutation(noise.outcome)
    linear.outcome = (linear.x[:, 0] + 0.3 * rng.normal(size=1500) > 1.2).astype(np.int64)
    config = EncoderConfig(steps=300, batch=128, axes=15, hidden=64)
    for cohort, learned in ((product, True), (noise, True), (linear, False)):
        config = config if learned else replace(config, steps=1)
        retriever, out_of_fold, head, trials = cohort.fit(SETTINGS[:2], config)
        assert retriever.embedding == EMBEDDINGS[learned]
        assert retriever.has_head
        selected = [trial for trial in trials if trial.embedding == retriever.embedding]
        assert max(trial.vote_auprc for trial in selected) == pytest.approx(average_precision_score(cohort.outcome, out_of_fold.vote))
        assert head.std() > 0
    heads = np.mean([embed(encoder, queries)[1] for encoder in retriever.heads], axis=0)
    rebuilt = Retriever.from_state(retriever.state())
    assert retriever.context(queries)[1] == pytest.approx(heads)
    assert rebuilt.context(queries)[1] == pytest.approx(heads)
    assert np.array_equal(rebuilt.context(queries)[0].weight, retriever.context(queries)[0].weight)


def test_better_by_more_than_a_standard_error() -> None:
    rng = np.random.default_rng(0)
    outcome = (rng.random(2000) < 0.1).astype(np.int64)
    good = outcome + rng.normal(size=2000)
    data = TrainingData(outcome, np.arange(2000), np.arange(2000) % 2)
    assert module.ranks_clearly_better(good, rng.normal(size=2000), data, 0)
    assert not module.ranks_clearly_better(rng.normal(size=2000), good, data, 0)
    assert not module.ranks_clearly_better(good, good, data, 0)
    near = good + 0.02 * rng.normal(size=2000)
    better, worse = sorted((good, near), key=lambda vote: -average_precision_score(outcome, vote))
    assert not module.ranks_clearly_better(better, worse, data, 0)  # a gain that resampling does not bear out


def test_rows_that_stand_for_many_decide_which_ranks_better() -> None:
    rng = np.random.default_rng(1)
    outcome, noise = (rng.random(2000) < 0.1).astype(np.int64), rng.normal(size=(2, 2000))
    first = np.arange(2000) < 1400
    on_first, on_last = (outcome * 3 * half + one for half, one in zip((first, ~first), noise, strict=True))
    data = TrainingData(outcome, np.arange(2000), np.arange(2000) % 2)
    assert module.ranks_clearly_better(on_first, on_last, data, 0)
    assert module.ranks_clearly_better(on_last, on_first, replace(data, weight=np.where(first, 1.0, 20.0)), 0)


def test_a_fold_that_is_one_patient_gives_finite_votes_or_our_error() -> None:
    cohort = Cohort(n=90)
    cohort.group = np.arange(90) % 3
    cohort.fold = cohort.group
    try:
        retriever, out_of_fold, _, _ = cohort.fit((RetrievalSetting(30, False, 1.0),))
    except NearwardError:
        return
    assert np.isfinite(out_of_fold.vote).all()
    assert np.isfinite(retriever.context(cohort.x)[0].vote).all()


# ---- identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [SETTINGS[0], SETTINGS[3], SETTINGS[-1]])
def test_batch_shuffled_and_one_by_one_votes_agree(fitted: Fitted, queries: np.ndarray, rule: RetrievalSetting) -> None:
    retriever = replace(fitted[0], setting=rule)
    assert isinstance(retriever.encoders[0], AwareEncoder)
    context, head = retriever.context(queries)
    check(context, retriever.outcome)
    order = np.random.default_rng(0).permutation(len(queries))
    other, other_head = retriever.context(queries[order])
    assert other.vote == pytest.approx(context.vote[order], abs=1e-9)
    assert other_head == pytest.approx(head[order], abs=1e-9)
    alone = [retriever.context(queries[i : i + 1]) for i in range(len(queries))]
    assert np.concatenate([one.vote for one, _ in alone]) == pytest.approx(context.vote, abs=1e-9)
    assert np.concatenate([logit for _, logit in alone]) == pytest.approx(head, abs=1e-9)
    assert np.ptp(context.vote) > 0.1


@pytest.mark.parametrize("rule", [SETTINGS[0], SETTINGS[3], SETTINGS[-1]])
def test_the_order_of_the_stored_rows_changes_no_vote(fitted: Fitted, queries: np.ndarray, rule: RetrievalSetting) -> None:
    retriever = replace(fitted[0], setting=rule)
    vote = retriever.context(queries)[0].vote
    for seed in range(3):
        assert shuffled(retriever, seed).context(queries)[0].vote == pytest.approx(vote, abs=1e-5)


@pytest.mark.parametrize("floor", [False, True])
def test_nor_where_more_rows_are_alike_than_a_context_holds(floor: bool) -> None:
    """A table of few levels: the query has hundreds of twins, and which of them are asked must not matter."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, size=(400, 2)).astype(float)
    outcome = (rng.random(400) < 0.1 + 0.4 * rows[:, 0]).astype(int)
    retriever = by_distance([rows[:200], rows[200:]], outcome.tolist(), RetrievalSetting(20, floor, 1.0))
    query = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    vote = retriever.context(query)[0].vote
    for seed in range(3):
        assert shuffled(retriever, seed).context(query)[0].vote == pytest.approx(vote, abs=1e-5)


def test_a_planted_twin_has_the_greatest_weight_of_its_shard(cohort: Cohort, fitted: Fitted) -> None:
    for floor in (False, True):
        retriever = replace(fitted[0], setting=RetrievalSetting(60, floor, 1.0))
        context, _ = retriever.context(cohort.x[:40])
        for i in range(40):
            inside = context.shard == cohort.fold[i]
            weight, row = context.weight[i, inside], context.row[i, inside]
            assert row[weight.argmax()] == i
            assert context.sq_distance[i, inside][weight.argmax()] == 0


def test_the_same_seed_fits_the_same_retriever(cohort: Cohort, fitted: Fitted, queries: np.ndarray) -> None:
    again, out_of_fold, head, _ = by_encoders(cohort)
    assert np.array_equal(again.context(queries)[0].weight, fitted[0].context(queries)[0].weight)
    assert np.array_equal(out_of_fold.weight, fitted[1].weight)
    assert np.array_equal(head, fitted[2])


def test_a_retriever_rebuilt_from_its_state_votes_the_same(fitted: Fitted, queries: np.ndarray) -> None:
    for retriever in (fitted[0], Cohort(n=200).fit(SETTINGS[3:4])[0]):
        rebuilt = Retriever.from_state(retriever.state())
        one, other = retriever.context(queries), rebuilt.context(queries)
        assert np.array_equal(one[0].weight, other[0].weight)
        assert np.array_equal(one[0].row, other[0].row)
        assert np.array_equal(one[1], other[1])
        assert rebuilt.setting == retriever.setting
        assert np.array_equal(rebuilt.similar_count(other[0]), retriever.similar_count(one[0]))


def test_heads_and_gates_are_means_over_the_encoders(fitted: Fitted, queries: np.ndarray) -> None:
    retriever = fitted[0]
    heads = [embed(encoder, queries)[1] for encoder in retriever.encoders]
    assert retriever.context(queries)[1] == pytest.approx(sum(heads) / 3)
    gate = retriever.gate(queries)
    assert gate == pytest.approx(sum(encoder.mean_gate(queries) for encoder in retriever.encoders) / 3)
    assert gate.mean() == pytest.approx(1, abs=1e-6)


def test_progress_is_reported(cohort: Cohort) -> None:
    messages: list[str] = []
    fit_retriever(cohort.x, cohort.data, CONFIG, 0, messages.append, SETTINGS[:1])
    assert messages == ["AWARE encoders", "choice of context"]


# ---- more equals than places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [False, True])
def test_equals_vote_their_share_of_events_under_every_rule_and_on_both_sides(floor: bool) -> None:
    """A thousand patients who are all alike: whatever k, stored or new, the vote is their prevalence."""
    rng = np.random.default_rng(0)
    outcome = (rng.random(1000) < 0.045).astype(np.int64)
    fold = np.arange(1000) % 5
    data = TrainingData(outcome, np.arange(1000), fold)
    x = np.ones((1000, 3))
    for rule in (RetrievalSetting(60, floor, 1.0), RetrievalSetting(125, floor, 1.0), RetrievalSetting(250, floor, 1.0)):
        settings = (rule, RetrievalSetting(250, floor, 4.0))  # a wider rule is searched as well
        retriever, vote, _, _ = fit_retriever(x, data, EncoderConfig(steps=5), 0, lambda _: None, settings)
        retriever = dataclasses.replace(retriever, setting=rule)
        votes = retriever.context(x[:1])[0].vote
        assert votes[0] == pytest.approx(np.mean([outcome[fold == f].mean() for f in range(5)]), abs=1e-12)
    for f in range(5):
        others = (outcome[fold == f].sum() - outcome[fold == f]) / 199
        np.testing.assert_allclose(vote[fold == f], others, atol=1e-12)


def test_a_floored_event_never_outweighs_an_informative_neighbourhood() -> None:
    """Twelve near neighbours, four with the event; two more events just beyond: the vote stays near a third."""
    near = np.sort(np.random.default_rng(1).uniform(0.0, 0.10, 12))[None, :]
    outcome = np.concatenate([[1, 0, 0] * 4, [1, 1], np.zeros(300)])
    neighbours = Neighbours(np.arange(12)[None, :], near, np.array([[12, 13]]), np.array([[0.101, 0.102]]), np.full(1, np.nan))
    votes = [compute_weights(neighbours, outcome, RetrievalSetting(60, floor, 1.0), 0.1).vote[0] for floor in (False, True)]
    prevalence = outcome.mean()
    assert prevalence < votes[1] < votes[0]
    assert votes[1] > votes[0] - 1.5 * (votes[0] - prevalence) / 12
