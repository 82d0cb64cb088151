"""The labels of the stored rows: rows taken and classes against the rest keep their sampling weights."""

import numpy as np

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
