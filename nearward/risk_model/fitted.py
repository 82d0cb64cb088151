"""What fitted models of a binary and of a multiclass outcome have in common: encoding, stack, novelty, gate, and state.

Shapes: n stored rows, q query rows, m columns of the stack, p encoded columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.binary import Retriever, SettingTrial, ranks_clearly_better
from nearward.retrieval.neighbors.index_check import IndexCheck
from nearward.retrieval.neighbors.sharded_retriever import IndexBlock, ShardedRetriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.risk_model.in_context import EnsembleView
from nearward.risk_model.summary import (
    BackboneSummary,
    BaseLearnerFigures,
    FitSummary,
    OutOfFoldSummary,
    RetrievalSummary,
    ranking_intervals,
)
from nearward.risk_model.teaching_sample import Block, OtherRows, rescaled
from nearward.risk_model.user_experts import PERSISTED_TYPES as USER_EXPERT_TYPES
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.calibration.multiclass import VectorScaling
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, EncodedRows, FoldLearners
from nearward.tabular.ensemble.closed_form import KernelRegression, RidgeDiscriminant
from nearward.tabular.ensemble.stacking import Stack, fit_stack
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.parallel import single_threaded
from nearward.tabular.persistence.artifact import pack
from nearward.tabular.preprocessing.table_encoder import ENCODER_TYPES, TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder
from nearward.tabular.typing import Arrays, Bools, Floats, Ints

_TRIAL_FOLDS = 5
_VOTE_FLOOR = 2e-3  # a vote of 0 out of a hundred patients is not certain


def encode_rows(
    table_encoder: TableEncoder, frame: pl.DataFrame, score_columns: tuple[str, ...], estimator_scores: Sequence[Floats] = ()
) -> EncodedRows:
    """Encode a conformed frame of q rows.

    Parameters
    ----------
    table_encoder : TableEncoder
    frame : conformed, q rows
    score_columns : names of the user's score columns
    estimator_scores : scores of the rows by the user's estimators, each (q,)
    """
    numbers = table_encoder.encode(frame)
    index = {column.name: j for j, column in enumerate(table_encoder.numeric)}
    user_scores = np.column_stack([numbers.values[:, [index[name] for name in score_columns]], *estimator_scores])
    return EncodedRows(table_encoder.to_matrix(numbers), numbers, user_scores)


def encoder_inputs(table_encoder: TableEncoder, rows: EncodedRows) -> EncoderInputs:
    """Return encoded rows as the retriever's encoders read them."""
    return EncoderInputs(rows.dense, table_encoder.levels_to_embed(rows.numbers))


class OtherBlocks:
    """Rows that are indexed and teach nothing, as the retriever's encoders read them, dealt to the folds of the rows that teach.

    Attributes
    ----------
    n_patients : int, of the blocks read so far and of the rows that teach
    """

    def __init__(self, table_encoder: TableEncoder, others: OtherRows, data: TrainingData) -> None:
        self._table_encoder, self._others, self._folds = table_encoder, others, data.n_folds
        self.n_patients = data.n_patients

    def __iter__(self) -> Iterator[IndexBlock]:
        for block in self._others.blocks():
            self.n_patients = max(self.n_patients, int(block.patient_ids.max()) + 1)  # numbers follow on those of the rows that teach

            def inputs(block: Block = block) -> EncoderInputs:
                return encoder_inputs(self._table_encoder, encode_rows(self._table_encoder, block.read(), ()))

            yield IndexBlock(inputs, block.outcome, block.patient_ids, block.fold % self._folds, block.remember)


def weight_of_stored(data: TrainingData, n: int) -> Floats | None:
    """Return the sampling weights of n stored rows, the first of which taught; None where all of them did and count alike."""
    return np.append(data.row_weight, np.zeros(n - len(data))) if n > len(data) else data.weight


