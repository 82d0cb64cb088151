"""Training of AWARE encoders: together, with early stopping on rows that an encoder neither learns from nor indexes.

The encoders of all folds are trained side by side, in rounds. After a round every encoder predicts the rows that were left out of its
training. Encoder f keeps its weights of the round in which the *other* encoders' predictions were best, together on all their rows. The
outcomes of the rows that encoder f indexes therefore neither train it nor stop it; they reach it only as some of the other encoders'
training rows, by which round is the best for these. Stopping on the rows that are indexed would choose the weights under which just these
rows' outcomes look most predictable, and their neighbourhoods would seem cleaner than a new patient's.

Shapes: n rows, u unlabelled rows, p encoded columns, b batch, m members, c classes.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nearward.retrieval.device import find_device, log_fallback
from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, seeded_init
from nearward.retrieval.encoders.block_dropout import BlockDropout
from nearward.retrieval.encoders.column_axes import ColumnAxes, fit_column_axes
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.losses import HeadLoss, soft_nearest_neighbour_loss
from nearward.retrieval.encoders.members import mean_log_odds
from nearward.retrieval.encoders.self_supervised import STEPS, pretrain
from nearward.retrieval.encoders.simplex_head import SimplexHead
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.parallel import cpu_count, parallel_map, runs_remotely, share
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.level_indices import LevelIndices
from nearward.tabular.ray_tasks import Shared
from nearward.tabular.typing import Bools, Floats, Ints

_TEMPERATURE_RATE = 20.0  # learning rate of the temperature, in units of the weights'; at 1 it hardly moves from its start
_ROUND = 50  # most steps between two predictions of the rows left out
_FEWEST_STEPS = 8  # a pass through few rows, in smaller batches
_SMALLEST_BATCH = 32
_VALIDATION_ROWS = 4096  # most rows that an encoder predicts after a round
_AXES_ROWS = 8192  # most rows from which the axes of the embedding are computed
_CHUNK = 2048  # rows predicted at a time
_PRETEXT_PASSES = 30  # most passes of a pretext through its rows
_ALIKE = 0.01  # weights of one class that differ by no more are taken for equal
_STOPPING_PARTS = 7  # one in seven patients is left out of a single encoder's training


def train_encoders(
    rows: Floats | EncoderInputs,
    data: TrainingData,
    config: EncoderConfig,
    seed: int,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> list[AwareEncoder]:
    """Train one encoder a fold on the other folds' rows; in evaluation mode and double precision.

    Parameters
    ----------
    rows : (n, p), the dense encoding, or EncoderInputs of n rows
    data : TrainingData, n rows, outcome 0 or 1, or class numbers from 0; all of them outside every fold
    config : EncoderConfig
    seed : int
    layout : FeatureLayout, optional
        Says which columns are ranks, which the encoders read by bins as well. Without it no columns are standardised beside the learned
        embedding. Needed for block dropout and for pretraining.
    unlabelled : (u, p), optional
        More rows for the pretraining.
    """
    parts = [data.train_rows(f) for f in range(data.n_folds)]
    return _train_together(rows, data, parts, config, seed, layout, unlabelled)


def train_encoder(
    rows: Floats | EncoderInputs,
    outcome: Ints,
    patient_ids: Ints,
    config: EncoderConfig,
    seed: int,
    layout: FeatureLayout | None = None,
    unlabelled: Floats | None = None,
) -> AwareEncoder:
    """Train a single encoder, stopped by the patients left out of its training, one in seven of these; otherwise as ``train_encoders``.

    Parameters
    ----------
    rows : (n, p), the dense encoding, or EncoderInputs of n rows
    outcome : (n,), 0 or 1, both present; or class numbers from 0, all present
    patient_ids : (n,), patient numbers
    config, seed, layout, unlabelled : as ``train_encoders``
    """
    data = TrainingData(outcome, patient_ids, assign_folds(outcome, patient_ids, _STOPPING_PARTS, seed))
    return _train_together(rows, data, [data.train_rows(0)], config, seed, layout, unlabelled)[0]


def _train_together(
    rows: Floats | EncoderInputs,
    data: TrainingData,
    parts: Sequence[Bools],
    config: EncoderConfig,
    seed: int,
    layout: FeatureLayout | None,
    unlabelled: Floats | None,
) -> list[AwareEncoder]:
    """Train one encoder a part, on the rows where the part is True; a single encoder is stopped by its own rows left out."""
    inputs = EncoderInputs.of(rows)
    weight, class_weight = _loss_weights(data)
    shared = _Rows(
        features=torch.as_tensor(inputs.dense, dtype=torch.float32),
        levels=inputs.levels,
        labels=torch.as_tensor(data.outcome, dtype=torch.float32),
        patients=torch.as_tensor(data.patient_ids),
        weight=weight,
        class_weight=class_weight,
        unlabelled=None if unlabelled is None else torch.as_tensor(unlabelled, dtype=torch.float32),
        layout=layout,
        column_axes=None if layout is None else fit_column_axes(inputs.dense, layout, data, seed),
        config=config,
    )
    train = [np.flatnonzero(part) for part in parts]
    device = find_device()
    try:
        return _train_on(device, shared, train, seed)
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        log_fallback("training of encoders", error)
        return _train_on(torch.device("cpu"), shared, train, seed)


def _train_on(device: torch.device, rows: _Rows, train: Sequence[Ints], seed: int) -> list[AwareEncoder]:
    """Train an encoder on each of some selections of the rows, on one device; the encoders that are returned are on the CPU."""
    shared, config = share(rows), rows.config
    started = [(shared, part, seed + f, device) for f, part in enumerate(train)]
    trainings = list(parallel_map(lambda arguments: _Training(*arguments), started, "torch", remote=True))
    validation = [training.validation.copy() for training in trainings]
    best: list[_Round] = []
    lowest, rounds_waited, rounds = np.full(len(trainings), np.inf), np.zeros(len(trainings), dtype=np.int64), 0
    most_rounds, ahead, waiting = -(-config.steps // trainings[0].round_steps), _rounds_ahead(len(trainings), config), list[list[_Round]]()
    while rounds_waited.min() < config.patience and rounds < most_rounds:
        if not waiting:
            trainings, waiting = _run_rounds(trainings, min(ahead, most_rounds - rounds))
        latest = waiting.pop(0)
        best = best or list(latest)
        rounds, rounds_waited = rounds + 1, rounds_waited + 1
        for f, training in enumerate(trainings):
            deciding = [g for g in range(len(trainings)) if g != f] or [f]
            logit = torch.cat([latest[g].logit for g in deciding], dim=1)
            predicted = np.concatenate([validation[g] for g in deciding])
            loss = training.head_loss_of(logit, rows.labels[predicted], None if rows.weight is None else rows.weight[predicted])
            if loss < lowest[f]:
                lowest[f], rounds_waited[f], best[f] = loss, 0, latest[f]
    finished = [(training, one, last.rng_state) for training, one, last in zip(trainings, best, latest, strict=True)]
    return list(parallel_map(lambda arguments: _Training.finish(*arguments), finished, "torch", remote=True))


def _rounds_ahead(n_trainings: int, config: EncoderConfig) -> int:
    """Return how many rounds to train at a time: with five trainings on two CPUs one of them is idle at the end of every round.

    Two rounds of each keep both busy. The decisions are taken round by round, and a round too many is not used. A loss that follows the
    decisions is trained one round at a time.
    """
    idle = -n_trainings % min(cpu_count(), n_trainings)
    return 2 if idle and not runs_remotely() and config.loss != "tversky" else 1


def _run_rounds(trainings: list[_Training], ahead: int) -> tuple[list[_Training], list[list[_Round]]]:
    """Train some rounds; returns the trainings, and what each round has learned in each training."""
    if ahead == 1:
        trainings, latest = map(list, zip(*parallel_map(_Training.run_round, trainings, "torch", remote=True), strict=True))
        return trainings, [latest]
    locks = [threading.Lock() for _ in trainings]

    def run_next(i: int) -> _Round:
        with locks[i % len(trainings)]:
            return trainings[i % len(trainings)].run_round()[1]

    done = list(parallel_map(run_next, range(ahead * len(trainings)), "torch"))
    by_training = [sorted(done[f :: len(trainings)], key=lambda one: one.steps) for f in range(len(trainings))]
    return trainings, [list(latest) for latest in zip(*by_training, strict=True)]


@dataclass(frozen=True)
class _Round:
    """What a training knows after a round.

    Parameters
    ----------
    steps : int, taken so far
    logit : (m, rows) or (m, rows, c), the members' log-odds of the validation rows
    weights : the encoder's
    rng_state : the state of the training's generator
    """

    steps: int
    logit: Tensor
    weights: dict[str, Tensor]
    rng_state: Any


@dataclass(frozen=True)
class _Rows:
    """What all trainings share: rows (n, p) and their levels, labels and patients (n,), unlabelled rows (u, p), and what was configured.

    Weights of the rows (n,) and of the classes (c,) as ``_loss_weights``.
    """

    features: Tensor
    levels: LevelIndices
    labels: Tensor
    patients: Tensor
    weight: Tensor | None
    class_weight: Tensor | None
    unlabelled: Tensor | None
    layout: FeatureLayout | None
    column_axes: ColumnAxes | None
    config: EncoderConfig


class _Training:
    """The training of one encoder on some of the rows; the others, or a sample of them, are predicted after each round."""

    def __init__(self, shared: Shared[_Rows], train: Ints, seed: int, device: torch.device) -> None:
        self.shared, self.train, self.device, self.steps = shared, train, device, 0
        self.rng, self.torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        rows = shared.value
        config, layout = rows.config, rows.layout
        classes = max(2, int(rows.labels.max()) + 1)
        with seeded_init(seed):
            sizes = rows.levels.n_levels, tuple(bags.n_levels for bags in rows.levels.lists)
            self.encoder = AwareEncoder(rows.features.shape[1], config, classes, () if layout is None else layout.rank, *sizes)
        validation = np.setdiff1d(np.arange(len(rows.labels)), train)
        self.validation = np.sort(self.rng.permutation(validation)[:_VALIDATION_ROWS])
        self.head_loss = self.encoder.head.loss if isinstance(self.encoder.head, SimplexHead) else HeadLoss(config.loss, classes)
        self.block_dropout = BlockDropout.of(layout, config.block_dropout) if config.block_dropout else None
        self.batch = min(config.batch, max(_SMALLEST_BATCH, len(train) // _FEWEST_STEPS), len(train))
        self.round_steps = min(_ROUND, max(1, len(train) // self.batch), config.steps)
        self.draw = _half_balanced(rows.labels[torch.as_tensor(train)].long().numpy()) if config.head == "simplex" else None
        self._batches: list[Ints] = []
        if config.pretext != "none":
            labelled = rows.features[torch.as_tensor(train)]
            everything = labelled if rows.unlabelled is None else torch.cat([labelled, rows.unlabelled])
            # a step of the views pretext costs two supervised ones: few rows get fewer
            steps = min(STEPS, _PRETEXT_PASSES * len(everything) // self.batch + 1, config.steps)
            pretrain(self.encoder, everything, layout, seed, steps)
        self.encoder.set_prevalence(rows.labels[torch.as_tensor(train)])
        self.encoder.to(device)
        self.optimiser = _optimiser(self.encoder, config)

    def run_round(self) -> tuple[_Training, _Round]:
        """Take the steps of a round; returns the training, and what it knows then.

        Where rounds are tasks on a cluster, the training is a copy: what it knows travels with it.
        """
        rows = self.shared.value
        for _ in range(self.round_steps):
            self._step(self._next_batch())
        with torch.inference_mode():
            parts = [self.validation[i : i + _CHUNK] for i in range(0, len(self.validation), _CHUNK)]
            logits = [self.encoder(rows.features[part].to(self.device), levels=rows.levels.take(part))[1] for part in parts]
            logit = torch.cat(logits, dim=1).cpu()
        return self, _Round(self.steps, logit, copy.deepcopy(self.encoder.state_dict()), self.rng.bit_generator.state)

    def head_loss_of(self, logit: Tensor, label: Tensor, weight: Tensor | None) -> float:
        """Return the head's loss of the members' mean prediction."""
        mean = logit.mean(dim=0) if isinstance(self.encoder.head, SimplexHead) else mean_log_odds(logit)
        of_rows = None if weight is None else weight.to(self.device)
        return float(self.head_loss(mean.to(self.device), label.to(self.device), of_rows))

    def finish(self, best: _Round, rng_state: Any) -> AwareEncoder:
        """Return the encoder with the weights of its best round, and axes computed from its training rows.

        ``rng_state`` is that after the last round that was decided on.
        """
        self.encoder.load_state_dict(best.weights)
        self.encoder.cpu()
        self.rng.bit_generator.state = rng_state
        sample, rows = np.sort(self.rng.permutation(self.train)[:_AXES_ROWS]), self.shared.value
        if rows.class_weight is not None:
            self.encoder.shift_prevalence(rows.class_weight)
        self.encoder.fit_axes(rows.features[sample], rows.levels.take(sample), None if rows.weight is None else rows.weight[sample])
        if rows.column_axes is not None:
            self.encoder.set_column_axes(rows.column_axes)
        return self.encoder.double().eval()

    def _next_batch(self) -> Ints:
        if not self._batches:
            drawn = self.rng.permutation(self.train) if self.draw is None else self.rng.choice(self.train, len(self.train), p=self.draw)
            self._batches = [drawn[i : i + self.batch] for i in range(0, len(drawn) - self.batch + 1, self.batch)]
        return self._batches.pop()

    def _step(self, index: Ints) -> None:
        rows = self.shared.value
        config = rows.config
        features, label, patient = (values[index].to(self.device) for values in (rows.features, rows.labels, rows.patients))
        if self.block_dropout is not None:
            features = self.block_dropout(features, self.torch_rng)
        hidden, logit = self.encoder(features, self.torch_rng, rows.levels.take(index))
        weight = None if rows.weight is None else rows.weight[index].to(self.device)
        loss = self.head_loss(logit.flatten(0, 1), label.repeat(len(logit)), None if weight is None else weight.repeat(len(logit)))
        temperature, other_patients = self.encoder.log_temperature.exp(), patient[:, None] != patient[None, :]
        loss = loss + config.neighbour_weight * soft_nearest_neighbour_loss(hidden, label, temperature, other_patients, weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1


def _loss_weights(data: TrainingData) -> tuple[Tensor | None, Tensor | None]:
    """Return the weight of each row in a loss (n,), with mean 1 in every class, and the mean weight of each class (c,).

    A sample that is richer in events than the table teaches more than one with the table's mixture: encoders are trained on it as it is,
    and the head's log-odds are moved to the table's prevalence afterwards. Weights that differ within a class weigh in the losses.
    """
    if data.weight is None:
        return None, None
    class_weight = np.bincount(data.outcome, weights=data.weight) / np.maximum(np.bincount(data.outcome), 1)
    weight = data.weight / class_weight[data.outcome]
    alike = np.allclose(weight, 1, atol=_ALIKE)
    return None if alike else torch.as_tensor(weight, dtype=torch.float32), torch.as_tensor(class_weight, dtype=torch.float32)


def _half_balanced(class_index: Ints) -> Floats:
    """Return the probability (n,) with which each row is drawn: half of the draws evenly over the classes, half as the rows come."""
    size = np.bincount(class_index)
    present = (size > 0).sum()
    return np.asarray(0.5 / (present * size[class_index]) + 0.5 / len(class_index))


def _optimiser(encoder: AwareEncoder, config: EncoderConfig) -> torch.optim.AdamW:
    """Decay matrices alone: scales, biases and the temperature are not drawn to 0."""
    named = [(name, value) for name, value in encoder.named_parameters() if name != "log_temperature"]
    matrices = [value for name, value in named if value.ndim == 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [value for _, value in named if value.ndim != 2], "weight_decay": 0.0},
        {"params": [encoder.log_temperature], "lr": _TEMPERATURE_RATE * config.learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
