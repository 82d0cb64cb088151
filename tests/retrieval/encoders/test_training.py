"""Training: no encoder learns from its own fold or is stopped by it; the same seed gives the same network; like patients come together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from nearward.retrieval.encoders import training
from nearward.retrieval.encoders.aware import EncoderConfig, embed
from nearward.retrieval.encoders.training import _Training, train_encoder, train_encoders
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import limit_jobs

CONFIG = EncoderConfig(steps=30, batch=64, axes=7, hidden=16)


def cohort(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, (x[:, 0] - x[:, 1] + 0.3 * rng.normal(size=n) > 1.5).astype(np.int64), rng.integers(0, n // 2, size=n)


def folds(seed: int) -> tuple[np.ndarray, TrainingData]:
    x, outcome, patient_ids = cohort(seed)
    patient_ids = np.unique(patient_ids, return_inverse=True)[1]
    return x, TrainingData(outcome, patient_ids, patient_ids % 3)


def test_an_encoder_does_not_learn_from_its_own_fold() -> None:
    """Other outcomes in fold 1: the encoder of fold 1 is the same, those of the other folds are not."""
    x, data = folds(0)
    one_round = EncoderConfig(steps=2, batch=64, axes=7, hidden=16)
    changed = np.where(data.fold == 1, 1 - data.outcome, data.outcome)
    before, after = (
        [embed(encoder, x)[0] for encoder in train_encoders(x, replace(data, outcome=outcome), one_round, 0)]
        for outcome in (data.outcome, changed)
    )
    assert [np.array_equal(one, other) for one, other in zip(before, after, strict=True)] == [False, True, False]


def test_an_encoder_is_stopped_by_the_other_folds_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, data = folds(0)
    deciding: list[np.ndarray] = []
    monkeypatch.setattr(_Training, "head_loss_of", lambda self, logit, label, weight: deciding.append(label.numpy()) or 0.0)
    train_encoders(x, data, EncoderConfig(steps=2, batch=64, axes=7, hidden=16), 0)
    for f, label in enumerate(deciding):
        others = [data.outcome[data.fold == g] for g in range(3) if g != f]
        assert np.array_equal(label, np.concatenate(others))


def test_training_stops_where_the_others_rows_are_predicted_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses fall for three rounds and rise after: the weights are those of the third, after as many more rounds as the patience."""
    x, data = folds(0)
    rounds: list[int] = []
    best: list[int] = []
    losses = iter([loss for loss in (3.0, 2.0, 1.0, *[4.0] * 20) for _ in range(3)])
    monkeypatch.setattr(_Training, "head_loss_of", lambda *_: next(losses))
    run, finish = _Training.run_round, _Training.finish
    monkeypatch.setattr(_Training, "run_round", lambda self: rounds.append(self.steps) or run(self))
    monkeypatch.setattr(_Training, "finish", lambda self, one, *more: best.append(one.steps) or finish(self, one, *more))
    with limit_jobs(1):
        train_encoders(x, data, EncoderConfig(batch=64, axes=7, hidden=16, patience=4), 0)
    steps = rounds[3]  # after a round of each of three
    assert best == [3 * steps] * 3
    assert len(rounds) == 3 * (3 + 4)


