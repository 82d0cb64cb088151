"""The base_learners: no opinion of a stored patient depends on its own outcome; new rows are scored alone as in a batch."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.splits import assign_folds, split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble import base_learners as module
from nearward.tabular.ensemble import boosting
from nearward.tabular.ensemble.base_learners import ADDITIVE, BOOSTING, CATBOOST, BaseLearners, EncodedRows, fit_base_learners, tree_columns
from nearward.tabular.ensemble.closed_form import STRENGTHS
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.level_indices import LevelIndices
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder

USER_SCORES = 3 + 2 + 1 + len(BOOSTING)  # where the user's scores begin


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in module.BOOSTING.values():
        monkeypatch.setitem(setting, "num_iterations", 15)


class Cohort:
    """A small table with numbers, a category, missing values, repeated patients and two scores of the user's own."""

    def __init__(self, seed: int = 0, n: int = 150, encoding: TableEncoder | None = None) -> None:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 2))
        ward = rng.choice(["a", "b", "c"], size=n)
        self.outcome = (x[:, 0] + (ward == "c") + rng.normal(size=n) > 1.3).astype(np.int64)
        frame = pl.DataFrame(
            {
                "x": np.where(rng.random(n) < 0.1, np.nan, x[:, 0]),
                "y": x[:, 1],
                "ward": [None if u < 0.1 else w for u, w in zip(rng.random(n), ward, strict=True)],
            }
        ).with_columns(pl.col("x").fill_nan(None))
        schema = Schema((Column("x"), Column("y"), Column("ward", kind="category")))
        self.encoding = encoding or TableEncoder.fit(schema, frame)
        numbers = self.encoding.encode(frame)
        own = np.column_stack([x[:, 0] * 3 + 10, rng.normal(size=n)])
        own[::7, 0] = np.nan
        self.rows = EncodedRows(self.encoding.to_matrix(numbers), numbers, own)
        patient_ids = np.unique(rng.integers(0, 90, size=n), return_inverse=True)[1]
        self.data = TrainingData(self.outcome, patient_ids, assign_folds(self.outcome, patient_ids, 3, seed))

    def fit(
        self, outcome: np.ndarray | None = None, user_scores: tuple[str, ...] = ("sofa", "saps")
    ) -> tuple[BaseLearners, np.ndarray, np.ndarray]:
        data = self.data if outcome is None else replace(self.data, outcome=outcome)
        return fit_base_learners(self.rows, self.encoding, data, user_scores, 0, lambda _: None)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


def test_every_column_has_a_name(cohort: Cohort) -> None:
    base_learners, out_of_fold, distance = cohort.fit()
    assert out_of_fold.shape == (150, len(base_learners.names))
    assert base_learners.names[:3] == [f"ridge {s:g}" for s in STRENGTHS]
    assert base_learners.names[USER_SCORES:] == ["expert: sofa", "expert: saps"]
    assert distance.shape == (150,)
    assert np.isfinite(out_of_fold).all()
    assert np.isfinite(distance).all()


@pytest.mark.parametrize("row", [0, 50, 101])
def test_no_score_of_a_patient_depends_on_its_own_outcomes(cohort: Cohort, row: int) -> None:
    _, before, _ = cohort.fit()
    own = cohort.data.patient_ids == cohort.data.patient_ids[row]
    flipped = np.where(own, 1 - cohort.outcome, cohort.outcome)
    _, after, _ = cohort.fit(flipped)
    assert after[own] == pytest.approx(before[own], abs=1e-7)
    moved = np.abs(after - before)[~own].max(axis=0)
    assert (moved[:USER_SCORES] > 1e-6).all()  # every fitted base learner learns from it for other patients
    assert (moved[USER_SCORES:] == 0).all()


def test_fold_learners_score_their_own_fold_only(cohort: Cohort) -> None:
    base_learners, out_of_fold, _ = cohort.fit()
    for f in range(3):
        inside = cohort.data.fold == f
        scores = base_learners.folds[f].log_odds(cohort.rows.take(inside))
        assert out_of_fold[inside, 5:USER_SCORES] == pytest.approx(scores, abs=1e-12)
        other = base_learners.folds[(f + 1) % 3].log_odds(cohort.rows.take(inside))
        assert (np.abs(scores - other).max(axis=0) > 1e-3).all()


