"""A risk model of a binary outcome, from a conformed table to calibrated risks.

table → encoding → base learners, and embedding → similar patients → vote → in-context model → stack → calibration → risk

Shapes: n stored rows, q query rows, m columns of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from nearward.retrieval.neighbors.binary import Retriever, fit_retriever, ranks_clearly_better
from nearward.retrieval.neighbors.voting import Context
from nearward.risk_model.config import FitConfig
from nearward.risk_model.external_backbone import ExternalBackboneModel, category_columns, fit_external_backbone, raw_rows
from nearward.risk_model.fitted import (
    PERSISTED_TYPES,
    FittedModel,
    OutcomeModel,
    StackFit,
    encode_rows,
    encoder_inputs,
    stack_column_names,
    stack_columns,
    summarise,
)
from nearward.risk_model.in_context import InContextModel, StoredRows, fit_in_context_model
from nearward.risk_model.summary import BackboneSummary, FitSummary
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
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.typing import Arrays, Bools, Floats, Ints, Progress


@dataclass(frozen=True)
class Scores:
    """Scores of q rows.

    Parameters
    ----------
    risk, low, high : (q,), probability
    vote : (q,), share of the similar patients' weight that had the outcome
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
        """Return the columns of ``predict_frame`` for two classes."""
        return [pl.Series(name, getattr(self, name)) for name in ("risk", "low", "high", "n_similar", "novelty", "vote")]


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
        The stack's log-odds of the stored rows, before calibration, by models that had not seen the row's patient.
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

    def extended(self, frame: pl.DataFrame, outcome: Ints, fold: Ints, weight: float | None = None) -> FittedRisk:
        """Return the model with more stored rows, as it scores them now; arguments as ``ShardedRetriever.extended``."""
        rows, inputs = self.encode(frame), self.stack_inputs(frame)
        backbone = self.backbone
        if isinstance(backbone, InContextModel):
            backbone = backbone.extended(self.base_learners.features(rows), inputs.columns[:, :-1], outcome)
        elif backbone is not None:
            backbone = backbone.extended(raw_rows(self.table_encoder, rows.numbers), outcome)
        retriever = self.retriever.extended(encoder_inputs(self.table_encoder, rows), outcome, fold, weight)
        log_odds = self.outcome_model.stack.log_odds(inputs.columns)
        return replace(self, retriever=retriever, backbone=backbone, out_of_fold=np.concatenate([self.out_of_fold, log_odds]))

    def without_stored(self, removed: Bools) -> FittedRisk:
        """Return the model without some stored rows (mask, (n,)) among the similar patients; the base learners stay."""
        backbone = None if self.backbone is None else self.backbone.without(removed)
        return replace(self, retriever=self.retriever.without(removed), backbone=backbone, out_of_fold=self.out_of_fold[~removed])

    def without(self, removed: Bools, patient_ids: Ints, *, refit_band: bool) -> FittedRisk:
        """Return the model without some stored rows (mask, (n,)), those of the patients with these numbers.

        The band's bins begin at patients' scores: it is fitted again on those that remain, unless it rests on other patients.
        """
        model = self.without_stored(removed)
        outcome = model.retriever.outcome.astype(np.int64)
        base_learners = self.base_learners.without(patient_ids, (int((outcome == 0).sum()), int(outcome.sum())))
        outcome_model = self.outcome_model
        if refit_band:
            outcome_model = replace(outcome_model, band=VennAbersBand.fit(model.out_of_fold, outcome))
        return replace(model, base_learners=base_learners, outcome_model=outcome_model)

    def refitted(self, frame: pl.DataFrame, data: TrainingData, seed: int, progress: Progress) -> tuple[FittedRisk, Floats]:
        """Return the model with base learners, stack and calibration fitted again on its stored rows, and their distances (n,).

        Encoders and shards stay. Arguments as ``fit_base_learners``: the conformed stored rows, weighted, in the shards' folds.
        """
        rows, learners = self.encode(frame), self.base_learners
        fitted, scores, distance = fit_base_learners(rows, self.table_encoder, data, learners.user_scores, seed, progress, learners.trees)
        inputs = encoder_inputs(self.table_encoder, rows)
        vote, head = self.retriever.out_of_fold(inputs, data.patient_ids)
        columns, backbone = stack_columns(scores, vote, head, self.retriever.has_head), self.backbone
        if isinstance(backbone, InContextModel):
            backbone, risk = backbone.refitted(StoredRows(fitted.features(rows, data.fold), columns, inputs, data), self.retriever)
            columns = np.column_stack([columns, logit(risk)])
        stack, out_of_fold, _ = fit_stack(columns, data)
        model = replace(
            self, base_learners=fitted, backbone=backbone, out_of_fold=out_of_fold,
            novelty=DistanceQuantiles.fit(distance, weight=data.weight), outcome_model=OutcomeModel.fit(stack, out_of_fold, data),
            prevalence=None, trained_prevalence=data.prevalence,
        )  # fmt: skip
        return model, distance

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
        settings = () if self.backbone is None else self.backbone.settings
        (neighbours, *contexts), head = self.retriever.contexts(
            encoder_inputs(self.table_encoder, rows), (self.retriever.setting, *settings)
        )
        columns = stack_columns(base_scores, neighbours.vote, head, self.retriever.has_head)
        if self.backbone is None:
            return StackInputs(columns, neighbours, neighbours, distance)
        if isinstance(self.backbone, InContextModel):
            risk, context = self.backbone.predict(self.base_learners.features(rows), columns, contexts)
        else:
            risk, context = self.backbone.predict(raw_rows(self.table_encoder, rows.numbers), contexts[0]), neighbours
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
    schema: Schema, frame: pl.DataFrame, outcome: Ints, patient_ids: Ints, config: FitConfig, progress: Progress
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

    Returns
    -------
    model : FittedRisk
    summary : FitSummary
    """
    data = TrainingData(outcome, patient_ids, split_patients(outcome, patient_ids, config.folds, config.seed))
    table_encoder = TableEncoder.fit(schema, frame, data.weight)
    user_estimators, estimator_scores = cross_fit(config.user_estimators, schema, frame, data, progress)
    rows = encode_rows(table_encoder, frame, schema.experts, list(estimator_scores.T))
    user_scores = (*schema.experts, *(estimator.name for estimator in user_estimators))
    base_learners, base_scores, distance = fit_base_learners(
        rows, table_encoder, data, user_scores, config.seed, progress, config.trees, config.repeats
    )
    layout, unlabelled = config.layout_and_unlabelled(schema, table_encoder)
    inputs = encoder_inputs(table_encoder, rows)
    retriever, vote, head, trials = fit_retriever(inputs, data, config.encoder, config.seed, progress, layout=layout, unlabelled=unlabelled)
    columns = stack_columns(base_scores, vote, head, retriever.has_head)
    fit = StackFit(stack_column_names(base_learners, retriever.has_head), columns, *fit_stack(columns, data))
    backbone, backbone_summary = None, BackboneSummary(in_use=False, why="none was asked for")
    if config.backbone is not None:
        stored = StoredRows(base_learners.features(rows, data.fold), columns, inputs, data)
        candidate, risk, backbone_summary = _fit_backbone(config, table_encoder, rows.numbers, stored, retriever, progress)
        fit, backbone_summary = _add_backbone(fit, risk, data, backbone_summary, config.seed)
        backbone = candidate if backbone_summary.in_use else None
    progress("stack")
    model = FittedRisk(
        table_encoder=table_encoder,
        retriever=retriever,
        novelty=DistanceQuantiles.fit(distance, weight=data.weight),
        base_learners=base_learners,
        backbone=backbone,
        outcome_model=OutcomeModel.fit(fit.stack, fit.out_of_fold, data),
        out_of_fold=fit.out_of_fold,
        trained_prevalence=data.prevalence,
        prevalence=config.prevalence,
        user_estimators=user_estimators,
    )
    progress("calibration")
    return model, summarise(data, retriever, trials, fit, backbone_summary)


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


def _add_backbone(fit: StackFit, risk: Floats, data: TrainingData, summary: BackboneSummary, seed: int) -> tuple[StackFit, BackboneSummary]:
    """Add the backbone's risks (n,) to the stack where the stack then ranks clearly better out of fold."""
    columns = np.column_stack([fit.columns, logit(risk)])
    # the same shrinkage as without the backbone: otherwise the comparison would be one of penalties
    wider = StackFit([*fit.names, "in-context model"], columns, *fit_stack(columns, data, (fit.shrinkage,)))
    without, together = (
        float(average_precision_score(data.outcome, stack.out_of_fold, sample_weight=data.weight)) for stack in (fit, wider)
    )
    auprc = float(average_precision_score(data.outcome, risk, sample_weight=data.weight))
    in_use = ranks_clearly_better(wider.out_of_fold, fit.out_of_fold, data, seed)
    why = "out of fold the stack ranks clearly better with it" if in_use else "out of fold the stack does not rank clearly better with it"
    summary = replace(summary, in_use=in_use, why=why, auprc=auprc, auprc_without=without, auprc_with=together)
    return wider if in_use else fit, summary
