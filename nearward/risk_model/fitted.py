"""What fitted models of a binary and of a multiclass outcome have in common: encoding, stack, novelty, gate, and state.

Shapes: n stored rows, q query rows, m columns of the stack, p encoded columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.binary import Retriever, SettingTrial
from nearward.retrieval.neighbors.sharded_retriever import ShardedRetriever
from nearward.retrieval.neighbors.voting import RetrievalSetting
from nearward.risk_model.in_context import EnsembleView
from nearward.risk_model.summary import BackboneSummary, BaseLearnerFigures, FitSummary, OutOfFoldSummary, RetrievalSummary
from nearward.risk_model.user_experts import PERSISTED_TYPES as USER_EXPERT_TYPES
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.calibration.multiclass import VectorScaling
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, EncodedRows, FoldLearners
from nearward.tabular.ensemble.closed_form import KernelRegression, RidgeDiscriminant
from nearward.tabular.ensemble.stacking import Stack
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.persistence.artifact import pack
from nearward.tabular.preprocessing.table_encoder import ENCODER_TYPES, TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder
from nearward.tabular.typing import Arrays, Floats

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


def stack_columns(base_scores: Floats, vote: Floats, head: Floats, has_head: bool) -> Floats:
    """Return the stack's columns (q, m): the base learners' scores, the vote's log-odds, and the head's log-odds (q,) if there is one."""
    columns = [base_scores, logit(vote, _VOTE_FLOOR)]
    return np.column_stack([*columns, head] if has_head else columns)


def stack_column_names(base_learners: BaseLearners, has_head: bool) -> list[str]:
    """Return the names of the stack's columns."""
    return [*base_learners.names, "AWARE vote", *(["AWARE head"] if has_head else [])]


def base_learner_figures(names: list[str], scores: Floats, stack: Stack, data: TrainingData) -> dict[str, BaseLearnerFigures]:
    """Return the out-of-fold AUPRC and the weight of each of the stack's columns (n, m), by name."""
    auprc = [float(average_precision_score(data.outcome, column, sample_weight=data.weight)) for column in scores.T]
    return {name: BaseLearnerFigures(*figures) for name, *figures in zip(names, auprc, stack.weight.tolist(), strict=True)}


@dataclass(frozen=True)
class OutcomeModel:
    """Stack, calibrator and Venn-Abers band of one event, or of one class against the rest."""

    stack: Stack
    calibrator: Calibrator
    band: VennAbersBand

    @classmethod
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
    """

    table_encoder: TableEncoder
    retriever: ShardedRetriever
    novelty: DistanceQuantiles

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
        """Return the share of stored patients with a smaller distance (q,).

        A value that is missing where no stored row misses one adds 1 to the distance (q,): as much as its missing flag would.
        """
        for missing in self.table_encoder.new_missing(frame).values():
            distance = distance + missing
        return self.novelty.score(distance)

    def pack(self, tensors: Arrays) -> Any:
        """Return the model's fields as JSON, those with a state of their own as that state; arrays are put into ``tensors``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return pack({name: part.state() if hasattr(part, "state") else part for name, part in parts.items()}, tensors)


@dataclass(frozen=True)
class StackFit:
    """A stack with what it was fitted on: names and columns (n, m); and its out-of-fold log-odds (n,)."""

    names: list[str]
    columns: Floats
    stack: Stack
    out_of_fold: Floats
    shrinkage: float


def summarise(data: TrainingData, retriever: Retriever, trials: list[SettingTrial], fit: StackFit, backbone: BackboneSummary) -> FitSummary:
    """Return the summary of a fit of a binary outcome."""
    why = None if retriever.embedding == "AWARE encoders" else "too few patients or events for encoders"
    if retriever.heads:
        why = "out of fold the encoders' vote does not rank clearly better"
    return FitSummary(
        rows=len(data),
        events=int(data.outcome.sum()),
        patients=data.n_patients,
        folds=data.n_folds,
        retrieval=RetrievalSummary(retriever.embedding, retriever.setting, why, tuple(trials)),
        backbone=backbone,
        out_of_fold=OutOfFoldSummary(
            auprc=float(average_precision_score(data.outcome, fit.out_of_fold, sample_weight=data.weight)),
            auroc=float(roc_auc_score(data.outcome, fit.out_of_fold, sample_weight=data.weight)),
            base_learners=base_learner_figures(fit.names, fit.columns, fit.stack, data),
        ),
        stack_shrinkage=fit.shrinkage,
    )


PERSISTED_TYPES: tuple[type, ...] = (
    *ENCODER_TYPES, BaseLearners, RidgeDiscriminant, KernelRegression, FoldLearners, TargetEncoder, Forest,
    LinearMetric, EncoderConfig, RetrievalSetting, OutcomeModel, Stack, Calibrator, VennAbersBand, VectorScaling, DistanceQuantiles,
    EnsembleView, *USER_EXPERT_TYPES,
)  # fmt: skip