def test_rounds_that_are_trained_ahead_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three trainings on two CPUs take two rounds at a time, and on one or three CPUs one: the encoders are the same."""
    x, data = folds(0)
    monkeypatch.setattr(training, "_AXES_ROWS", 50)  # drawn by the generator that also draws batches
    embeddings, rounds, ran = [], [], []
    run = _Training.run_round
    monkeypatch.setattr(_Training, "run_round", lambda self: ran.append(self) or run(self))
    for cpus in (1, 2, 3):
        losses = iter([loss for loss in (3.0, 2.0, 1.0, *[4.0] * 20) for _ in range(3)])
        monkeypatch.setattr(_Training, "head_loss_of", lambda *_, losses=losses: next(losses))
        ran.clear()
        with limit_jobs(cpus):
            encoders = train_encoders(x, data, EncoderConfig(batch=64, axes=7, hidden=16, patience=4), 0)
        embeddings.append([embed(encoder, x)[0] for encoder in encoders])
        rounds.append(len(ran) / 3)
    assert rounds == [7, 8, 7]
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    np.testing.assert_array_equal(embeddings[0], embeddings[2])


def test_the_same_seed_trains_the_same_network_whatever_was_drawn_before() -> None:
    first = train_encoder(*cohort(0), CONFIG, 0)
    torch.manual_seed(12345)
    np.random.seed(0)  # noqa: NPY002
    again = embed(train_encoder(*cohort(0), CONFIG, 0), cohort(1)[0])
    other = embed(train_encoder(*cohort(0), CONFIG, 1), cohort(1)[0])
    mine = embed(first, cohort(1)[0])
    assert np.array_equal(mine[0], again[0])
    assert np.array_equal(mine[1], again[1])
    assert np.abs(mine[0] - other[0]).max() > 1e-3


def test_where_training_fails_on_a_gpu_it_is_done_on_the_cpu_and_the_log_says_why(monkeypatch, caplog) -> None:
    expected = embed(train_encoder(*cohort(0, n=60), CONFIG, 0), cohort(1)[0])
    monkeypatch.setattr("nearward.retrieval.encoders.training.find_device", lambda: torch.device("meta"))  # holds no numbers
    found = embed(train_encoder(*cohort(0, n=60), CONFIG, 0), cohort(1)[0])
    assert np.array_equal(found[0], expected[0])
    assert [message.split(": ")[0] for message in caplog.messages] == ["training of encoders failed on the GPU and is done on the CPU"]


def test_training_leaves_the_users_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_encoder(*cohort(0, n=60), CONFIG, 0)
    assert torch.equal(torch.rand(3), expected)


def test_training_brings_patients_with_the_same_outcome_together() -> None:
    x, outcome, patient_ids = cohort(0, n=600)
    encoder = train_encoder(x, outcome, patient_ids, EncoderConfig(steps=120, batch=128, axes=7, hidden=32), 0)
    new, truth, _ = cohort(1)
    embedding, head = embed(encoder, new)
    assert roc_auc_score(truth, head) > 0.93
    stored, _ = embed(encoder, x)
    near, plain = cdist(embedding, stored).argsort(axis=1)[:, :15], cdist(new, x).argsort(axis=1)[:, :15]
    learned, raw = (np.abs(outcome[rows] - truth[:, None]).mean() for rows in (near, plain))
    assert learned < raw
    weight = encoder.mean_gate(new)
    assert weight[:2].mean() > weight[2:].mean()
    assert 0.001 < encoder.temperature < 10


def test_fewer_rows_than_a_batch_train_too() -> None:
    x, outcome, patient_ids = cohort(2, n=40)
    outcome[:3] = 1
    embedding, head = embed(train_encoder(x, outcome, patient_ids, EncoderConfig(steps=3, batch=512, axes=3, hidden=8), 0), x)
    assert np.isfinite(embedding).all()
    assert np.isfinite(head).all()


def test_a_class_of_one_patient_is_missing_from_a_fold_and_training_goes_on() -> None:
    """The encoder of that patient's fold never sees the class; all encoders have finite weights."""
    x, data = folds(0)
    class_index = data.outcome.copy()
    class_index[data.patient_ids == 5] = 2
    encoders = train_encoders(x, replace(data, outcome=class_index), EncoderConfig(steps=10, batch=64, axes=7, hidden=16), 0)
    for encoder in encoders:
        embedding, logit = embed(encoder, x)
        assert logit.shape == (300, 3)
        assert np.isfinite(embedding).all()
        assert np.isfinite(logit).all()


def test_a_sample_rich_in_events_gives_the_tables_log_odds() -> None:
    """A table, and all its events with one in eight of its other rows: heads of nearly the same mean risk, that of the table."""
    x, outcome, _ = cohort(3, 4000)
    rng = np.random.default_rng(0)
    rows = np.flatnonzero((outcome == 1) | (rng.random(len(outcome)) < 1 / 8))
    weight = np.where(outcome == 1, 1.0, (outcome == 0).sum() / (outcome[rows] == 0).sum())[rows]
    data = TrainingData(outcome[rows], np.arange(len(rows)), np.arange(len(rows)) % 2, weight)
    config = EncoderConfig(steps=100, batch=64, axes=7, hidden=16)
    encoders = train_encoders(x[rows], data, config, 0)
    risk = np.mean([1 / (1 + np.exp(-embed(encoder, x)[1])) for encoder in encoders], axis=0)
    assert risk.mean() == pytest.approx(outcome.mean(), rel=0.2)
    assert outcome[rows].mean() > 3 * outcome.mean()
    assert roc_auc_score(outcome, risk) > 0.95


def test_weights_of_one_are_no_weights_and_unequal_ones_of_a_class_matter() -> None:
    x, data = folds(1)
    plain, ones, doubled, unequal = (
        embed(train_encoders(x, replace(data, weight=weight), CONFIG, 0)[0], x)
        for weight in (None, np.ones(len(data)), np.full(len(data), 2.0), 1.0 + (x[:, 2] > 0))
    )
    for other in (ones, doubled):
        np.testing.assert_allclose(other[0], plain[0], atol=1e-12)
        np.testing.assert_allclose(other[1], plain[1], atol=1e-12)
    assert np.abs(unequal[1] - plain[1]).max() > 1e-3