def test_further_fold_draws_are_averaged_until_the_draw_hardly_matters(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by fits without the patient, until the limit of draws or of the share of luck."""
    monkeypatch.setattr(module, "_MOST_LUCK", 0.0)
    arguments = (cohort.rows, cohort.encoding, cohort.data, ("sofa", "saps"), 0, lambda _: None, "lightgbm")
    repeated, out_of_fold, _ = fit_base_learners(*arguments, repeats=3)
    assert len(repeated.folds) == 3 * 3
    draws = []
    for repeat, seed in enumerate((0, 1000, 2000)):
        fold = cohort.data.fold if repeat == 0 else split_patients(cohort.outcome, cohort.data.patient_ids, 3, seed)
        draws.append(np.empty((150, 1 + len(BOOSTING))))
        for f in range(3):
            draws[-1][fold == f] = repeated.folds[3 * repeat + f].log_odds(cohort.rows.take(fold == f))
    assert out_of_fold[:, 5:USER_SCORES] == pytest.approx(np.mean(draws, axis=0), abs=1e-12)
    assert np.abs(draws[0] - draws[1]).max() > 0.1
    single = fit_base_learners(*arguments)
    assert np.array_equal(single[1][:, 5:USER_SCORES], draws[0])
    monkeypatch.setattr(module, "_MOST_LUCK", 1.0)
    assert len(fit_base_learners(*arguments, repeats=3)[0].folds) == 2 * 3


def test_new_rows_get_the_mean_of_the_folds_and_the_closed_forms(cohort: Cohort) -> None:
    base_learners, _, _ = cohort.fit()
    new = Cohort(1, encoding=cohort.encoding).rows
    scores, distance = base_learners.scores(new)
    for j in range(3):
        assert scores[:, j] == pytest.approx(base_learners.ridge[j].scores(new.dense), abs=1e-12)
    for j in range(2):
        assert scores[:, 3 + j] == pytest.approx(logit(base_learners.kernel[j].predict(new.dense)[0], 1e-3), abs=1e-12)
    assert scores[:, 5:USER_SCORES] == pytest.approx(sum(fold.log_odds(new) for fold in base_learners.folds) / 3, abs=1e-12)
    assert distance == pytest.approx(base_learners.kernel[0].predict(new.dense)[1], abs=1e-12)


def test_user_scores_are_used_as_they_are_with_the_median_for_missing(cohort: Cohort) -> None:
    base_learners, out_of_fold, _ = cohort.fit()
    own = cohort.rows.user_scores
    middle = np.nanmedian(own[:, 0])
    assert base_learners.user_score_fill == pytest.approx([middle, np.median(own[:, 1])])
    assert (out_of_fold[::7, USER_SCORES] == middle).all()
    assert out_of_fold[1, USER_SCORES] == own[1, 0]
    new = Cohort(2, encoding=cohort.encoding).rows
    new.user_scores[:] = [[np.nan, 5.0]]
    assert (base_learners.scores(new)[0][:, USER_SCORES:] == [middle, 5.0]).all()


def test_new_rows_are_scored_alone_as_in_a_batch_and_shuffled(cohort: Cohort) -> None:
    base_learners, _, _ = cohort.fit()
    new = Cohort(3, 40, cohort.encoding).rows
    batch = np.column_stack(base_learners.scores(new))
    alone = np.concatenate([np.column_stack(base_learners.scores(new.take(np.array([i])))) for i in range(40)])
    assert alone == pytest.approx(batch, abs=1e-9)
    order = np.random.default_rng(0).permutation(40)
    assert np.column_stack(base_learners.scores(new.take(order))) == pytest.approx(batch[order], abs=1e-9)


def test_the_same_seed_fits_the_same_base_learners(cohort: Cohort) -> None:
    assert np.array_equal(cohort.fit()[1], cohort.fit()[1])


def test_every_base_learner_ranks_better_than_chance_and_noise_does_not(cohort: Cohort) -> None:
    from sklearn.metrics import roc_auc_score

    base_learners, out_of_fold, _ = cohort.fit()
    new = Cohort(5, 400, cohort.encoding)
    for outcome, scores in ((cohort.outcome, out_of_fold), (new.outcome, base_learners.scores(new.rows)[0])):
        auroc = {name: roc_auc_score(outcome, column) for name, column in zip(base_learners.names, scores.T, strict=True)}
        assert {name for name, value in auroc.items() if value < 0.65} == {"expert: saps"}


def test_a_score_that_is_missing_everywhere_is_refused_or_constant() -> None:
    cohort = Cohort(seed=4)
    cohort.rows.user_scores[:, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            base_learners, out_of_fold, _ = cohort.fit()
        except InputError as error:
            assert "sofa" in str(error)  # noqa: PT017
            return
    assert np.isfinite(out_of_fold).all()
    assert np.isfinite(base_learners.scores(cohort.rows)[0]).all()


def test_trees_are_fitted_on_cross_fit_transform(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    rates_of_folds: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    rates, grow = module.cross_fit_transform, module.boosted_trees

    def recorded_rates(*arguments: object) -> np.ndarray:
        rates_of_folds.append(rates(*arguments))  # type: ignore[arg-type]
        return rates_of_folds[-1]

    def recorded_trees(x: np.ndarray, *arguments: object, sample_weight: None) -> object:
        tables.append(x)
        return grow(x, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "cross_fit_transform", recorded_rates)
    monkeypatch.setattr(module, "boosted_trees", recorded_trees)
    cohort.fit()
    assert {x[:, -1:].tobytes() for x in tables} == {g.astype(np.float32).tobytes() for g in rates_of_folds}
    assert len(rates_of_folds) == cohort.data.n_folds


@pytest.mark.parametrize(("columns", "share"), [(3, 1.0), (64, 1.0), (128, 0.5), (400, 0.2)])
def test_trees_of_a_wide_table_draw_some_of_its_columns(columns: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[object] = []

    def recorded(x: np.ndarray, outcome: np.ndarray, seed: int, *settings: dict[str, object], sample_weight: None) -> tuple[()]:
        shares.extend(setting["feature_fraction"] for setting in settings)
        return ()

    monkeypatch.setattr(module, "boosted_trees", recorded)
    frame = pl.DataFrame(np.random.default_rng(0).normal(size=(60, columns)))
    schema = Schema.infer(frame)
    encoder = TableEncoder.fit(schema, frame)
    rows = EncodedRows(encoder.transform(frame), encoder.encode(frame), np.zeros((60, 0)))
    module._fit_fold(rows, encoder, TrainingData(np.arange(60) % 2, np.arange(60), np.arange(60) % 3), 0, "lightgbm")
    assert shares == [share] * len(BOOSTING)


def test_additive_trees_split_one_column_each() -> None:
    learners, _, _ = Cohort(n=900).fit()
    forest = learners.folds[0].forests[list(BOOSTING).index(ADDITIVE)]
    columns = [set(features[features >= 0].tolist()) for features in np.split(forest.feature, forest.start[1:-1])]
    assert {len(one) for one in columns} == {1}


def test_catboost_joins_the_trees(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("catboost", reason="an extra: nearward[catboost]")
    monkeypatch.setitem(boosting._CATBOOST, "iterations", 20)
    plain, before, _ = cohort.fit()
    base_learners, scores, _ = fit_base_learners(
        cohort.rows, cohort.encoding, cohort.data, ("sofa", "saps"), 0, lambda _: None, "lightgbm+catboost"
    )
    assert base_learners.names == [*plain.names[:USER_SCORES], CATBOOST, *plain.names[USER_SCORES:]]
    assert np.array_equal(np.delete(scores, USER_SCORES, axis=1), before)
    inside = cohort.data.fold == 0
    forest = base_learners.folds[0].forests[-1]
    rates = base_learners.folds[0].target_encoder.transform(cohort.rows.numbers.codes)
    own = forest.scores(tree_columns(cohort.rows.numbers, rates))[inside]
    assert scores[inside, USER_SCORES] == pytest.approx(own, abs=1e-12)


def test_fewer_trees_are_used_where_more_of_them_overfit() -> None:
    x = np.random.default_rng(0).normal(size=(400, 1))
    outcome = (x[:, 0] > 0.8).astype(np.int64)
    encoder = TableEncoder.fit(Schema((Column("x"),)), frame := pl.DataFrame({"x": x[:, 0]}))
    numbers = encoder.encode(frame)
    rows, patients = EncodedRows(encoder.to_matrix(numbers), numbers, np.zeros((400, 0))), np.arange(400)

    def trees(outcome: np.ndarray) -> list[int]:
        data = TrainingData(outcome, patients, assign_folds(outcome, patients, 3, 0))
        return [forest.trees for forest in fit_base_learners(rows, encoder, data, (), 0, lambda _: None)[0].folds[0].forests]

    noise = np.random.default_rng(1).permutation(outcome)
    assert sum(trees(noise)) < 0.8 * sum(trees(outcome))


def test_user_scores_are_optional() -> None:
    cohort = Cohort(seed=6)
    cohort.rows = EncodedRows(cohort.rows.dense, cohort.rows.numbers, np.zeros((150, 0)))
    base_learners, out_of_fold, _ = cohort.fit(user_scores=())
    assert out_of_fold.shape == (150, USER_SCORES)
    assert base_learners.scores(cohort.rows)[0].shape == (150, USER_SCORES)
    assert len(base_learners.names) == USER_SCORES


def test_progress_fold_by_fold(cohort: Cohort) -> None:
    messages: list[str] = []
    fit_base_learners(cohort.rows, cohort.encoding, cohort.data, ("sofa", "saps"), 0, messages.append)
    assert [words.partition("fold ")[2] for words in messages if "fold" in words] == ["1 of 3", "2 of 3", "3 of 3"]


def test_trees_read_ranks_with_nan_for_missing_and_rates() -> None:
    codes, of_lists = np.array([[0], [-1]]), np.array([[1.0], [0.0]], dtype=np.float32)
    numbers = EncodedTable(np.zeros((2, 1)), np.array([[0.25], [np.nan]]), codes, LevelIndices(codes + 1, (2,)), of_lists)
    read = tree_columns(numbers, np.array([[-1.5], [0.5]]))
    assert read.dtype == np.float32
    assert np.array_equal(read, np.array([[0.25, -1.5, 1], [np.nan, 0.5, 0]], dtype=np.float32), equal_nan=True)


def test_rows_are_taken_in_the_order_of_the_indices(cohort: Cohort) -> None:
    some = cohort.rows.take(np.array([5, 2]))
    assert np.array_equal(some.dense, cohort.rows.dense[[5, 2]])
    for part in ("values", "ranks", "codes"):
        assert np.array_equal(getattr(some.numbers, part), getattr(cohort.rows.numbers, part)[[5, 2]], equal_nan=part != "codes")
    assert np.array_equal(some.user_scores, cohort.rows.user_scores[[5, 2]], equal_nan=True)


def test_trees_see_the_sample_and_are_shifted_to_the_whole_table(cohort: Cohort) -> None:
    """Where weights depend on the outcome alone; the other learners use them as they are."""
    weight = np.where(cohort.outcome == 1, 1.0, 9.0)
    plain, before, _ = cohort.fit()
    sampled, after, _ = fit_base_learners(
        cohort.rows, cohort.encoding, replace(cohort.data, weight=weight), ("sofa", "saps"), 0, lambda _: None
    )
    for one, other in zip(plain.folds, sampled.folds, strict=True):
        rates = [fold.target_encoder.transform(cohort.rows.numbers.codes) for fold in (one, other)]
        assert (rates[1] < rates[0] - 1).all()  # of the whole table, with nine times as many rows without the event
        for forest, shifted in zip(one.forests, other.forests, strict=True):
            assert shifted.base == pytest.approx(forest.base - np.log(9))
    assert (after[:, :USER_SCORES].mean(axis=0) < before[:, :USER_SCORES].mean(axis=0)).all()


def test_within_an_outcome_trees_weigh_rows() -> None:
    outcome, weight = np.array([1, 0, 0, 0]), np.array([2.0, 1.0, 1.0, 4.0])
    within, shift = module._weights_of_trees(outcome, weight)
    assert within is not None
    assert within.tolist() == [1.0, 0.5, 0.5, 2.0]
    assert shift == pytest.approx(0.0)
    assert module._weights_of_trees(outcome, None) == (None, 0.0)
    assert module._weights_of_trees(outcome, np.array([1.0, 9.0, 9.0, 9.0])) == (None, pytest.approx(-np.log(9)))


def test_weighted_rows_are_repeated_rows_of_the_same_patients(cohort: Cohort) -> None:
    """Ridge and logistic regression; kernels count references, and trees rows. Three times as many of each: the folds are the same."""
    row = np.repeat(np.arange(150), 3)
    _, weighted, _ = fit_base_learners(
        cohort.rows, cohort.encoding, replace(cohort.data, weight=np.full(150, 3.0)), ("sofa", "saps"), 0, lambda _: None
    )
    _, repeated, _ = fit_base_learners(cohort.rows.take(row), cohort.encoding, cohort.data.take(row), ("sofa", "saps"), 0, lambda _: None)
    exact = [0, 1, 2, 5, USER_SCORES, USER_SCORES + 1]
    assert weighted[row][:, exact] == pytest.approx(repeated[:, exact], abs=1e-6)