def stack_columns(base_scores: Floats, vote: Floats, head: Floats, has_head: bool) -> Floats:
    """Return the stack's columns (q, m): the base learners' scores, the vote's log-odds, and the head's log-odds (q,) if there is one."""
    columns = [base_scores, logit(vote, _VOTE_FLOOR)]
    return np.column_stack([*columns, head] if has_head else columns)


def stack_column_names(base_learners: BaseLearners, has_head: bool) -> list[str]:
    """Return the names of the stack's columns."""
    return [*base_learners.names, "AWARE vote", *(["AWARE head"] if has_head else [])]


def base_learner_figures(names: list[str], scores: Floats, stack: Stack, data: TrainingData) -> dict[str, BaseLearnerFigures]:
    """Return the out-of-fold AUPRC and the weight of each of the stack's columns (n, m), by name."""
    columns = zip(names, scores.T, stack.weight.tolist(), strict=True)
    return {name: BaseLearnerFigures(data.auprc(column), weight) for name, column, weight in columns}


@dataclass(frozen=True)
class OutcomeModel:
    """Stack, calibrator and Venn-Abers band of one event, or of one class against the rest."""

    stack: Stack
    calibrator: Calibrator
    band: VennAbersBand

    @classmethod
    @single_threaded()
    def fit(cls, stack: Stack, out_of_fold: Floats, data: TrainingData) -> OutcomeModel:
        """Calibrate a stack on its out-of-fold log-odds (n,)."""
        calibrator = Calibrator.fit(out_of_fold, data.outcome, weight=data.weight)
        return cls(stack, calibrator, VennAbersBand.fit(out_of_fold, data.outcome, data.weight))


@dataclass(frozen=True)
class FittedModel:
    """The parts of a fitted model that do not depend on the number of classes.

    Parameters
    ----------
    table_encoder : TableEncoder
    novelty : DistanceQuantiles
    sampling_weight : (n,), optional
        How many rows of the whole table each stored row stands for: 0 where it is stored only, and taught nothing. None: 1 each.
    """

    table_encoder: TableEncoder
    retriever: ShardedRetriever
    novelty: DistanceQuantiles
    sampling_weight: Floats | None = field(default=None, kw_only=True)

    @property
    def taught(self) -> Bools:
        """The stored rows that the model learned from, or that were added with scores of their own (n,)."""
        n = len(self.retriever.outcome)
        return np.ones(n, dtype=bool) if self.sampling_weight is None else np.asarray(self.sampling_weight > 0)

    @property
    def teaching_weight(self) -> Floats | None:
        """The sampling weights of the rows that taught; None where all stored rows did and count alike."""
        return None if self.sampling_weight is None else self.sampling_weight[self.taught]

    def weight_of_more(self, m: int) -> Floats | None:
        """Return the sampling weights with m more stored rows, each of which stands for itself."""
        return None if self.sampling_weight is None else np.concatenate([self.sampling_weight, np.ones(m)])

    def weight_without(self, removed: Bools) -> Floats | None:
        """Return the sampling weights without some stored rows (mask, (n,)).

        Where rows are stored that taught nothing, the weights of the others sum to the stored rows of each class again.
        """
        if self.sampling_weight is None:
            return None
        weight, outcome = self.sampling_weight[~removed], self.retriever.outcome[~removed].astype(np.int64)
        return weight if self.taught.all() else rescaled(weight, outcome)

    def class_rows(self, removed: Bools, classes: int) -> Ints | Floats:
        """Return how many rows of the table each class has without some stored rows (mask, (n,)): (classes,)."""
        outcome = self.retriever.outcome[~removed].astype(np.int64)
        weight = None if self.sampling_weight is None or not self.taught.all() else self.sampling_weight[~removed]
        return np.bincount(outcome, weights=weight, minlength=classes)

    @property
    def row_storage(self) -> tuple[str, ...]:
        """The parts that store rows of patients, beside their records."""
        return ("records", "search indexes", "outcomes", "kernel regression references")

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        """The parts that were fitted on the stored patients, and hold no row of them."""
        encoders = "encoders" if self.retriever.has_head else "linear metrics"
        return (encoders, "ridge and logistic regression", "trees", "stack", "calibration", "novelty quantiles", "encoding of the columns")

    def gate(self, frame: pl.DataFrame) -> dict[str, float]:
        """Return each source column's share of the encoders' mean gate over a conformed frame's rows, the largest first."""
        weight = self.retriever.gate(self.table_encoder.transform(frame))
        share: dict[str, float] = {}
        for source, value in zip(self.table_encoder.source_columns, weight, strict=True):
            share[source] = share.get(source, 0.0) + float(value) / len(weight)
        return dict(sorted(share.items(), key=lambda item: -item[1]))

    def novelty_scores(self, frame: pl.DataFrame, distance: Floats) -> Floats:
        """Return the share of stored patients with a smaller distance (q,)."""
        return self.novelty.score(self.novelty_distance(frame, distance))

    def novelty_distance(self, frame: pl.DataFrame, distance: Floats) -> Floats:
        """Return rows' distances (q,), plus 1, as a missing flag would add, for each value missing where no stored row misses one."""
        for missing in self.table_encoder.new_missing(frame).values():
            distance = distance + missing
        return distance

    def pack(self, tensors: Arrays) -> Any:
        """Return the model's fields as JSON, those with a state of their own as that state; arrays are put into ``tensors``."""
        parts = [(one.name, getattr(self, one.name)) for one in fields(self)]
        return pack({name: part.state() if hasattr(part, "state") else part for name, part in parts}, tensors)


