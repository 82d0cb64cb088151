"""The simplex head: equal angles, a loss by hand, and that a rare class gets as much room as a common one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearward.retrieval.encoders.aware import EncoderConfig, embed, network_from_state, network_state
from nearward.retrieval.encoders.simplex_head import SimplexHead, dot_regression, simplex_frame
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.errors import InputError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("classes", "width"), [(2, 2), (4, 4), (4, 32), (10, 64)])
def test_vertices_have_length_one_and_equal_angles(classes: int, width: int) -> None:
    frame = simplex_frame(classes, width, rng()).double()
    expected = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64).fill_diagonal_(1.0)
    torch.testing.assert_close(frame @ frame.T, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(frame.sum(dim=0), torch.zeros(width, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_loss_by_hand() -> None:
    cosine = torch.tensor([[1.0, -0.5, -0.5], [0.0, 0.5, 0.2]])
    assert dot_regression(cosine, torch.tensor([0, 1])).item() == pytest.approx((0 + 0.5**2) / 4)
    assert dot_regression(cosine, torch.tensor([1, 1])).item() > 0.5  # the wrong vertex


def test_invalid_sizes_are_rejected() -> None:
    with pytest.raises(InputError, match="4 classes or more"):
        SimplexHead(16, 3, rng())
    with pytest.raises(InputError, match="at least as many units"):
        SimplexHead(5, 6, rng())
    with pytest.raises(InputError, match="4 classes or more"):
        train_encoder(np.eye(4), np.array([0, 1, 0, 1]), np.arange(4), EncoderConfig(steps=1, head="simplex"), 0)


@pytest.fixture(scope="module")
def long_tail() -> tuple[np.ndarray, np.ndarray]:
    """Five well separated classes, 400 rows of the first and 12 of the last."""
    rows = np.random.default_rng(0)
    class_index = np.repeat(np.arange(5), [400, 120, 60, 30, 12])
    centre = 2.5 * np.eye(5, 8)
    return centre[class_index] + rows.normal(size=(len(class_index), 8)), class_index


def test_classes_are_learned_and_the_vertices_stay_fixed(long_tail: tuple[np.ndarray, np.ndarray]) -> None:
    x, class_index = long_tail
    config = EncoderConfig(steps=150, hidden=32, axes=7, head="simplex")
    encoder = train_encoder(x, class_index, np.arange(len(x)), config, 0)
    assert isinstance(encoder.head, SimplexHead)
    torch.testing.assert_close(encoder.head.frame.float(), simplex_frame(5, 32, rng()))
    assert not any(name.endswith("frame") for name, _ in encoder.named_parameters())
    rows = np.random.default_rng(1)
    fresh = np.repeat(np.arange(5), 40)
    logit = embed(encoder, 2.5 * np.eye(5, 8)[fresh] + rows.normal(size=(200, 8)))[1]
    assert logit.shape == (200, 5)
    recall = [(logit[fresh == j].argmax(axis=1) == j).mean() for j in range(5)]
    assert min(recall) > 0.5  # the twelve rows' class among them; by chance .2
    again = network_from_state(network_state(encoder))
    np.testing.assert_array_equal(embed(again, x)[1], embed(encoder, x)[1])
