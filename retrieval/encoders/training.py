"""Training of the AWARE encoder: pretraining where the configuration asks for it, class-balanced batches, AdamW, warm-up and cosine decay.

Shapes: n rows, u unlabelled rows, p encoded columns, b batch, c classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, dropout_mask, seeded_init
from nearward.retrieval.encoders.block_dropout import BlockDropout
from nearward.retrieval.encoders.losses import HeadLoss, soft_nearest_neighbour_loss
from nearward.retrieval.encoders.self_supervised import STEPS, pretrain
from nearward.retrieval.encoders.simplex_head import SimplexHead
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats, Ints

_TEMPERATURE_RATE = 20.0  # learning rate of the temperature, in units of the weights'; at 1 it hardly moves from its start
_WARMUP_STEPS = 30


def train_encoder(
    x: Floats,
    outcome: Ints,
    patient_ids: Ints,
    config: EncoderConfig,
    seed: int,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> AwareEncoder:
    """Train one encoder on all of these rows, and return it in evaluation mode and double precision.

    Parameters
    ----------
    x : (n, p), the dense encoding
    outcome : (n,), 0 or 1, both present; or class numbers from 0, all present
    patient_ids : (n,), patient numbers
    config : EncoderConfig
    seed : int
    layout : FeatureLayout, optional
        Needed for block dropout and for pretraining.
    unlabelled : (u, p), optional
        More rows for the pretraining.
    """
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    classes = max(2, int(outcome.max()) + 1)
    with seeded_init(seed):
        encoder = AwareEncoder(x.shape[1], config, classes)
    class_rows = [np.flatnonzero(outcome == k) for k in range(classes)]
    batch = min(config.batch, 2 * max(len(rows) for rows in class_rows))
    steps = int(min(config.steps, max(100, config.epochs * len(x) / batch)))
    if config.pretext != "none":
        # a step of the views pretext costs two supervised ones: a few hundred rows get fewer
        pretrain(encoder, x if unlabelled is None else np.concatenate([x, unlabelled]), layout, seed, min(STEPS, 3 * steps // 2))
    block_dropout = BlockDropout.of(layout, config.block_dropout) if config.block_dropout else None
    optimiser = _optimiser(encoder, config)
    head_loss = encoder.head.loss if isinstance(encoder.head, SimplexHead) else HeadLoss(config.loss, classes)
    features, patients = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(patient_ids)
    labels = torch.as_tensor(outcome, dtype=torch.float32)
    counts = _rows_per_class(class_rows, batch, config.event_share)
    for step in range(steps):
        for parameters in optimiser.param_groups:
            parameters["lr"] = parameters["peak"] * _schedule(step, steps)
        index = torch.as_tensor(np.concatenate([rng.choice(rows, count) for rows, count in zip(class_rows, counts, strict=True)]))
        # one mask per batch, so that distances stay comparable
        columns = dropout_mask(torch.Size((1, x.shape[1])), config.feature_dropout, torch_rng)
        rows = features[index] if block_dropout is None else block_dropout(features[index], step / steps, torch_rng)
        embedding, logit = encoder(rows * columns, torch_rng)
        label, patient = labels[index], patients[index]
        loss = soft_nearest_neighbour_loss(embedding, label, encoder.log_temperature.exp(), patient[:, None] != patient[None, :])
        loss = loss + config.head_weight * head_loss(logit, label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
    return encoder.double().eval()


def _rows_per_class(class_rows: list[Ints], batch: int, event_share: float) -> list[int]:
    """Return the rows of each class in a batch: two classes by the event share; more, half of the batch evenly and half by prevalence."""
    if len(class_rows) == 2:
        events = max(2, round(batch * event_share))
        return [batch - events, events]
    size = np.array([len(rows) for rows in class_rows])
    return [max(2, round(batch * share)) for share in (0.5 / len(class_rows) + 0.5 * size / size.sum()).tolist()]


def _optimiser(encoder: AwareEncoder, config: EncoderConfig) -> torch.optim.AdamW:
    weights = [value for name, value in encoder.named_parameters() if name != "log_temperature"]
    groups = [
        {"params": weights, "peak": config.learning_rate},
        {"params": [encoder.log_temperature], "peak": _TEMPERATURE_RATE * config.learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _schedule(step: int, steps: int) -> float:
    """Return the factor of the peak learning rate: linear warm-up, then cosine decay."""
    return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
