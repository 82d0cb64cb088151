"""A fitted risk model, from encoded rows to risks: the one way that a patient's row goes.

frame → schema check → encoding → panel and embedding → neighbours → vote → stack → calibration → risk

Letters: n stored rows, q query rows, m members of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.binary import Retriever, RuleTrial, fit_retriever
from nearward.retrieval.neighbors.voting import Context, Rule
from nearward.risk_model.external_backbone import ExternalBackboneModel, fit_external_backbone, level_columns, raw_rows
from nearward.risk_model.in_context import EnsembleView, InContextModel, StoredRows, fit_in_context_model
from nearward.risk_model.user_experts import PARTS as BROUGHT_PARTS
from nearward.risk_model.user_experts import CrossFittedEstimator, cross_fit
from nearward.tabular.backbones.pretrained import Backbone, find_backbone
from nearward.tabular.calibration.calibrator import Calibrator, correct_prior
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, Columns, FoldLearners, fit_base_learners
from nearward.tabular.ensemble.closed_form import Kernel, Ridge
from nearward.tabular.ensemble.stacking import Stack, fit_stack
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import CategoryColumn, EncodedTable, NumberColumn, TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder
from nearward.tabular.typing import Arrays, Floats, Ints

_VOTE_FLOOR = 2e-3  # a vote of 0 out of a hundred patients is no certainty
PLACES = {True: "AWARE encoders", False: "linear metric"}
PARTS: tuple[type, ...] = (
    TableEncoder, NumberColumn, CategoryColumn, BaseLearners, Ridge, Kernel, FoldLearners, TargetEncoder, Forest, LinearMetric, EncoderConfig, Rule,
    Stack, Calibrator, VennAbersBand, DistanceQuantiles, EnsembleView, *BROUGHT_PARTS,
)  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """What is said of q rows.

    Parameters
    ----------
    risk, low, high : (q,), probability
    vote : (q,), share of the similar patients' weight that had the outcome
    n_similar : (q,), how many patients in the context are as near as context usually is
    novelty : (q,), share of stored patients who are less unusual
    """

    risk: Floats
    low: Floats
    high: Floats
    vote: Floats
    n_similar: Ints
    novelty: Floats

    @property
    def proba(self) -> Floats:
        """Probability of no event and of the event (q, 2)."""
        return np.column_stack([1 - self.risk, self.risk])


@dataclass(frozen=True)
class _Consulted:
    """What panel, neighbours and in-context model say of q rows: the stack's members (q, m), contexts, distances (q,)."""

    members: Floats
    found: Context
    voted: Context
    distance: Floats


