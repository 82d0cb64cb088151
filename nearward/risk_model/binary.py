"""A risk model of a binary outcome, from a conformed table to calibrated risks.

table → encoding → base learners, and embedding → similar patients → vote → in-context model → stack → calibration → risk

Shapes: n stored rows, q query rows, m columns of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from nearward.retrieval.neighbors.binary import Retriever, fit_retriever
from nearward.retrieval.neighbors.voting import Context
from nearward.risk_model.config import FitConfig
from nearward.risk_model.external_backbone import ExternalBackboneModel, category_columns, fit_external_backbone, raw_rows
from nearward.risk_model.fitted import (
    PERSISTED_TYPES,
    FittedModel,
    OtherBlocks,
    OutcomeModel,
    Scores,
    StackFit,
    StackInputs,
    add_backbone,
    encode_rows,
    encoder_inputs,
    ranks_better_with,
    stack_column_names,
    stack_columns,
    summarise,
    weight_of_stored,
)
from nearward.risk_model.in_context import InContextModel, StoredRows, fit_in_context_model, predict_some
from nearward.risk_model.summary import BackboneSummary, FitSummary
from nearward.risk_model.teaching_sample import OtherRows
from nearward.risk_model.user_experts import CrossFittedEstimator, cross_fit
from nearward.tabular.backbones.pretrained import Backbone, find_backbone
from nearward.tabular.calibration.calibrator import correct_prior
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, EncodedRows, fit_base_learners
from nearward.tabular.ensemble.stacking import fit_stack
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.persistence.artifact import unpack
from nearward.tabular.persistence.checkpoints import Checkpoints, remembered
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.typing import Arrays, Bools, Floats, Ints, Progress

_TRIED_AT_ONCE, _TRIAL_ROWS = 30_000, 6_000  # of more rows the in-context model first predicts a sample of one fold, half of it events
NOT_WORTH_IT = "in a sample of one fold of the rows that taught, the stack does not rank better with it"


@dataclass(frozen=True)
class FittedRisk(FittedModel):
    """A fitted model of a binary outcome.

    Parameters
    ----------
    table_encoder : TableEncoder
    retriever : Retriever
    novelty : DistanceQuantiles
    base_learners : BaseLearners
    backbone : InContextModel, ExternalBackboneModel or None
        The in-context model; None where the base learners alone ranked better, or none was requested.
    outcome_model : OutcomeModel
    trained_prevalence : float
    prevalence : float or None
        Where the model is used, if it differs from where it was trained.
    out_of_fold : (n,)
        The stack's log-odds of the stored rows, before calibration, by models that had not seen the row's patient; NaN where a row taught
        nothing (``sampling_weight`` 0).
    user_estimators : tuple of CrossFittedEstimator
        The user's own estimators among the base learners.
    """

    retriever: Retriever
    base_learners: BaseLearners
    backbone: InContextModel | ExternalBackboneModel | None
    outcome_model: OutcomeModel
    trained_prevalence: float
    prevalence: float | None
    out_of_fold: Floats
    user_estimators: tuple[CrossFittedEstimator, ...] = ()

    def score(self, frame: pl.DataFrame) -> Scores:
        """Score a conformed frame of q rows."""
        inputs, model = self.stack_inputs(frame), self.outcome_model
        stacked = model.stack.log_odds(inputs.columns)
        risk = expit(model.calibrator.log_odds(stacked))
        low, high = model.band.interval(stacked, risk)
        if self.prevalence is not None:
            risk, low, high = (correct_prior(p, self.trained_prevalence, self.prevalence) for p in (risk, low, high))
        n_similar, novelty = self.retriever.similar_count(inputs.neighbours), self.novelty_scores(frame, inputs.distance)
        return Scores(risk, low, high, inputs.context.vote, n_similar, novelty)

    def context(self, frame: pl.DataFrame) -> Context:
        """Return the similar patients of a conformed frame's rows, with the weights of the vote."""
        return self.stack_inputs(frame).context

    @cached_property
    def teachers(self) -> Retriever:
        """The retriever of the stored rows that taught alone, numbered among these: what the backbone's contexts come from."""
        return self.retriever.select(self.taught)

    def extended(self, frame: pl.DataFrame, outcome: Ints, fold: Ints, weight: float | None = None) -> FittedRisk:
        """Return the model with more stored rows, as it scores them now; arguments as ``ShardedRetriever.extended``."""
        rows, inputs = self.encode(frame), self.stack_inputs(frame)
        backbone = self.backbone
        if isinstance(backbone, InContextModel):
            backbone = backbone.extended(self.base_learners.features(rows), inputs.columns[:, :-1], outcome)
        elif backbone is not None:
            backbone = backbone.extended(raw_rows(self.table_encoder, rows.numbers), outcome)
        retriever = self.retriever.extended(encoder_inputs(self.table_encoder, rows), outcome, fold, weight)
        log_odds = np.concatenate([self.out_of_fold, self.outcome_model.stack.log_odds(inputs.columns)])
        return replace(
            self, retriever=retriever, backbone=backbone, out_of_fold=log_odds, sampling_weight=self.weight_of_more(len(outcome))
        )

    def without_stored(self, removed: Bools) -> FittedRisk:
        """Return the model without some stored rows (mask, (n,)) among the similar patients; the base learners stay."""
        return replace(
            self,
            retriever=self.retriever.without(removed),
            backbone=None if self.backbone is None else self.backbone.without(removed[self.taught]),
            out_of_fold=self.out_of_fold[~removed],
            sampling_weight=self.weight_without(removed),
        )

    def without(self, removed: Bools, patient_ids: Ints, *, refit_band: bool) -> FittedRisk:
        """Return the model without some stored rows (mask, (n,)), those of the patients with these numbers.

        The band's bins begin at patients' scores: it is fitted again on those that remain, unless it rests on other patients.
        """
        model = self.without_stored(removed)
        without, with_event = self.class_rows(removed, 2).tolist()
        base_learners = self.base_learners.without(patient_ids, (without, with_event))
        outcome_model = self.outcome_model
        if refit_band:
            taught = model.taught
            outcome = model.retriever.outcome[taught].astype(np.int64)
            outcome_model = replace(outcome_model, band=VennAbersBand.fit(model.out_of_fold[taught], outcome, model.teaching_weight))
        return replace(model, base_learners=base_learners, outcome_model=outcome_model)

    def refitted(
        self, frame: pl.DataFrame, data: TrainingData, patient_ids: Ints, seed: int, progress: Progress
    ) -> tuple[FittedRisk, Floats]:
        """Return the model with all but encoders and shards fitted again, and the distances (t,) of the rows that teach.

        Parameters
        ----------
        frame : the conformed stored rows that teach, t rows
        data : TrainingData, t rows, in the shards' folds, weighted
        patient_ids : (n,), of all stored rows
        seed, progress : as ``fit_base_learners``
        """
        rows, learners = self.encode(frame), self.base_learners
        options = (learners.user_scores, seed, progress, learners.trees, len(learners.folds) // data.n_folds)
        fitted, scores, distance = fit_base_learners(rows, self.table_encoder, data, *options)
        inputs = encoder_inputs(self.table_encoder, rows)
        vote, head = self.retriever.out_of_fold(inputs, patient_ids, np.flatnonzero(self.taught))
        columns, backbone = stack_columns(scores, vote, head, self.retriever.has_head), self.backbone
        if isinstance(backbone, InContextModel):
            backbone, risk = backbone.refitted(StoredRows(fitted.features(rows, data.fold), columns, inputs, data), self.teachers)
            columns = np.column_stack([columns, logit(risk)])
        stack, out_of_fold, _ = fit_stack(columns, data)
        model = replace(
            self, base_learners=fitted, backbone=backbone, out_of_fold=self.spread(out_of_fold),
            novelty=DistanceQuantiles.fit(distance, weight=data.weight), outcome_model=OutcomeModel.fit(stack, out_of_fold, data),
            prevalence=None, trained_prevalence=data.prevalence,
        )  # fmt: skip
        return model, distance

    def spread(self, values: Floats) -> Floats:
        """Return values of the rows that taught for all stored rows: NaN elsewhere."""
        spread = np.full(len(self.retriever.outcome), np.nan)
        spread[self.taught] = values
        return spread

    @property
    def prior_shift(self) -> float:
        """Shift of the log-odds from the prevalence of the training rows to that where the model is used."""
        return 0.0 if self.prevalence is None else float(logit(self.prevalence) - logit(self.trained_prevalence))

    @property
    def row_storage(self) -> tuple[str, ...]:
        """The parts that store rows of patients, beside their records."""
        return (*super().row_storage, "out-of-fold scores", "band", *([] if self.backbone is None else ["in-context model's rows"]))

    @property
    def fitted_parts(self) -> tuple[str, ...]:
        """The parts that were fitted on the stored patients, and hold no row of them."""
        return (*super().fitted_parts, *(f"expert {estimator.name}" for estimator in self.user_estimators))

    def out_of_fold_log_odds(self, rows: Ints) -> Floats:
        """Return the calibrated log-odds of some stored rows, by models that had not seen the row's patient."""
        return self.outcome_model.calibrator.log_odds(self.out_of_fold[rows]) + self.prior_shift

    def stack_inputs(self, frame: pl.DataFrame) -> StackInputs:
        """Return what the stack weighs, and the contexts, of a conformed frame of q rows."""
        rows = self.encode(frame)
        base_scores, distance = self.base_learners.scores(rows)
        embedded = self.retriever.embed_in_all(encoder_inputs(self.table_encoder, rows))
        head = np.mean([logits for _, logits in embedded], axis=0)
        settings = () if self.backbone is None else self.backbone.settings
        if self.backbone is None or self.teachers is self.retriever:
            neighbours, *contexts = self.retriever.search(embedded, (self.retriever.setting, *settings))
        else:
            (neighbours,) = self.retriever.search(embedded, (self.retriever.setting,))
            contexts = self.teachers.search(embedded, settings)
        columns = stack_columns(base_scores, neighbours.vote, head, self.retriever.has_head)
        if self.backbone is None:
            return StackInputs(columns, neighbours, neighbours, distance)
        if isinstance(self.backbone, InContextModel):
            risk, context = self.backbone.predict(self.base_learners.features(rows), columns, contexts)
        else:
            risk, context = self.backbone.predict(raw_rows(self.table_encoder, rows.numbers), contexts[0]), neighbours
        if self.teachers is not self.retriever:  # the sample's mixture of outcomes: its vote is not the table's
            context = neighbours
        return StackInputs(np.column_stack([columns, logit(risk)]), neighbours, context, distance)

    def encode(self, frame: pl.DataFrame) -> EncodedRows:
        """Encode a conformed frame of q rows."""
        user_scores = self.base_learners.user_scores
        score_columns = user_scores[: len(user_scores) - len(self.user_estimators)]
        return encode_rows(self.table_encoder, frame, score_columns, [estimator.scores(frame) for estimator in self.user_estimators])

    @classmethod
    def unpack(cls, packed: Any, tensors: Arrays, backbone: Backbone | None = None) -> FittedRisk:
        """Load what ``pack`` returned; ``backbone`` is the user's own object, which no file can hold."""
        parts = unpack(packed, tensors, PERSISTED_TYPES)
        state, model = parts["backbone"], None
        if state is not None:
            model = ExternalBackboneModel.from_state(state, backbone) if "backbone" in state else InContextModel.from_state(state)
        return cls(**{**parts, "retriever": Retriever.from_state(parts["retriever"]), "backbone": model})


def fit_risk(
    schema: Schema,
    frame: pl.DataFrame,
    outcome: Ints,
    patient_ids: Ints,
    config: FitConfig,
    progress: Progress,
    weight: Floats | None = None,
    others: OtherRows | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[FittedRisk, FitSummary]:
    """Fit on conformed rows; every stage is fitted on scores from models that have not seen the row's patient.

    Parameters
    ----------
    schema : Schema
    frame : conformed, n rows
    outcome : (n,), 0 or 1
    patient_ids : (n,), patient numbers from 0
    config : FitConfig
    progress : called with a message after each piece of work
    weight : (n,), > 0, optional
        How many rows of the table each row stands for.
    others : OtherRows, optional
        Further rows of the table, which are stored after these n and teach nothing: similar patients are found among all rows, so that
        their votes need no weights.
    checkpoints : Checkpoints, optional
        For base learners, metrics and encoders, which a fit that goes on does not fit again.

    Returns
    -------
    model : FittedRisk
    summary : FitSummary
    """
    data = TrainingData(outcome, patient_ids, split_patients(outcome, patient_ids, config.folds, config.seed), weight)
    table_encoder = TableEncoder.fit(schema, frame, data.weight)
    user_estimators, estimator_scores = cross_fit(config.user_estimators, schema, frame, data, progress)
    rows = encode_rows(table_encoder, frame, schema.experts, list(estimator_scores.T))
    user_scores = (*schema.experts, *(estimator.name for estimator in user_estimators))
    learning = (rows, table_encoder, data, user_scores, config.seed, progress, config.trees, config.repeats)
    base_learners, base_scores, distance = remembered(checkpoints, "learners", PERSISTED_TYPES, lambda: fit_base_learners(*learning))
    layout, unlabelled = config.layout_and_unlabelled(schema, table_encoder)
    inputs = encoder_inputs(table_encoder, rows)
    blocks = None if others is None else OtherBlocks(table_encoder, others, data)
    retriever, vote, head, trials = fit_retriever(
        inputs, data, config.encoder, config.seed, progress, layout=layout, unlabelled=unlabelled, others=blocks, checkpoints=checkpoints
    )
    sampling_weight = weight_of_stored(data, len(retriever.outcome))
    columns = stack_columns(base_scores, vote, head, retriever.has_head)
    fit = StackFit(stack_column_names(base_learners, retriever.has_head), columns, *fit_stack(columns, data))
    backbone, backbone_summary = None, BackboneSummary(in_use=False, why="none was requested")
    if config.backbone is not None:
        teachers = retriever if sampling_weight is None else retriever.select(sampling_weight > 0)
        stored = StoredRows(base_learners.features(rows, data.fold), columns, inputs, data)
        if _is_worth_all_rows(config, stored, teachers, fit):
            candidate, risk, backbone_summary = _fit_backbone(config, table_encoder, rows.numbers, stored, teachers, progress)
            fit, backbone_summary = add_backbone(fit, risk, data, backbone_summary, config.seed)
            backbone = candidate if backbone_summary.in_use else None
        else:
            progress("in-context model")
            backbone_summary = BackboneSummary(in_use=False, why=NOT_WORTH_IT, name="embedded", members=config.members)
    progress("stack")
    model = FittedRisk(
        table_encoder=table_encoder,
        retriever=retriever,
        novelty=DistanceQuantiles.fit(distance, weight=data.weight),
        base_learners=base_learners,
        backbone=backbone,
        outcome_model=OutcomeModel.fit(fit.stack, fit.out_of_fold, data),
        out_of_fold=np.append(fit.out_of_fold, np.full(len(retriever.outcome) - len(data), np.nan)),
        trained_prevalence=data.prevalence,
        prevalence=config.prevalence,
        user_estimators=user_estimators,
        sampling_weight=sampling_weight,
    )
    progress("calibration")
    return model, summarise(data, retriever, blocks, trials, fit, backbone_summary)


def _fit_backbone(
    config: FitConfig,
    table_encoder: TableEncoder,
    numbers: EncodedTable,
    rows: StoredRows,
    retriever: Retriever,
    progress: Progress,
) -> tuple[InContextModel | ExternalBackboneModel, Floats, BackboneSummary]:
    """Fit the requested backbone; returns it, its risks of the stored rows out of fold (n,), and its part of the summary."""
    assert config.backbone is not None
    if config.backbone == "embedded":
        model, risk, adapter = fit_in_context_model(rows, retriever, config.members, config.adapter, config.seed, progress)
        return model, risk, BackboneSummary(in_use=False, why="", name="embedded", members=config.members, adapter=adapter)
    backbone = find_backbone(config.backbone, category_columns(table_encoder))
    external, risk = fit_external_backbone(backbone, raw_rows(table_encoder, numbers), rows.inputs, rows.data, retriever)
    progress("in-context model")
    return external, risk, BackboneSummary(in_use=False, why="", name=backbone.name)


def _is_worth_all_rows(config: FitConfig, rows: StoredRows, retriever: Retriever, fit: StackFit) -> bool:
    """Return whether the embedded model, which reads many rows slowly, lets the stack rank better in a sample of the first fold."""
    if config.backbone != "embedded" or config.adapter or len(rows.data) <= _TRIED_AT_ONCE:
        return True
    fold = np.flatnonzero(rows.data.fold == 0)
    chosen, sample = rows.data.take(fold).subsample(_TRIAL_ROWS, config.seed)
    risk = predict_some(rows, retriever, config.members, config.seed, fold[chosen])
    return ranks_better_with(fit, risk, fold[chosen], sample, config.seed)
