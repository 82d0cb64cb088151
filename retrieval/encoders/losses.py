"""Losses of the encoder: soft nearest neighbours for the embedding; cross-entropy, focal or Tversky for the head of two classes.

Focal and Tversky favour the rarer class and leave the head's log-odds uncalibrated. That is safe inside the risk model, whose stack is
calibrated afterwards on out-of-fold rows; a head that is used alone must be calibrated first.

Shapes: b batch, e embedding width.

References
----------
Frosst, Papernot, Hinton: Analyzing and improving representations with the soft nearest neighbor loss (2019).
Lin et al.: Focal loss for dense object detection (2017). Salehi, Erdogmus, Gholipour: Tversky loss function for image segmentation (2017);
adapting its two weights with a PID controller in training follows later work on imbalanced images. The controller's gains are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nearward.tabular.alerting.pid import PID
from nearward.tabular.errors import InputError

LOSSES = ("cross-entropy", "focal", "tversky")
_GAMMA = 2.0
_MIN_WEIGHT, _MAX_WEIGHT = 0.1, 0.9  # of false negatives in Tversky: neither kind of error is ever free


def soft_nearest_neighbour_loss(
    embedding: Tensor, outcome: Tensor, temperature: Tensor, comparable: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return the mean of -log(share of a row's neighbourhood that has its own outcome).

    Parameters
    ----------
    embedding : (b, e), unit length
    outcome : (b,), 0 or 1, or class numbers
    temperature : scalar
    comparable : (b, b), bool
        True where two rows may be neighbours: rows of different patients.
    weight : (b,), > 0, optional
        How many rows each of them stands for, as a neighbour and in the mean.
    """
    similarity = embedding @ embedding.T / temperature
    if weight is not None:
        similarity = similarity + weight.log()
    similarity = similarity.masked_fill(~comparable, -torch.inf)  # (b, b)
    same = similarity.masked_fill(outcome[:, None] != outcome[None, :], -torch.inf)
    alone = ~(comparable & (outcome[:, None] == outcome[None, :])).any(dim=1)  # without a neighbour of its outcome: no loss
    loss = similarity.logsumexp(dim=1) - same.masked_fill(alone[:, None], 0.0).logsumexp(dim=1)
    if weight is not None:
        loss, counted = loss * weight, (weight * ~alone).sum()
        return loss.masked_fill(alone, 0.0).sum() / torch.where(counted > 0, counted, 1.0)
    return loss.masked_fill(alone, 0.0).sum() / (~alone).sum().clamp(min=1)


class HeadLoss:
    """The head's loss over one training; Tversky's weight follows the prevailing kind of error.

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
            raise InputError(f"loss={kind!r} needs an outcome of two values, got {classes} classes: use loss={LOSSES[0]!r}")
        self.kind = kind
        self.controller = PID(bias=0.5, low=_MIN_WEIGHT, high=_MAX_WEIGHT, proportional=0.05, integral=0.01, derivative=0.05)
        self.fn_weight = 0.5

    def __call__(self, logit: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of a batch: log-odds (b,), or (b, c) of several classes, labels (b,), and weights (b,) of mean 1."""
        if logit.ndim == 2:
            if weight is None:
                return F.cross_entropy(logit, label.long())
            return (F.cross_entropy(logit, label.long(), reduction="none") * weight).mean()
        if self.kind == "focal":
            return focal_loss(logit, label, weight=weight)
        if self.kind == "tversky":
            loss = tversky_loss(logit, label, self.fn_weight, weight)
            with torch.no_grad():
                _, fp, fn = (float(count) for count in soft_counts(logit, label, weight))
            self.fn_weight = self.controller.step((fn - fp) / (fn + fp + 1))  # more misses than false alarms raise the misses' weight
            return loss
        return F.binary_cross_entropy_with_logits(logit, label, weight)


def focal_loss(logit: Tensor, label: Tensor, gamma: float = _GAMMA, weight: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of log-odds and labels (b,), each row weighted by (1 - p of its own class) ** gamma, and by (b,)."""
    entropy = F.binary_cross_entropy_with_logits(logit, label, weight=None, reduction="none")
    loss = (1 - (-entropy).exp()) ** gamma * entropy
    return (loss if weight is None else loss * weight).mean()


def tversky_loss(logit: Tensor, label: Tensor, fn_weight: float = 0.5, weight: Tensor | None = None) -> Tensor:
    """Return 1 - tp / (tp + (1 - fn_weight) * fp + fn_weight * fn) of log-odds and labels (b,), counted as ``soft_counts``.

    A weight of 0.5 gives the Dice loss.
    """
    tp, fp, fn = soft_counts(logit, label, weight)
    return 1 - (tp + 1) / (tp + (1 - fn_weight) * fp + fn_weight * fn + 1)  # + 1: a batch without events has a gradient too


def soft_counts(logit: Tensor, label: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return true positives, false positives and false negatives, each row counted by its probability, and by its weight (b,)."""
    risk = logit.sigmoid()
    hit, miss = (risk, 1 - risk) if weight is None else (risk * weight, (1 - risk) * weight)
    return (hit * label).sum(), (hit * (1 - label)).sum(), (miss * label).sum()
