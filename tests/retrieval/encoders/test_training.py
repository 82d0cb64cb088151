"""Training: the same seed gives the same network, the user's random state is left alone, patients of one outcome come together."""

from __future__ import annotations

import numpy as np
import torch

from nearward.retrieval.encoders.aware import EncoderConfig, embed
from nearward.retrieval.encoders.training import train_encoder

CONFIG = EncoderConfig(steps=30, batch=64, width=8, hidden=16)


def cohort(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, (x[:, 0] - x[:, 1] + 0.3 * rng.normal(size=n) > 1.5).astype(np.int64), rng.integers(0, n // 2, size=n)


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


def test_training_leaves_the_users_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_encoder(*cohort(0, n=60), CONFIG, 0)
    assert torch.equal(torch.rand(3), expected)


def test_training_brings_patients_with_the_same_outcome_together() -> None:
    from sklearn.metrics import roc_auc_score

    x, outcome, patient_ids = cohort(0, n=600)
    encoder = train_encoder(x, outcome, patient_ids, EncoderConfig(steps=120, batch=128, width=8, hidden=32), 0)
    new, truth, _ = cohort(1)
    embedding, head = embed(encoder, new)
    assert roc_auc_score(truth, head) > 0.93
    stored, _ = embed(encoder, x)
    near = np.argsort(-(embedding @ stored.T), axis=1)[:, :15]
    plain = np.argsort(((new[:, None, :] - x[None, :, :]) ** 2).sum(axis=2), axis=1)[:, :15]
    learned, raw = (np.abs(outcome[rows] - truth[:, None]).mean() for rows in (near, plain))
    assert learned < raw
    weight = encoder.mean_gate(new)
    assert weight[:2].mean() > weight[2:].mean()
    assert 0.001 < encoder.temperature < 10


def test_fewer_rows_than_a_batch_train_too() -> None:
    x, outcome, patient_ids = cohort(2, n=40)
    outcome[:3] = 1
    embedding, head = embed(train_encoder(x, outcome, patient_ids, EncoderConfig(steps=3, batch=512, width=4, hidden=8), 0), x)
    assert np.isfinite(embedding).all()
    assert np.isfinite(head).all()
