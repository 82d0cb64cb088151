"""Losses of the encoder: soft nearest neighbours against a slow loop; the head's by hand, as limits of the cross-entropy, in training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from nearward.retrieval.encoders.aware import EncoderConfig, embed
from nearward.retrieval.encoders.losses import HeadLoss, focal_loss, soft_nearest_neighbour_loss, tversky_loss
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit, log_loss
from nearward.tabular.errors import InputError

LOGIT, LABEL = torch.tensor([2.0, -1.0, 0.5, -3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])


def slow_loss(embedding: np.ndarray, outcome: np.ndarray, temperature: float, comparable: np.ndarray) -> float:
    losses = []
    for i in range(len(outcome)):
        same = rest = 0.0
        for j in range(len(outcome)):
            if not comparable[i, j]:
                continue
            similarity = math.exp(-(((embedding[i] - embedding[j]) ** 2).sum()) / (2 * temperature))
            same, rest = same + similarity * (outcome[i] == outcome[j]), rest + similarity
        if (comparable[i] & (outcome == outcome[i])).any():
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
    rng = np.random.default_rng(seed)
    raw = torch.tensor(rng.normal(size=(b, 3)), requires_grad=True)
    outcome, ids = rng.integers(0, 2, size=b), rng.integers(0, patients, size=b)
    comparable = ids[:, None] != ids[None, :]
    embedding = F.normalize(raw, dim=1)
    loss = soft_nearest_neighbour_loss(
        embedding, torch.tensor(outcome), torch.tensor(temperature, dtype=torch.float64), torch.tensor(comparable)
    )
    assert loss.item() == pytest.approx(slow_loss(embedding.detach().numpy(), outcome, temperature, comparable), abs=1e-9)
    loss.backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_the_loss_by_hand() -> None:
    """Three unit vectors: two alike with one outcome, one opposite with the other and so without a neighbour."""
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    loss = soft_nearest_neighbour_loss(embedding, torch.tensor([1.0, 1.0, 0.0]), torch.tensor(1.0), ~torch.eye(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_rows_of_one_patient_are_no_neighbours() -> None:
    """Two events of one patient lie together, the only other event among the rest: near neighbours only if rows of one patient counted."""
    raw = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.1, 1.0], [0.05, 1.0]], dtype=torch.float64)
    embedding, outcome, ids = F.normalize(raw, dim=1), torch.tensor([1, 1, 0, 0, 1]), torch.tensor([7, 7, 8, 9, 10])
    temperature = torch.tensor(0.1, dtype=torch.float64)
    comparable, other_rows = ids[:, None] != ids[None, :], ~torch.eye(5, dtype=torch.bool)
    loss = soft_nearest_neighbour_loss(embedding, outcome, temperature, comparable).item()
    assert loss == pytest.approx(slow_loss(embedding.numpy(), outcome.numpy(), 0.1, comparable.numpy()), rel=1e-9)
    assert loss > soft_nearest_neighbour_loss(embedding, outcome, temperature, other_rows).item() + 0.3


def test_the_loss_is_low_where_outcomes_are_separated() -> None:
    outcome = torch.tensor([0.0, 0.0, 1.0, 1.0])
    comparable = ~torch.eye(4, dtype=torch.bool)
    sorted_out = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.1], [-1.0, 0.0]]), dim=1)
    mixed = sorted_out[[0, 2, 1, 3]]
    temperature = torch.tensor(0.3)
    assert soft_nearest_neighbour_loss(sorted_out, outcome, temperature, comparable) < 0.1
    assert soft_nearest_neighbour_loss(mixed, outcome, temperature, comparable) > 1


def test_focal_by_hand() -> None:
    p = LOGIT.sigmoid().numpy()
    own = np.array([p[0], p[1], 1 - p[2], 1 - p[3]])
    assert float(focal_loss(LOGIT, LABEL)) == pytest.approx(np.mean(-((1 - own) ** 2) * np.log(own)), rel=1e-6)
    assert float(focal_loss(LOGIT, LABEL, gamma=0)) == pytest.approx(float(F.binary_cross_entropy_with_logits(LOGIT, LABEL)))


def test_tversky_by_hand() -> None:
    p = LOGIT.sigmoid().numpy()
    tp, fp, fn = p[0] + p[1], p[2] + p[3], 2 - p[0] - p[1]
    for fn_weight in (0.5, 0.9):
        expected = 1 - (tp + 1) / (tp + (1 - fn_weight) * fp + fn_weight * fn + 1)
        assert float(tversky_loss(LOGIT, LABEL, fn_weight)) == pytest.approx(expected, rel=1e-6)
    assert float(tversky_loss(torch.tensor([40.0, -40.0]), torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)


def test_false_negative_weight_follows_the_errors() -> None:
    all_negative, all_positive = HeadLoss("tversky"), HeadLoss("tversky")
    for _ in range(200):
        all_negative(torch.full((20,), -4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
        all_positive(torch.full((20,), 4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
    assert all_negative.fn_weight == pytest.approx(0.9)
    assert all_positive.fn_weight == pytest.approx(0.1)
    for _ in range(5):  # it does not wind up: a few batches of the other error are felt at once
        all_negative(torch.full((20,), 4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
    assert all_negative.fn_weight < 0.8


@pytest.mark.parametrize("loss", ["focal", "tversky"])
def test_trains_and_calibration_corrects_it(loss: str) -> None:
    """The head ranks fresh rows, its probabilities are off, and calibration on holdout rows corrects them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1800, 4))
    outcome = (rng.random(1800) < expit(2 * x[:, 0] + x[:, 1] - 3)).astype(np.int64)
    encoder = train_encoder(x[:600], outcome[:600], np.arange(600), EncoderConfig(steps=60, hidden=64, loss=loss), seed=0)
    logit = embed(encoder, x[600:])[1]
    scores, event = logit[600:], outcome[1200:]
    calibrated = Calibrator.fit(logit[:600], outcome[600:1200]).log_odds(scores)
    assert roc_auc_score(event, scores) > 0.75
    assert log_loss(calibrated, event) < log_loss(scores, event) - 0.02
    assert abs(expit(calibrated).mean() - event.mean()) < 0.04


