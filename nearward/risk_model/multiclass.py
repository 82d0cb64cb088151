"""A risk model of an outcome with more than two classes, up to ten: a diagnosis, a discharge destination.

table → encoding → base learners for each class, and one embedding → similar patients → vote over the classes →
a stack and a calibration for each class → vector scaling → probabilities that sum to 1

Base learners are fitted once a class (this class or not), all on the same folds. Similar patients are found once, by encoders that
separate all classes. The in-context model is for binary outcomes and is not used.

Shapes: n stored rows, q query rows, c classes, m columns of a class's stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from nearward.retrieval.neighbors.multiclass import ClassRetriever, class_votes, fit_class_retriever
from nearward.retrieval.neighbors.voting import Context
from nearward.risk_model.config import FitConfig
from nearward.risk_model.fitted import (
    PERSISTED_TYPES,
    FittedModel,
    OtherBlocks,
    OutcomeModel,
    Scores,
    base_learner_figures,
    count_rows,
    encode_rows,
    encoder_inputs,
    stack_column_names,
    stack_columns,
    weight_of_stored,
)
from nearward.risk_model.summary import (
    BackboneSummary,
    BaseLearnerFigures,
    ClassFigures,
    FitSummary,
    OutOfFoldSummary,
    RetrievalSummary,
)
from nearward.risk_model.teaching_sample import OtherRows
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.calibration.multiclass import VectorScaling
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_classes
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, EncodedRows, fit_base_learners
from nearward.tabular.ensemble.stacking import fit_stack
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.persistence.artifact import unpack
from nearward.tabular.persistence.checkpoints import Checkpoints, remembered
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Arrays, Bools, Floats, Ints, Progress


@dataclass(frozen=True)
class FittedClasses(FittedModel):
    """A fitted model of an outcome with more than two classes.

    Parameters
    ----------
    table_encoder : TableEncoder
    retriever : ClassRetriever
    novelty : DistanceQuantiles
    base_learners : tuple of BaseLearners, one a class
    outcome_models : tuple of OutcomeModel, one a class against the rest
    scaling : VectorScaling
    """

    retriever: ClassRetriever
    base_learners: tuple[BaseLearners, ...]
    outcome_models: tuple[OutcomeModel, ...]
    scaling: VectorScaling

    def score(self, frame: pl.DataFrame) -> Scores:
        """Score a conformed frame of q rows."""
        rows = self.encode(frame)
        context, head = self.retriever.context(encoder_inputs(self.table_encoder, rows))
        votes = class_votes(context, len(self.base_learners))
        base = [learners.scores(rows) for learners in self.base_learners]
        stacked = [
            model.stack.log_odds(_class_stack_columns(scores, votes, head, j, self.retriever.has_head))
            for j, (model, (scores, _)) in enumerate(zip(self.outcome_models, base, strict=True))
        ]
        log_odds = [model.calibrator.log_odds(z) for model, z in zip(self.outcome_models, stacked, strict=True)]
        proba = self.scaling.probabilities(np.column_stack(log_odds))
        bands = [model.band.interval(z, p) for model, z, p in zip(self.outcome_models, stacked, proba.T, strict=True)]
        low, high = (np.column_stack(end) for end in zip(*bands, strict=True))
        n_similar, novelty = self.retriever.similar_count(context), self.novelty_scores(frame, base[0][1])
        return Scores(proba, low, high, votes, n_similar, novelty)

    def context(self, frame: pl.DataFrame) -> Context:
        """Return the similar patients of a conformed frame's rows, with the weights of the vote; their outcome is a class index."""
        return self.retriever.context(encoder_inputs(self.table_encoder, self.encode(frame)))[0]

    def extended(self, frame: pl.DataFrame, outcome: Ints, fold: Ints, weight: float | None = None) -> FittedClasses:
        """Return the model with more stored rows; arguments as ``ShardedRetriever.extended``."""
        retriever = self.retriever.extended(encoder_inputs(self.table_encoder, self.encode(frame)), outcome, fold, weight)
        return replace(self, retriever=retriever, sampling_weight=self.weight_of_more(len(outcome)))

    def without(self, removed: Bools, patient_ids: Ints, *, refit_band: bool) -> FittedClasses:
        """Return the model without some stored rows (mask, (n,)), those of the patients with these numbers; its bands stay."""
        rows = self.class_rows(removed, len(self.base_learners)).tolist()
        learners = [one.without(patient_ids, (sum(rows) - rows[j], rows[j])) for j, one in enumerate(self.base_learners)]
        return replace(
            self,
            retriever=self.retriever.without(removed),
            base_learners=tuple(learners),
            sampling_weight=self.weight_without(removed),
        )

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        """The parts that were fitted on the stored patients, and hold no row of them."""
        return (*super().fitted_parts, "bands")

    def out_of_fold_log_odds(self, rows: Ints) -> None:
        """Return None: no scores of the stored rows are kept with more than two classes."""

    def encode(self, frame: pl.DataFrame) -> EncodedRows:
        """Encode a conformed frame of q rows."""
        return encode_rows(self.table_encoder, frame, self.base_learners[0].user_scores)

    @classmethod
    def unpack(cls, packed: Any, tensors: Arrays) -> FittedClasses:
        """Load what ``pack`` returned."""
        parts = unpack(packed, tensors, PERSISTED_TYPES)
        return cls(**{**parts, "retriever": ClassRetriever.from_state(parts["retriever"])})


