"""Losses of the encoder's head: by hand, as limits of the cross-entropy, and in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from nearward.retrieval.encoders.aware import EncoderConfig, embed, train_encoder
from nearward.retrieval.encoders.losses import HeadLoss, focal_loss, tversky_loss
from nearward.tabular.calibration.calibrator import Calibrator, log_loss, logistic
from nearward.tabular.errors import InputError

LOGIT, LABEL = torch.tensor([2.0, -1.0, 0.5, -3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])


def test_focal_by_hand() -> None:
    p = LOGIT.sigmoid().numpy()
    own = np.array([p[0], p[1], 1 - p[2], 1 - p[3]])
    assert float(focal_loss(LOGIT, LABEL)) == pytest.approx(np.mean(-((1 - own) ** 2) * np.log(own)), rel=1e-6)
    assert float(focal_loss(LOGIT, LABEL, focus=0)) == pytest.approx(float(F.binary_cross_entropy_with_logits(LOGIT, LABEL)))


def test_tversky_by_hand() -> None:
    p = LOGIT.sigmoid().numpy()
    hits, false, misses = p[0] + p[1], p[2] + p[3], 2 - p[0] - p[1]
    for missed in (0.5, 0.9):
        want = 1 - (hits + 1) / (hits + (1 - missed) * false + missed * misses + 1)
        assert float(tversky_loss(LOGIT, LABEL, missed)) == pytest.approx(want, rel=1e-6)
    assert float(tversky_loss(torch.tensor([40.0, -40.0]), torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)


def test_weight_on_misses_follows_the_errors() -> None:
    misser, caller = HeadLoss("tversky"), HeadLoss("tversky")
    for _ in range(200):
        misser(torch.full((20,), -4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
        caller(torch.full((20,), 4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
    assert misser.missed == pytest.approx(0.9)
    assert caller.missed == pytest.approx(0.1)
    for _ in range(5):  # it does not wind up: a few batches of the other error are felt at once
        misser(torch.full((20,), 4.0), torch.tensor([1.0] * 5 + [0.0] * 15))
    assert misser.missed < 0.8


@pytest.mark.parametrize("loss", ["focal", "tversky"])
def test_trains_and_is_mended_by_calibration(loss: str) -> None:
    """The head ranks fresh rows, its own probabilities are off, and calibration on rows left out mends them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1800, 4))
    outcome = (draw.random(1800) < logistic(2 * x[:, 0] + x[:, 1] - 3)).astype(np.int64)
    encoder = train_encoder(x[:600], outcome[:600], np.arange(600), EncoderConfig(steps=60, hidden=64, loss=loss), seed=0)
    logit = embed(encoder, x[600:])[1]
    asked, event = logit[600:], outcome[1200:]
    mended = Calibrator.fit(logit[:600], outcome[600:1200]).log_odds(asked)
    assert roc_auc_score(event, asked) > 0.75
    assert log_loss(mended, event) < log_loss(asked, event) - 0.02
    assert abs(logistic(mended).mean() - event.mean()) < 0.04


def test_plain_loss_is_what_it_was() -> None:
    assert float(HeadLoss("cross-entropy")(LOGIT, LABEL)) == float(F.binary_cross_entropy_with_logits(LOGIT, LABEL))


def test_refusals() -> None:
    with pytest.raises(InputError, match="loss must be one of"):
        EncoderConfig(loss="hinge")
    with pytest.raises(InputError, match="plain head"):
        EncoderConfig(loss="focal", head="simplex")
    with pytest.raises(InputError, match="two values"):
        HeadLoss("focal", classes=4)
