"""The labels of the stored rows: rows taken and classes against the rest keep their sampling weights."""

import numpy as np
import pytest

from nearward.tabular.data.training_data import TrainingData


def _data(weight: np.ndarray | None) -> TrainingData:
    return TrainingData(np.array([0, 2, 1, 0]), np.array([0, 1, 2, 2]), np.array([0, 1, 0, 0]), weight)


def test_the_weights_follow_their_rows():
    data = _data(np.array([3.0, 1.0, 2.0, 2.0]))
    taken = data.take(np.array([2, 1]))
    assert taken.row_weight.tolist() == [2.0, 1.0]
    assert taken.outcome.tolist() == [1, 2]
    one = data.one_vs_rest(2)
    assert one.row_weight.tolist() == [3.0, 1.0, 2.0, 2.0]
    assert (one.n_rows, one.prevalence) == (8.0, 0.125)


def test_without_weights_each_row_counts_once():
    data = _data(None)
    assert data.take(np.array([True, False, True, True])).weight is None
    assert data.row_weight.tolist() == [1.0] * 4
    assert (data.n_rows, data.one_vs_rest(0).prevalence) == (4.0, 0.5)


@pytest.mark.parametrize("most", [30, 77, 400])
def test_a_subsample_stands_for_all_rows(most: int) -> None:
    rng = np.random.default_rng(0)
    outcome = rng.choice(3, 400, p=[0.9, 0.07, 0.03])
    data = TrainingData(outcome, np.arange(400), np.arange(400) % 5, rng.uniform(1, 3, 400))
    rows, sample = data.subsample(most, seed=1)
    assert len(rows) <= most
    assert (np.diff(rows) > 0).all()
    assert sample.outcome.tolist() == outcome[rows].tolist()
    of_class = [np.bincount(one.outcome, weights=one.weight).tolist() for one in (data, sample)]
    assert of_class[1] == pytest.approx(of_class[0])
    rarest = (outcome == 2).sum()
    assert (sample.outcome == 2).sum() == min(rarest, most // 3) or most == 400
    assert data.subsample(most, seed=1)[0].tolist() == rows.tolist()


def test_the_auprc_counts_a_row_as_often_as_it_stands_for() -> None:
    rng = np.random.default_rng(2)
    outcome, score, times = rng.integers(0, 2, 30), rng.random(30).round(1), rng.integers(1, 4, 30)
    weighted = TrainingData(outcome, np.arange(30), np.zeros(30, dtype=int), times.astype(float))
    repeated = TrainingData(np.repeat(outcome, times), np.repeat(np.arange(30), times), np.zeros(times.sum(), dtype=int))
    assert weighted.auprc(score) == pytest.approx(repeated.auprc(np.repeat(score, times)))
    assert weighted.auprc(score) != pytest.approx(TrainingData(outcome, np.arange(30), weighted.fold).auprc(score))
