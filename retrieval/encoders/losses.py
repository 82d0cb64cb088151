"""Losses for the encoder's head that favour the rarer class: focal and Tversky.

Either leaves log-odds that are no longer anybody's odds. They are safe here because the head is only one member of the stack, and the
risk is calibrated on rows left out after it; who uses a head alone must calibrate it himself.

Letters: b batch.

References
----------
Lin et al.: Focal loss for dense object detection (2017). Salehi, Erdogmus, Gholipour: Tversky loss function for image segmentation (2017);
adapting its two weights with a PID controller in training follows later work on imbalanced images. The gains are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nearward.tabular.alerting.pid import PID
from nearward.tabular.errors import InputError

LOSSES = ("cross-entropy", "focal", "tversky")
_FOCUS = 2.0
_LEAST, _MOST = 0.1, 0.9  # of the weight on missed events: neither kind of error is ever free


def focal_loss(logit: Tensor, label: Tensor, focus: float = _FOCUS) -> Tensor:
    """Return the mean cross-entropy, each row weighed by (1 - p of its own class) ** focus; with focus 0 it is the cross-entropy.

    Parameters
    ----------
    logit : (b,), log-odds
    label : (b,), 0 or 1
    """
    entropy = F.binary_cross_entropy_with_logits(logit, label, reduction="none")
    return ((1 - (-entropy).exp()) ** focus * entropy).mean()


def tversky_loss(logit: Tensor, label: Tensor, missed: float = 0.5) -> Tensor:
    """Return 1 - hits / (hits + (1 - missed) * false alarms + missed * misses), counted softly over the batch.

    Parameters
    ----------
    logit : (b,), log-odds
    label : (b,), 0 or 1
    missed : float
        Weight of a missed event, a false alarm's being 1 less it; .5 gives the Dice loss.
    """
    hits, false, misses = soft_counts(logit, label)
    return 1 - (hits + 1) / (hits + (1 - missed) * false + missed * misses + 1)  # + 1: a batch without events has a gradient too


def soft_counts(logit: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hits, false alarms and misses where a row counts by its probability."""
    risk = logit.sigmoid()
    return (risk * label).sum(), (risk * (1 - label)).sum(), ((1 - risk) * label).sum()


class HeadLoss:
    """The head's loss through one training; Tversky's weight follows which kind of error prevails.

    Parameters
    ----------
    kind : one of ``LOSSES``
    classes : int

    Raises
    ------
    InputError
        Focal or Tversky, and more than two classes.
    """

    def __init__(self, kind: str, classes: int = 2) -> None:
        if classes > 2 and kind != LOSSES[0]:
            raise InputError(f"loss={kind!r} is for an outcome of two values, and this one has {classes}: use loss={LOSSES[0]!r}")
        self.kind = kind
        self.balance = PID(start=0.5, low=_LEAST, high=_MOST, proportional=0.05, integral=0.01, derivative=0.05)
        self.missed = 0.5

    def __call__(self, logit: Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch, log-odds (b,) and labels (b,)."""
        if self.kind == "focal":
            return focal_loss(logit, label)
        if self.kind == "tversky":
            loss = tversky_loss(logit, label, self.missed)
            with torch.no_grad():
                _, false, misses = (float(count) for count in soft_counts(logit, label))
            self.missed = self.balance.step((misses - false) / (misses + false + 1))  # more misses than false alarms: they weigh more
            return loss
        return F.binary_cross_entropy_with_logits(logit, label)