def test_cross_entropy_is_torchs() -> None:
    assert float(HeadLoss("cross-entropy")(LOGIT, LABEL)) == float(F.binary_cross_entropy_with_logits(LOGIT, LABEL))


def test_invalid_losses_are_rejected() -> None:
    with pytest.raises(InputError, match="loss must be one of"):
        EncoderConfig(loss="hinge")
    with pytest.raises(InputError, match="needs head='plain'"):
        EncoderConfig(loss="focal", head="simplex")
    with pytest.raises(InputError, match="two values"):
        HeadLoss("focal", classes=4)


@pytest.mark.parametrize("kind", ["cross-entropy", "focal", "tversky"])
def test_integer_weights_are_repeated_rows_for_the_head(kind: str) -> None:
    count = torch.tensor([1, 3, 2, 4])
    weight = count / count.sum() * len(count) if kind != "tversky" else count.float()  # means, and sums
    repeated = HeadLoss(kind)(LOGIT.repeat_interleave(count), LABEL.repeat_interleave(count))
    assert float(HeadLoss(kind)(LOGIT, LABEL, weight)) == pytest.approx(float(repeated), rel=1e-6)


def test_integer_weights_are_repeated_rows_for_the_neighbours() -> None:
    """Copies of a row are no neighbours of it, as rows of one patient are not."""
    rng = np.random.default_rng(0)
    embedding = F.normalize(torch.tensor(rng.normal(size=(7, 3))), dim=1)
    outcome, count, ids = torch.tensor([0, 1, 0, 1, 1, 0, 2]), torch.tensor([1, 2, 3, 1, 4, 2, 1]), torch.arange(7)
    temperature = torch.tensor(0.4, dtype=torch.float64)
    comparable = ids[:, None] != ids[None, :]
    copies = ids.repeat_interleave(count)
    repeated = soft_nearest_neighbour_loss(embedding[copies], outcome[copies], temperature, copies[:, None] != copies[None, :])
    weighted = soft_nearest_neighbour_loss(embedding, outcome, temperature, comparable, count.double())
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-9)