@dataclass(frozen=True)
class FittedRisk:
    """Everything that scoring needs.

    Parameters
    ----------
    encoding : Encoding
    panel : Panel
    retriever : Retriever
    backbone : InContextModel, Foreign or None
        The in-context model; None where the panel alone ranked better, or none was asked for.
    stack : Stack
    calibration : Calibration
    band : VennAbersBand
    novelty : Novelty
    trained_prevalence : float
    prevalence : float or None
        Where the model is used, if it differs from where it was trained.
    user_estimators : tuple of Brought
        The user's own estimators in the panel.
    """

    encoding: TableEncoder
    panel: BaseLearners
    retriever: Retriever
    backbone: InContextModel | ExternalBackboneModel | None
    stack: Stack
    calibration: Calibrator
    band: VennAbersBand
    novelty: DistanceQuantiles
    trained_prevalence: float
    prevalence: float | None
    user_estimators: tuple[CrossFittedEstimator, ...] = ()

    def score(self, frame: pl.DataFrame) -> Scores:
        """Score a conformed frame of q rows."""
        consulted = self._consult(self._rows(frame))
        stacked = self.stack.log_odds(consulted.members)
        risk = expit(self.calibration.log_odds(stacked))
        low, high = self.band.interval(stacked, risk)
        if self.prevalence is not None:
            risk, low, high = (correct_prior(p, self.trained_prevalence, self.prevalence) for p in (risk, low, high))
        distance = consulted.distance
        for missing in self.encoding.new_missing(frame).values():  # counts as its missing flag would, had a stored row missed it
            distance = distance + missing
        near = self.retriever.similar_count(consulted.found)
        return Scores(risk, low, high, consulted.voted.vote, near, self.novelty.score(distance))

    def context(self, frame: pl.DataFrame) -> Context:
        """Return the similar patients of a conformed frame's rows, with the weights of the vote."""
        return self._consult(self._rows(frame)).voted

    def _rows(self, frame: pl.DataFrame) -> Columns:
        own = self.panel.own[: len(self.panel.own) - len(self.user_estimators)]
        return columns(self.encoding, frame, own, [one.scores(frame) for one in self.user_estimators])

    def _consult(self, rows: Columns) -> _Consulted:
        """Ask panel, neighbours and in-context model about q rows."""
        panel, distance = self.panel.scores(rows)
        rules = () if self.backbone is None else self.backbone.rules
        (found, *contexts), head = self.retriever.contexts(rows.dense, (self.retriever.rule, *rules))
        members = _members(panel, found.vote, head, self.retriever.has_head)
        if self.backbone is None:
            return _Consulted(members, found, found, distance)
        if isinstance(self.backbone, InContextModel):
            risk, voted = self.backbone.ask(self.panel.values(rows), members, contexts)
        else:
            voted, risk = found, self.backbone.ask(raw_rows(self.encoding, rows.numbers), contexts[0])
        return _Consulted(np.column_stack([members, logit(risk)]), found, voted, distance)

    def gate(self, frame: pl.DataFrame) -> dict[str, float]:
        """Return how much each source column weighed in what made patients similar, mean over rows; shares sum to 1."""
        return share_by_source(self.encoding, self.retriever.gate(self.encoding.transform(frame)))

    def pack(self, tensors: Arrays) -> Any:
        """Return the model as JSON, its arrays put into ``tensors``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        backbone = None if self.backbone is None else self.backbone.state()
        return pack({**parts, "retriever": self.retriever.state(), "backbone": backbone}, tensors)

    @classmethod
    def unpack(cls, packed: Any, tensors: Arrays, given: Backbone | None = None) -> FittedRisk:
        """Rebuild what ``pack`` took apart; ``given`` is the backbone where the model asks one that no file can hold."""
        parts = unpack(packed, tensors, PARTS)
        state, backbone = parts["backbone"], None
        if state is not None:
            backbone = ExternalBackboneModel.from_state(state, given) if "backbone" in state else InContextModel.from_state(state)
        return cls(**{**parts, "retriever": Retriever.from_state(parts["retriever"]), "backbone": backbone})


@dataclass(frozen=True)
class FitConfig:
    """What fitting may be told; see ``RiskClassifier``.

    Parameters
    ----------
    folds : int
    encoder : EncoderConfig
    backbone : "embedded", "tabpfn", "tabicl", Backbone or None
    members : int
    adapter : bool
    prevalence : float or None
    seed : int
    unlabelled : pl.DataFrame or None
        Conformed rows without an outcome, for the encoder's pretext.
    user_estimators : tuple of estimators
    """

    folds: int
    encoder: EncoderConfig
    backbone: str | Backbone | None
    members: int
    adapter: bool
    prevalence: float | None
    seed: int
    unlabelled: pl.DataFrame | None = None
    user_estimators: tuple[Any, ...] = ()

    def beside(self, schema: Schema, encoding: TableEncoder) -> tuple[FeatureLayout | None, Floats | None]:
        """Return what the encoder's options need beside the rows: the layout of the columns, and unlabelled rows (u, p)."""
        if not self.encoder.block_dropout and self.encoder.pretext == "none":
            return None, None
        block_of = {column.name: column.block for column in schema.columns if column.block is not None}
        rows = None if self.unlabelled is None else encoding.transform(self.unlabelled)
        return FeatureLayout.from_encoder(encoding, block_of), rows