@dataclass(frozen=True)
class Scores:
    """Scores of q rows: of the event, or of each of c classes.

    Parameters
    ----------
    risk : (q,), probability; or (q, c), rows sum to 1
    low, high : (q,), band of the risk; or (q, c), of each class's own risk against the rest
    vote : (q,) or (q, c), share of the similar patients' weight that had the outcome
    n_similar : (q,), context patients within the usual distance
    novelty : (q,), share of stored patients with a smaller distance to their neighbourhood
    """

    risk: Floats
    low: Floats
    high: Floats
    vote: Floats
    n_similar: Ints
    novelty: Floats

    def columns(self, classes: NDArray[Any]) -> list[pl.Series]:
        """Return the columns of ``predict_frame``."""
        if self.risk.ndim == 1:
            return [pl.Series(name, getattr(self, name)) for name in ("risk", "low", "high", "n_similar", "novelty", "vote")]
        labels = classes.tolist()

        def by_class(*names: str) -> list[pl.Series]:
            tables = ((name, getattr(self, name)) for name in names)
            return [pl.Series(f"{name}: {one}", column) for name, table in tables for one, column in zip(labels, table.T, strict=True)]

        likeliest = pl.Series("class", classes).gather(self.risk.argmax(axis=1))
        rest = [pl.Series("n_similar", self.n_similar), pl.Series("novelty", self.novelty)]
        return [likeliest, *by_class("risk", "low", "high"), *rest, *by_class("vote")]


@dataclass(frozen=True)
class StackInputs:
    """Intermediate results of q rows.

    Parameters
    ----------
    columns : (q, m), what the stack weighs
    neighbours : Context, weighted by distance
    context : Context, of the vote that explains: weighted by the in-context model where it is in use
    distance : (q,), to the neighbourhood
    """

    columns: Floats
    neighbours: Context
    context: Context
    distance: Floats


@dataclass(frozen=True)
class StackFit:
    """A stack with what it was fitted on: names and columns (n, m); and its out-of-fold log-odds (n,)."""

    names: list[str]
    columns: Floats
    stack: Stack
    out_of_fold: Floats
    shrinkage: float

    def with_backbone(self, risk: Floats, data: TrainingData) -> StackFit:
        """Return the stack with a backbone's risks (n,) too, by the same shrinkage: a comparison would be one of penalties otherwise."""
        columns = np.column_stack([self.columns, logit(risk)])
        return StackFit([*self.names, "in-context model"], columns, *fit_stack(columns, data, (self.shrinkage,)))


