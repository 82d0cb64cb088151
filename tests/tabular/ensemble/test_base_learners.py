"""The panel: no opinion of a stored patient depends on its own outcome; new rows are scored alone as in a batch."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble import base_learners as module
from nearward.tabular.ensemble.base_learners import FOLD_LEARNERS, BaseLearners, Columns, fit_base_learners, tree_columns
from nearward.tabular.ensemble.closed_form import STRENGTHS
from nearward.tabular.errors import InputError
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder

OWN = 3 + 2 + len(FOLD_LEARNERS)  # where the user's scores begin


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEEP", {**module._DEEP, "max_iter": 12})
    monkeypatch.setattr(module, "_SHALLOW", {**module._SHALLOW, "max_iter": 8})
    monkeypatch.setattr(module, "_TREES", 9)


class Cohort:
    """A small table with numbers, a category, missing values, repeated patients and two scores of the user's own."""

    def __init__(self, seed: int = 0, n: int = 150, encoding: TableEncoder | None = None) -> None:
        draw = np.random.default_rng(seed)
        x = draw.normal(size=(n, 2))
        ward = draw.choice(["a", "b", "c"], size=n)
        self.outcome = (x[:, 0] + (ward == "c") + draw.normal(size=n) > 1.3).astype(np.int64)
        frame = pl.DataFrame(
            {
                "x": np.where(draw.random(n) < 0.1, np.nan, x[:, 0]),
                "y": x[:, 1],
                "ward": [None if u < 0.1 else w for u, w in zip(draw.random(n), ward, strict=True)],
            }
        ).with_columns(pl.col("x").fill_nan(None))
        schema = Schema((Column("x"), Column("y"), Column("ward", kind="category")))
        self.encoding = encoding or TableEncoder.fit(schema, frame)
        numbers = self.encoding.encode(frame)
        own = np.column_stack([x[:, 0] * 3 + 10, draw.normal(size=n)])
        own[::7, 0] = np.nan
        self.rows = Columns(self.encoding.to_matrix(numbers), numbers, own)
        patient_ids = np.unique(draw.integers(0, 90, size=n), return_inverse=True)[1]
        self.data = TrainingData(self.outcome, patient_ids, assign_folds(self.outcome, patient_ids, 3, seed))

    def fit(
        self, outcome: np.ndarray | None = None, own: tuple[str, ...] = ("sofa", "saps")
    ) -> tuple[BaseLearners, np.ndarray, np.ndarray]:
        data = self.data if outcome is None else replace(self.data, outcome=outcome)
        return fit_base_learners(self.rows, self.encoding, data, own, 0, lambda _: None)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort()


def test_there_is_a_name_for_every_column(cohort: Cohort) -> None:
    panel, out_of_fold, distance = cohort.fit()
    assert out_of_fold.shape == (150, len(panel.names))
    assert panel.names[:3] == [f"ridge {s:g}" for s in STRENGTHS]
    assert panel.names[OWN:] == ["own: sofa", "own: saps"]
    assert distance.shape == (150,)
    assert np.isfinite(out_of_fold).all()
    assert np.isfinite(distance).all()


@pytest.mark.parametrize("row", [0, 50, 101])
def test_no_opinion_of_a_patient_depends_on_that_patients_outcomes(cohort: Cohort, row: int) -> None:
    _, before, _ = cohort.fit()
    own = cohort.data.patient_ids == cohort.data.patient_ids[row]
    flipped = np.where(own, 1 - cohort.outcome, cohort.outcome)
    _, after, _ = cohort.fit(flipped)
    assert after[own] == pytest.approx(before[own], abs=1e-7)
    moved = np.abs(after - before)[~own].max(axis=0)
    assert (moved[:OWN] > 1e-6).all()  # every fitted member does learn from it elsewhere
    assert (moved[OWN:] == 0).all()


def test_fold_members_answer_for_their_own_fold_only(cohort: Cohort) -> None:
    panel, out_of_fold, _ = cohort.fit()
    for f in range(3):
        inside = cohort.data.fold == f
        answers = panel.folds[f].log_odds(cohort.rows.take(inside))
        assert out_of_fold[inside, 5:OWN] == pytest.approx(answers, abs=1e-12)
        other = panel.folds[(f + 1) % 3].log_odds(cohort.rows.take(inside))
        assert (np.abs(answers - other).max(axis=0) > 1e-3).all()


def test_new_rows_get_the_mean_of_the_folds_and_the_closed_forms(cohort: Cohort) -> None:
    panel, _, _ = cohort.fit()
    new = Cohort(1, encoding=cohort.encoding).rows
    scores, distance = panel.scores(new)
    for j in range(3):
        assert scores[:, j] == pytest.approx(panel.ridge[j].scores(new.dense), abs=1e-12)
    for j in range(2):
        assert scores[:, 3 + j] == pytest.approx(logit(panel.kernel[j].around(new.dense)[0], 1e-3), abs=1e-12)
    assert scores[:, 5:OWN] == pytest.approx(sum(fold.log_odds(new) for fold in panel.folds) / 3, abs=1e-12)
    assert distance == pytest.approx(panel.kernel[0].around(new.dense)[1], abs=1e-12)