def fit_risk(
    schema: Schema, frame: pl.DataFrame, outcome: Ints, group: Ints, config: FitConfig, progress: Callable[[str], None]
) -> tuple[FittedRisk, dict[str, Any]]:
    """Fit on conformed rows; every score that something is fitted on comes from a model that had not seen the row's patient.

    Parameters
    ----------
    schema : Schema
    frame : conformed, n rows
    outcome : (n,), 0 or 1
    group : (n,), patient numbers from 0
    config : Recipe
    progress : called with a few words after each piece of work

    Returns
    -------
    model : FittedRisk
    summary : JSON-able account of the training, its figures out of fold
    """
    data = TrainingData(outcome, group, split_patients(outcome, group, config.folds, config.seed))
    encoding = TableEncoder.fit(schema, frame)
    user_estimators, said = cross_fit(config.user_estimators, schema, frame, data, progress)
    rows = columns(encoding, frame, schema.experts, list(said.T))
    own = (*schema.experts, *(one.name for one in user_estimators))
    panel, scores, distance = fit_base_learners(rows, encoding, data, own, config.seed, progress)
    layout, unlabelled = config.beside(schema, encoding)
    retriever, context, head, trials = fit_retriever(
        rows.dense, data, config.encoder, config.seed, progress, layout=layout, unlabelled=unlabelled
    )
    trained = retriever.has_head
    members = _members(scores, context.vote, head, trained)
    names = [*panel.names, "AWARE vote", *(["AWARE head"] if trained else [])]
    stack, out_of_fold, shrinkage = fit_stack(members, data)
    backbone, told = None, {"in_use": False, "why": "none was asked for"}
    if config.backbone is not None:
        asked = StoredRows(panel.values(rows, data.fold), members, rows.dense, data)
        backbone, risk, told = _fit_backbone(config, encoding, rows.numbers, asked, retriever, progress)
        with_it = np.column_stack([members, logit(risk)])
        wider = fit_stack(with_it, data, (shrinkage,))  # as freely as without it: else the freedom is judged, not the model
        alone, together = (float(average_precision_score(outcome, z)) for z in (out_of_fold, wider[1]))
        told |= {"auprc": float(average_precision_score(outcome, risk)), "auprc_panel_alone": alone, "auprc_together": together}
        told["in_use"] = together > alone
        if told["in_use"]:
            members, names, (stack, out_of_fold, shrinkage) = with_it, [*names, "in-context model"], wider
            told["why"] = "out of fold the stack ranks better with it"
        else:
            backbone, told["why"] = None, "out of fold the panel alone ranks as well or better"
    progress("stack")
    model = FittedRisk(
        encoding,
        panel,
        retriever,
        backbone,
        stack,
        Calibrator.fit(out_of_fold, outcome),
        VennAbersBand.fit(out_of_fold, outcome),
        DistanceQuantiles.fit(distance),
        float(outcome.mean()),
        config.prevalence,
        user_estimators,
    )
    progress("calibration")
    summary = {
        "rows": len(outcome),
        "events": int(outcome.sum()),
        "patients": data.n_patients,
        "folds": data.n_folds,
        "retrieval": _retrieval(retriever.learned, trials),
        "backbone": told,
        "stack_pull": shrinkage,
        "out_of_fold": {
            "auprc": float(average_precision_score(outcome, out_of_fold)),
            "auroc": float(roc_auc_score(outcome, out_of_fold)),
            "members": {
                name: {"auprc": float(average_precision_score(outcome, column)), "weight": float(weight)}
                for name, column, weight in zip(names, members.T, stack.weight, strict=True)
            },
            "contexts": [{"places": PLACES[trial.learned], **asdict(trial.rule), "vote_auprc": trial.auprc} for trial in trials],
        },
        "context": asdict(retriever.rule),
    }
    return model, summary


def _retrieval(learned: bool, trials: list[RuleTrial]) -> str:
    if learned:
        return PLACES[True]
    tried = any(trial.learned for trial in trials)
    why = "out of fold the encoders' vote does not rank clearly better" if tried else "too few patients or events for encoders"
    return f"{PLACES[False]}: {why}"


def _fit_backbone(
    config: FitConfig,
    encoding: TableEncoder,
    numbers: EncodedTable,
    rows: StoredRows,
    retriever: Retriever,
    progress: Callable[[str], None],
) -> tuple[InContextModel | ExternalBackboneModel, Floats, dict[str, Any]]:
    """Make the asked-for backbone ready, and let it judge the stored rows: (n,) risks, and an account of it."""
    if config.backbone == "embedded":
        return fit_in_context_model(rows, retriever, config.members, config.adapter, config.seed, progress)
    assert config.backbone is not None
    found = find_backbone(config.backbone, level_columns(encoding))
    foreign, risk = fit_external_backbone(found, raw_rows(encoding, numbers), rows.dense, rows.data, retriever)
    progress("in-context model")
    return foreign, risk, {"name": found.name}


def share_by_source(encoding: TableEncoder, weight: Floats) -> dict[str, float]:
    """Sum the weights of encoded columns (p,), their mean 1, by source column: shares that sum to 1, the largest first."""
    total: dict[str, float] = {}
    for source, value in zip(encoding.source_columns, weight, strict=True):
        total[source] = total.get(source, 0.0) + float(value) / len(weight)
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def columns(encoding: TableEncoder, frame: pl.DataFrame, own: tuple[str, ...], said: Sequence[Floats] = ()) -> Columns:
    """Read a conformed frame in the three ways that panel and retriever need.

    Parameters
    ----------
    encoding : Encoding
    frame : conformed, q rows
    own : names of the user's score columns
    said : what the user's estimators say of the rows, each (q,)
    """
    numbers = encoding.encode(frame)
    place = {column.name: j for j, column in enumerate(encoding.numeric)}
    return Columns(encoding.to_matrix(numbers), numbers, np.column_stack([numbers.values[:, [place[name] for name in own]], *said]))


def _members(panel: Floats, vote: Floats, head: Floats, has_head: bool) -> Floats:
    opinions = [panel, logit(vote, _VOTE_FLOOR)]
    return np.column_stack([*opinions, head] if has_head else opinions)