def add_backbone(fit: StackFit, risk: Floats, data: TrainingData, summary: BackboneSummary, seed: int) -> tuple[StackFit, BackboneSummary]:
    """Add the backbone's risks (n,) to the stack where the stack then ranks clearly better out of fold."""
    wider = fit.with_backbone(risk, data)
    in_use = ranks_clearly_better(wider.out_of_fold, fit.out_of_fold, data, seed)
    why = "out of fold the stack ranks clearly better with it" if in_use else "out of fold the stack does not rank clearly better with it"
    without, together = (data.auprc(stack.out_of_fold) for stack in (fit, wider))
    summary = replace(summary, in_use=in_use, why=why, auprc=data.auprc(risk), auprc_without=without, auprc_with=together)
    return wider if in_use else fit, summary


def ranks_better_with(fit: StackFit, risk: Floats, rows: Ints, sample: TrainingData, seed: int) -> bool:
    """Return whether a stack of some rows (q,), which ``sample`` describes, ranks better out of fold with these risks (q,)."""
    patient_ids = np.unique(sample.patient_ids, return_inverse=True)[1]
    part = replace(sample, fold=assign_folds(sample.outcome, patient_ids, _TRIAL_FOLDS, seed))
    narrow = StackFit(fit.names, fit.columns[rows], *fit_stack(fit.columns[rows], part, (fit.shrinkage,)))
    return part.auprc(narrow.with_backbone(risk, part).out_of_fold) > part.auprc(narrow.out_of_fold)


def count_rows(data: TrainingData, retriever: ShardedRetriever, blocks: OtherBlocks | None) -> dict[str, Any]:
    """Return a summary's counts: rows and events of all stored rows, their patients, folds, and rows that taught where these are fewer."""
    size, n = np.bincount(retriever.outcome.astype(np.int64)), len(retriever.outcome)
    events = int(size[1] if len(size) == 2 else n - size.max())
    patients = data.n_patients if blocks is None else blocks.n_patients
    return {"rows": n, "events": events, "patients": patients, "folds": data.n_folds, "taught": len(data) if len(data) < n else None}


def summarise(
    data: TrainingData,
    retriever: Retriever,
    blocks: OtherBlocks | None,
    trials: list[SettingTrial],
    fit: StackFit,
    backbone: BackboneSummary,
) -> FitSummary:
    """Return the summary of a fit of a binary outcome; its figures are those of the whole table."""
    why = None if retriever.embedding == "AWARE encoders" else "too few patients or events for encoders"
    if retriever.heads:
        why = "out of fold their vote ranks clearly better than that of encoders"
    auprc_interval, auroc_interval = (None, None) if data.weight is None else ranking_intervals(data, fit.out_of_fold)
    return FitSummary(
        **count_rows(data, retriever, blocks),
        retrieval=RetrievalSummary(retriever.embedding, retriever.setting, why, tuple(trials)),
        backbone=backbone,
        out_of_fold=OutOfFoldSummary(
            auprc=data.auprc(fit.out_of_fold),
            auroc=float(roc_auc_score(data.outcome, fit.out_of_fold, sample_weight=data.weight)),
            base_learners=base_learner_figures(fit.names, fit.columns, fit.stack, data),
            auprc_interval=auprc_interval,
            auroc_interval=auroc_interval,
        ),
        stack_shrinkage=fit.shrinkage,
    )


PERSISTED_TYPES: tuple[type, ...] = (
    *ENCODER_TYPES, BaseLearners, RidgeDiscriminant, KernelRegression, FoldLearners, TargetEncoder, Forest,
    LinearMetric, EncoderConfig, RetrievalSetting, OutcomeModel, Stack, Calibrator, VennAbersBand, VectorScaling, DistanceQuantiles,
    EnsembleView, IndexCheck, *USER_EXPERT_TYPES,
)  # fmt: skip
