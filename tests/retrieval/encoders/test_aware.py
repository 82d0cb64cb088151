"""The encoder: its loss against a slow loop, no patient near itself, the same seed the same network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nearward.retrieval.encoders.aware import (
    AwareEncoder,
    EncoderConfig,
    embed,
    network_from_state,
    network_state,
    soft_nearest_neighbour_loss,
    train_encoder,
)

CONFIG = EncoderConfig(steps=30, batch=64, width=8, hidden=16)


def cohort(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 5))
    return x, (x[:, 0] - x[:, 1] + 0.3 * draw.normal(size=n) > 1.5).astype(np.int64), draw.integers(0, n // 2, size=n)


@pytest.fixture(scope="module")
def trained() -> AwareEncoder:
    return train_encoder(*cohort(0), CONFIG, 0)


# ---- loss ----------------------------------------------------------------------------------------


def slow_loss(embedding: np.ndarray, outcome: np.ndarray, temperature: float, apart: np.ndarray) -> float:
    losses = []
    for i in range(len(outcome)):
        same = rest = 0.0
        for j in range(len(outcome)):
            if not apart[i, j]:
                continue
            closeness = math.exp(-(((embedding[i] - embedding[j]) ** 2).sum()) / (2 * temperature))
            same, rest = same + closeness * (outcome[i] == outcome[j]), rest + closeness
        if (apart[i] & (outcome == outcome[i])).any():
            losses.append(-math.log(same / rest))
    return float(np.mean(losses)) if losses else 0.0


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    b=st.integers(1, 12),
    patients=st.integers(1, 12),
    temperature=st.sampled_from([0.05, 0.3, 2.0]),
)
def test_the_loss_equals_the_slow_loop_and_has_a_gradient(seed: int, b: int, patients: int, temperature: float) -> None:
    draw = np.random.default_rng(seed)
    raw = torch.tensor(draw.normal(size=(b, 3)), requires_grad=True)
    outcome, owner = draw.integers(0, 2, size=b), draw.integers(0, patients, size=b)
    apart = owner[:, None] != owner[None, :]
    embedding = F.normalize(raw, dim=1)
    loss = soft_nearest_neighbour_loss(
        embedding, torch.tensor(outcome), torch.tensor(temperature, dtype=torch.float64), torch.tensor(apart)
    )
    assert loss.item() == pytest.approx(slow_loss(embedding.detach().numpy(), outcome, temperature, apart), abs=1e-9)
    loss.backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_the_loss_by_hand() -> None:
    """Three unit vectors: two alike with one outcome, one opposite with the other and so with nobody to be near."""
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    loss = soft_nearest_neighbour_loss(embedding, torch.tensor([1.0, 1.0, 0.0]), torch.tensor(1.0), ~torch.eye(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_rows_of_one_patient_are_no_neighbours() -> None:
    """Two events of one patient lie together, the only other event among the rest: well placed only to look at."""
    raw = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.1, 1.0], [0.05, 1.0]], dtype=torch.float64)
    embedding, outcome, owner = F.normalize(raw, dim=1), torch.tensor([1, 1, 0, 0, 1]), torch.tensor([7, 7, 8, 9, 10])
    temperature = torch.tensor(0.1, dtype=torch.float64)
    apart, rows_apart = owner[:, None] != owner[None, :], ~torch.eye(5, dtype=torch.bool)
    loss = soft_nearest_neighbour_loss(embedding, outcome, temperature, apart).item()
    assert loss == pytest.approx(slow_loss(embedding.numpy(), outcome.numpy(), 0.1, apart.numpy()), rel=1e-9)
    assert loss > soft_nearest_neighbour_loss(embedding, outcome, temperature, rows_apart).item() + 0.3


def test_the_loss_is_least_where_outcomes_stand_apart() -> None:
    outcome = torch.tensor([0.0, 0.0, 1.0, 1.0])
    apart = ~torch.eye(4, dtype=torch.bool)
    sorted_out = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.1], [-1.0, 0.0]]), dim=1)
    mixed = sorted_out[[0, 2, 1, 3]]
    temperature = torch.tensor(0.3)
    assert soft_nearest_neighbour_loss(sorted_out, outcome, temperature, apart) < 0.1
    assert soft_nearest_neighbour_loss(mixed, outcome, temperature, apart) > 1


# ---- network -------------------------------------------------------------------------------------


def test_the_gate_starts_as_plain_distance_and_always_averages_one(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    fresh = AwareEncoder(5, CONFIG)
    assert fresh.mean_gate(x) == pytest.approx(np.ones(5), abs=1e-6)
    gate = trained.double().gate(torch.tensor(x)).detach().numpy()
    assert gate.mean(axis=1) == pytest.approx(np.ones(len(x)), abs=1e-6)
    assert (gate > 0).all()
    assert np.ptp(gate, axis=0).max() > 1e-6  # it does look at the patient
    assert trained.mean_gate(x) == pytest.approx(gate.mean(axis=0), abs=1e-9)


def test_embeddings_are_unit_vectors_of_the_asked_width(trained: AwareEncoder) -> None:
    place, head = embed(trained, cohort(1)[0])
    assert place.shape == (300, 8)
    assert head.shape == (300,)
    assert (place.dtype, head.dtype) == (np.float64, np.float64)
    assert np.linalg.norm(place, axis=1) == pytest.approx(np.ones(300), abs=1e-9)


def test_rows_are_embedded_alone_as_in_any_batch(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    place, head = embed(trained, x)
    order = np.random.default_rng(0).permutation(300)
    for rows, (other_place, other_head) in (
        (order, embed(trained, x[order])),
        (np.arange(300), embed(trained, x, chunk=7)),
        (
            np.arange(300),
            [np.concatenate(part) for part in zip(*(embed(trained, x[i : i + 1]) for i in range(300)), strict=True)],
        ),
    ):
        assert other_place == pytest.approx(place[rows], abs=1e-12)
        assert other_head == pytest.approx(head[rows], abs=1e-12)


def test_no_rows_give_no_embeddings(trained: AwareEncoder) -> None:
    place, head = embed(trained, np.zeros((0, 5)))
    assert place.shape == (0, 8)
    assert head.shape == (0,)


def test_dropout_sleeps_after_training(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    assert np.array_equal(embed(trained, x)[0], embed(trained, x)[0])


def test_the_same_seed_trains_the_same_network_whatever_was_drawn_before(trained: AwareEncoder) -> None:
    torch.manual_seed(12345)
    np.random.seed(0)  # noqa: NPY002
    again = embed(train_encoder(*cohort(0), CONFIG, 0), cohort(1)[0])
    other = embed(train_encoder(*cohort(0), CONFIG, 1), cohort(1)[0])
    mine = embed(trained, cohort(1)[0])
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

    x, outcome, group = cohort(0, n=600)
    encoder = train_encoder(x, outcome, group, EncoderConfig(steps=120, batch=128, width=8, hidden=32), 0)
    new, truth, _ = cohort(1)
    place, head = embed(encoder, new)
    assert roc_auc_score(truth, head) > 0.93
    stored, _ = embed(encoder, x)
    near = np.argsort(-(place @ stored.T), axis=1)[:, :15]
    plain = np.argsort(((new[:, None, :] - x[None, :, :]) ** 2).sum(axis=2), axis=1)[:, :15]
    learned, raw = (np.abs(outcome[rows] - truth[:, None]).mean() for rows in (near, plain))
    assert learned < raw
    weight = encoder.mean_gate(new)
    assert weight[:2].mean() > weight[2:].mean()
    assert 0.001 < encoder.temperature < 10


def test_fewer_rows_than_a_batch_train_too() -> None:
    x, outcome, group = cohort(2, n=40)
    outcome[:3] = 1
    place, head = embed(train_encoder(x, outcome, group, EncoderConfig(steps=3, batch=512, width=4, hidden=8), 0), x)
    assert np.isfinite(place).all()
    assert np.isfinite(head).all()


def test_a_network_that_is_read_leaves_the_users_random_numbers_alone(trained) -> None:
    before = torch.get_rng_state()
    again = network_from_state(network_state(trained))
    assert torch.equal(torch.get_rng_state(), before)
    x = cohort(1)[0]
    assert np.array_equal(embed(again, x)[0], embed(trained, x)[0])
