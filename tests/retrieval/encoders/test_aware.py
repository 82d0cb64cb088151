"""The network: its gate, its embeddings, reads that do not convert it, and its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed, network_from_state, network_state
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.preprocessing.table_encoder import RANK_SCALE

CONFIG = EncoderConfig(steps=30, batch=64, axes=7, hidden=16)


def cohort(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, (x[:, 0] - x[:, 1] + 0.3 * rng.normal(size=n) > 1.5).astype(np.int64), rng.integers(0, n // 2, size=n)


@pytest.fixture(scope="module")
def trained() -> AwareEncoder:
    return train_encoder(*cohort(0), CONFIG, 0)


def test_the_gate_starts_as_plain_distance_and_always_averages_one(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    fresh = AwareEncoder(5, CONFIG)
    assert fresh.mean_gate(x) == pytest.approx(np.ones(5), abs=1e-6)
    gate = trained.double().gate(torch.tensor(x)).detach().numpy()
    assert gate.mean(axis=1) == pytest.approx(np.ones(len(x)), abs=1e-6)
    assert (gate > 0).all()
    assert np.ptp(gate, axis=0).max() > 1e-6  # it depends on the patient
    assert trained.mean_gate(x) == pytest.approx(gate.mean(axis=0), abs=1e-9)


def test_embeddings_have_the_axes_of_the_hidden_units_and_an_axis_of_risk(trained: AwareEncoder) -> None:
    x = cohort(0)[0]
    embedding, head = embed(trained, x)
    assert embedding.shape == (300, 8)
    assert head.shape == (300,)
    assert (embedding.dtype, head.dtype) == (np.float64, np.float64)
    assert abs(np.corrcoef(embedding[:, -1], head)[0, 1]) == pytest.approx(1, abs=1e-9)
    variance = embedding.var(axis=0)
    assert variance[-1] == pytest.approx(variance[:-1].sum(), rel=0.3)  # fitted on the training rows among these
    assert (np.diff(variance[:-1]) < 1e-3).all()  # principal axes, the largest first


def test_axes_of_weighted_rows_are_those_of_repeated_rows() -> None:
    x, count = torch.tensor(cohort(2, 60)[0]), torch.arange(60) % 3 + 1
    encoders = [AwareEncoder(5, CONFIG).double() for _ in range(2)]
    encoders[1].load_state_dict(encoders[0].state_dict())
    encoders[0].fit_axes(x, weight=count)
    encoders[1].fit_axes(x.repeat_interleave(count, dim=0))
    for name in ("centre", "risk_centre", "risk_scale"):
        torch.testing.assert_close(getattr(encoders[0], name), getattr(encoders[1], name))
    embedding, repeated = (encoder.embed(x)[0].detach() for encoder in encoders)
    torch.testing.assert_close(embedding.abs(), repeated.abs(), atol=1e-6, rtol=1e-6)


def test_the_members_differ_and_the_head_is_their_mean_probability(trained: AwareEncoder) -> None:
    x = torch.tensor(cohort(1)[0])
    with torch.inference_mode():
        member_logits = trained.double()(x)[1]
    assert member_logits.shape == (CONFIG.members, 300)
    assert member_logits.std(dim=0).min() > 0
    assert torch.sigmoid(torch.tensor(embed(trained, x.numpy())[1])).numpy() == pytest.approx(
        member_logits.sigmoid().mean(dim=0).numpy(), abs=1e-9
    )


def test_bins_of_ranks_are_piecewise_linear_and_their_weights_count_with_the_rank() -> None:
    x = np.zeros((3, 2))
    x[:, 1] = (np.array([0.0, 0.3, 1.0]) - 0.5) * RANK_SCALE
    encoder = AwareEncoder(2, EncoderConfig(hidden=16, bins=4), rank_columns=(1,)).double()
    position = encoder._inputs(torch.tensor(x))[:, 2:].numpy()
    assert position == pytest.approx(np.array([[-0.5] * 4, [0.5, -0.3, -0.5, -0.5], [0.5] * 4]))
    assert encoder.mean_gate(x) == pytest.approx([2 / 6, 10 / 6])  # one column alone, one with its four bins, mean 1


def test_rows_are_embedded_alone_as_in_any_batch(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    embedding, head = embed(trained, x)
    order = np.random.default_rng(0).permutation(300)
    for rows, (other_embedding, other_head) in (
        (order, embed(trained, x[order])),
        (np.arange(300), embed(trained, x, chunk=7)),
        (
            np.arange(300),
            [np.concatenate(part) for part in zip(*(embed(trained, x[i : i + 1]) for i in range(300)), strict=True)],
        ),
    ):
        assert other_embedding == pytest.approx(embedding[rows], abs=1e-12)
        assert other_head == pytest.approx(head[rows], abs=1e-12)


def test_no_rows_give_no_embeddings(trained: AwareEncoder) -> None:
    embedding, head = embed(trained, np.zeros((0, 5)))
    assert embedding.shape == (0, 8)
    assert head.shape == (0,)


def test_dropout_is_off_without_a_generator(trained: AwareEncoder) -> None:
    x = cohort(1)[0]
    assert np.array_equal(embed(trained, x)[0], embed(trained, x)[0])


def test_loading_a_state_leaves_the_users_random_state_alone(trained: AwareEncoder) -> None:
    before = torch.get_rng_state()
    again = network_from_state(network_state(trained))
    assert torch.equal(torch.get_rng_state(), before)
    x = cohort(1)[0]
    assert np.array_equal(embed(again, x)[0], embed(trained, x)[0])


def test_reading_does_not_convert_the_network() -> None:
    """A network in single precision gives double-precision embeddings and column weights, and stays as it is."""
    encoder, x = AwareEncoder(5, CONFIG), cohort(1)[0]
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    embedding, head = embed(encoder, x)
    weights = encoder.mean_gate(x)
    assert encoder.training
    assert all(value.dtype == torch.float32 and torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    double = encoder.double()
    assert np.array_equal(embed(double, x)[0], embedding)
    assert np.array_equal(embed(double, x)[1], head)
    assert np.array_equal(double.mean_gate(x), weights)