def fit_classes(
    schema: Schema,
    frame: pl.DataFrame,
    class_index: Ints,
    patient_ids: Ints,
    config: FitConfig,
    progress: Progress,
    weight: Floats | None = None,
    others: OtherRows | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[FittedClasses, FitSummary]:
    """Fit on conformed rows; every stage is fitted on scores from models that have not seen the row's patient.

    Parameters
    ----------
    schema : Schema
    frame : conformed, n rows
    class_index : (n,), from 0
    patient_ids : (n,), patient numbers from 0
    config : FitConfig
    progress : called with a message after each piece of work
    weight, others, checkpoints : as ``fit_risk``

    Returns
    -------
    model : FittedClasses
    summary : FitSummary

    Raises
    ------
    InputError
        Options for a binary outcome: another backbone, an adapter, a prevalence, experts that are estimators.
    """
    _check_options(config)
    data = TrainingData(class_index, patient_ids, split_classes(class_index, patient_ids, config.folds, config.seed), weight)
    table_encoder = TableEncoder.fit(schema, frame, data.weight)
    rows = encode_rows(table_encoder, frame, schema.experts)
    layout, unlabelled = config.layout_and_unlabelled(schema, table_encoder)
    blocks = None if others is None else OtherBlocks(table_encoder, others, data)
    retriever, votes, head, vote_log_loss = fit_class_retriever(
        encoder_inputs(table_encoder, rows), data, config.encoder, config.seed, progress, layout, unlabelled, blocks, checkpoints
    )
    classes, fits = int(class_index.max()) + 1, []
    for j in range(classes):
        fits.append(_fit_class(j, rows, table_encoder, data, votes, head, schema.experts, retriever.has_head, config, checkpoints))
        progress(f"class {j + 1} of {classes}")
    log_odds = np.column_stack([fit.log_odds for fit in fits])
    scaling = VectorScaling.fit(log_odds, class_index, data.weight)
    model = FittedClasses(
        table_encoder=table_encoder,
        retriever=retriever,
        novelty=DistanceQuantiles.fit(fits[0].distance, weight=data.weight),
        base_learners=tuple(fit.base_learners for fit in fits),
        outcome_models=tuple(fit.outcome_model for fit in fits),
        scaling=scaling,
        sampling_weight=weight_of_stored(data, len(retriever.outcome)),
    )
    progress("calibration")
    return model, _summarise(data, retriever, blocks, vote_log_loss, scaling.probabilities(log_odds), [fit.figures for fit in fits])


@dataclass(frozen=True)
class _ClassFit:
    """Models of one class against the rest; distances and calibrated log-odds of the stored rows out of fold, (n,)."""

    base_learners: BaseLearners
    outcome_model: OutcomeModel
    distance: Floats
    log_odds: Floats
    figures: dict[str, BaseLearnerFigures]


def _fit_class(
    class_index: int,
    rows: EncodedRows,
    table_encoder: TableEncoder,
    data: TrainingData,
    votes: Floats,
    head: Floats,
    user_scores: tuple[str, ...],
    has_head: bool,
    config: FitConfig,
    checkpoints: Checkpoints | None,
) -> _ClassFit:
    one = data.one_vs_rest(class_index)
    learning = (rows, table_encoder, one, user_scores, config.seed, lambda message: None, config.trees, config.repeats)
    base_learners, base_scores, distance = remembered(
        checkpoints, f"class-{class_index}-learners", PERSISTED_TYPES, lambda: fit_base_learners(*learning)
    )
    columns = _class_stack_columns(base_scores, votes, head, class_index, has_head)
    stack, out_of_fold, _ = fit_stack(columns, one)
    model = OutcomeModel.fit(stack, out_of_fold, one)
    figures = base_learner_figures(stack_column_names(base_learners, has_head), columns, stack, one)
    return _ClassFit(base_learners, model, distance, model.calibrator.log_odds(out_of_fold), figures)


def _class_stack_columns(base_scores: Floats, votes: Floats, head: Floats, class_index: int, has_head: bool) -> Floats:
    """Return one class's stack columns (q, m); the head's log-probability (q, c) becomes log-odds against the rest."""
    return stack_columns(base_scores, votes[:, class_index], logit(np.exp(head[:, class_index]), 1e-6), has_head)


def _check_options(config: FitConfig) -> None:
    if config.user_estimators:
        raise InputError("estimators among the experts are for an outcome with two values; with more classes give score columns only")
    if config.prevalence is not None:
        raise InputError(
            "prevalence is for an outcome with two values: with more classes each has a prevalence of its own; leave it at None"
        )
    if config.backbone not in (None, "embedded") or config.members != 1 or config.adapter:
        raise InputError(
            "backbone, members and adapter are for an outcome with two values: with more classes the base learners and the similar "
            'patients predict alone. Leave backbone at "embedded" or None'
        )


def _summarise(
    data: TrainingData,
    retriever: ClassRetriever,
    blocks: OtherBlocks | None,
    vote_log_loss: dict[str, float],
    proba: Floats,
    figures: list[dict[str, BaseLearnerFigures]],
) -> FitSummary:
    classes = []
    for j, rows in enumerate(np.bincount(retriever.outcome.astype(np.int64)).tolist()):
        one = data.one_vs_rest(j)
        auroc = float(roc_auc_score(one.outcome, proba[:, j], sample_weight=data.weight))
        classes.append(ClassFigures(rows, one.auprc(proba[:, j]), auroc))
    own_class = proba[np.arange(len(data)), data.outcome]
    return FitSummary(
        **count_rows(data, retriever, blocks),
        retrieval=RetrievalSummary(retriever.embedding, retriever.setting, vote_log_loss=vote_log_loss),
        backbone=BackboneSummary(in_use=False, why="the in-context model is for binary outcomes"),
        out_of_fold=OutOfFoldSummary(
            auprc=float(np.mean([one.auprc for one in classes])),
            auroc=float(np.mean([one.auroc for one in classes])),
            base_learners={
                name: BaseLearnerFigures(*(float(np.mean([getattr(one[name], key) for one in figures])) for key in ("auprc", "weight")))
                for name in figures[0]
            },
            log_loss=float(np.average(-np.log(np.maximum(own_class, 1e-300)), weights=data.weight)),
            classes=tuple(classes),
        ),
    )


def name_outcomes(similar: pl.DataFrame, classes: NDArray[Any]) -> pl.DataFrame:
    """Return similar patients with their class instead of its index; 0 and 1 stay where there are two."""
    if len(classes) == 2:
        return similar
    return similar.with_columns(pl.Series("outcome", classes).gather(similar["outcome"]))