def test_own_scores_stand_as_they_are_with_the_median_for_missing(cohort: Cohort) -> None:
    panel, out_of_fold, _ = cohort.fit()
    own = cohort.rows.own
    middle = np.nanmedian(own[:, 0])
    assert panel.own_fill == pytest.approx([middle, np.median(own[:, 1])])
    assert (out_of_fold[::7, OWN] == middle).all()
    assert out_of_fold[1, OWN] == own[1, 0]
    asked = Cohort(2, encoding=cohort.encoding).rows
    asked.own[:] = [[np.nan, 5.0]]
    assert (panel.scores(asked)[0][:, OWN:] == [middle, 5.0]).all()


def test_new_rows_are_scored_alone_as_in_a_batch_and_shuffled(cohort: Cohort) -> None:
    panel, _, _ = cohort.fit()
    new = Cohort(3, 40, cohort.encoding).rows
    batch = np.column_stack(panel.scores(new))
    alone = np.concatenate([np.column_stack(panel.scores(new.take(np.array([i])))) for i in range(40)])
    assert alone == pytest.approx(batch, abs=1e-9)
    order = np.random.default_rng(0).permutation(40)
    assert np.column_stack(panel.scores(new.take(order))) == pytest.approx(batch[order], abs=1e-9)


def test_the_same_seed_fits_the_same_panel(cohort: Cohort) -> None:
    assert np.array_equal(cohort.fit()[1], cohort.fit()[1])


def test_every_member_ranks_better_than_chance_and_noise_does_not(cohort: Cohort) -> None:
    from sklearn.metrics import roc_auc_score

    panel, out_of_fold, _ = cohort.fit()
    new = Cohort(5, 400, cohort.encoding)
    for outcome, scores in ((cohort.outcome, out_of_fold), (new.outcome, panel.scores(new.rows)[0])):
        auroc = {name: roc_auc_score(outcome, column) for name, column in zip(panel.names, scores.T, strict=True)}
        assert {name for name, value in auroc.items() if value < 0.65} == {"own: saps"}


def test_a_score_that_is_missing_everywhere_is_refused_or_says_nothing() -> None:
    cohort = Cohort(seed=4)
    cohort.rows.own[:, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            panel, out_of_fold, _ = cohort.fit()
        except InputError as error:
            assert "sofa" in str(error)  # noqa: PT017
            return
    assert np.isfinite(out_of_fold).all()
    assert np.isfinite(panel.scores(cohort.rows)[0]).all()


def test_trees_are_grown_on_rates_that_no_row_gave_its_own_outcome_to(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[np.ndarray] = []
    read: list[np.ndarray] = []
    rates, grow = module.cross_fit_transform, module.extra_trees

    def recorded_rates(*asked: object) -> np.ndarray:
        given.append(rates(*asked))  # type: ignore[arg-type]
        return given[-1]

    def recorded_trees(x: np.ndarray, *asked: object, **how: object) -> object:
        read.append(x)
        return grow(x, *asked, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "cross_fit_transform", recorded_rates)
    monkeypatch.setattr(module, "extra_trees", recorded_trees)
    cohort.fit()
    assert {x[:, -1:].tobytes() for x in read} == {g.astype(np.float32).tobytes() for g in given}
    assert len(given) == cohort.data.n_folds


def test_no_own_scores_are_fine() -> None:
    cohort = Cohort(seed=6)
    cohort.rows = Columns(cohort.rows.dense, cohort.rows.numbers, np.zeros((150, 0)))
    panel, out_of_fold, _ = cohort.fit(own=())
    assert out_of_fold.shape == (150, OWN)
    assert panel.scores(cohort.rows)[0].shape == (150, OWN)
    assert len(panel.names) == OWN


def test_progress_is_told_fold_by_fold(cohort: Cohort) -> None:
    told: list[str] = []
    fit_base_learners(cohort.rows, cohort.encoding, cohort.data, ("sofa", "saps"), 0, told.append)
    assert [words.partition("fold ")[2] for words in told if "fold" in words] == ["1 of 3", "2 of 3", "3 of 3"]


def test_trees_read_ranks_with_nan_for_missing_and_rates() -> None:
    numbers = EncodedTable(np.zeros((2, 1)), np.array([[0.25], [np.nan]]), np.array([[0], [-1]]))
    read = tree_columns(numbers, np.array([[-1.5], [0.5]]))
    assert read.dtype == np.float32
    assert np.array_equal(read, np.array([[0.25, -1.5], [np.nan, 0.5]], dtype=np.float32), equal_nan=True)


def test_rows_are_taken_in_the_asked_order(cohort: Cohort) -> None:
    some = cohort.rows.take(np.array([5, 2]))
    assert np.array_equal(some.dense, cohort.rows.dense[[5, 2]])
    for part in ("values", "ranks", "codes"):
        assert np.array_equal(getattr(some.numbers, part), getattr(cohort.rows.numbers, part)[[5, 2]], equal_nan=part != "codes")
    assert np.array_equal(some.own, cohort.rows.own[[5, 2]], equal_nan=True)
