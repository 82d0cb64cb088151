"""Outcomes of more than two classes, up to ten: a diagnosis, a discharge place. What ``fitted.py`` is for one event.

frame → schema check → encoding → a panel a class, one embedding for all → neighbours → vote over the classes →
a stack and a calibration a class → shares that sum to one

The panel is asked once a class (this class or not), all on the same folds. The neighbours are found once, by encoders that place all
classes, and vote over all of them. The embedded in-context model knows one event only and is not asked.

Letters: n stored rows, q query rows, c classes, m members of a class's stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.retrieval.neighbors.multiclass import ClassRetriever, fit_class_retriever, vote
from nearward.retrieval.neighbors.voting import Context
from nearward.risk_model.binary import PARTS, PLACES, FitConfig, columns, share_by_source
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.calibration.multiclass import Coupling
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_classes
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import BaseLearners, fit_base_learners
from nearward.tabular.ensemble.stacking import Stack, fit_stack
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.persistence.artifact import pack, unpack
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Arrays, Floats, Ints

_VOTE_FLOOR = 2e-3


@dataclass(frozen=True)
class ClassScores:
    """What is said of q rows.

    Parameters
    ----------
    proba : (q, c), share of each class; rows sum to 1
    low, high : (q, c), band of each class's own risk against the rest
    vote : (q, c), share of the similar patients' weight
    n_similar : (q,), how many patients in the context are as near as context usually is
    novelty : (q,), share of stored patients who are less unusual
    """

    proba: Floats
    low: Floats
    high: Floats
    vote: Floats
    n_similar: Ints
    novelty: Floats


@dataclass(frozen=True)
class FittedClasses:
    """Everything that scoring needs.

    Parameters
    ----------
    encoding : Encoding
    panels : tuple of Panel, one a class
    retriever : ClassRetriever
    stacks : tuple of Stack
    calibrations : tuple of Calibration
    bands : tuple of VennAbersBand
    coupling : Coupling
    novelty : Novelty
    """

    encoding: TableEncoder
    panels: tuple[BaseLearners, ...]
    retriever: ClassRetriever
    stacks: tuple[Stack, ...]
    calibrations: tuple[Calibrator, ...]
    bands: tuple[VennAbersBand, ...]
    coupling: Coupling
    novelty: DistanceQuantiles

    def score(self, frame: pl.DataFrame) -> ClassScores:
        """Score a conformed frame of q rows."""
        rows = columns(self.encoding, frame, self.panels[0].own)
        context, head = self.retriever.context(rows.dense)
        votes = vote(context, len(self.panels))
        asked = [panel.scores(rows) for panel in self.panels]
        stacked = np.column_stack(
            [
                stack.log_odds(_members(told, votes[:, j], head[:, j], self.retriever.has_head))
                for j, (stack, (told, _)) in enumerate(zip(self.stacks, asked, strict=True))
            ]
        )
        each = np.column_stack([one.log_odds(z) for one, z in zip(self.calibrations, stacked.T, strict=True)])
        proba = self.coupling.shares(each)
        ends = [band.interval(z, p) for band, z, p in zip(self.bands, stacked.T, proba.T, strict=True)]
        low, high = (np.column_stack(end) for end in zip(*ends, strict=True))
        distance = asked[0][1]
        for missing in self.encoding.new_missing(frame).values():
            distance = distance + missing
        return ClassScores(proba, low, high, votes, self.retriever.similar_count(context), self.novelty.score(distance))

    def context(self, frame: pl.DataFrame) -> Context:
        """Return the similar patients of a conformed frame's rows, with the weights of the vote; their outcome is a class number."""
        return self.retriever.context(self.encoding.transform(frame))[0]

    def gate(self, frame: pl.DataFrame) -> dict[str, float]:
        """Return how much each source column weighed in what made patients similar; see ``FittedRisk.gate``."""
        return share_by_source(self.encoding, self.retriever.gate(self.encoding.transform(frame)))

    def pack(self, tensors: Arrays) -> Any:
        """Return the model as JSON, its arrays put into ``tensors``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return pack({**parts, "retriever": self.retriever.state()}, tensors)

    @classmethod
    def unpack(cls, packed: Any, tensors: Arrays) -> FittedClasses:
        """Rebuild what ``pack`` took apart."""
        parts = unpack(packed, tensors, (*PARTS, Coupling))
        return cls(**{**parts, "retriever": ClassRetriever.from_state(parts["retriever"])})


def fit_classes(
    schema: Schema, frame: pl.DataFrame, code: Ints, group: Ints, config: FitConfig, progress: Callable[[str], None]
) -> tuple[FittedClasses, dict[str, Any]]:
    """Fit on conformed rows; every score that something is fitted on comes from a model that had not seen the row's patient.

    Parameters
    ----------
    schema : Schema
    frame : conformed, n rows
    code : (n,), class numbers from 0
    group : (n,), patient numbers from 0
    config : Recipe
    progress : called with a few words after each piece of work

    Returns
    -------
    model : FittedClasses
    summary : JSON-able account of the training, its figures out of fold

    Raises
    ------
    InputError
        What only an outcome of two values can be asked: another backbone, an adapter, a prevalence, experts that are estimators.
    """
    _refuse(config)
    classes, data = int(code.max()) + 1, TrainingData(code, group, split_classes(code, group, config.folds, config.seed))
    encoding = TableEncoder.fit(schema, frame)
    rows = columns(encoding, frame, schema.experts)
    layout, unlabelled = config.beside(schema, encoding)
    retriever, votes, head, told = fit_class_retriever(rows.dense, data, config.encoder, config.seed, progress, layout, unlabelled)
    panels, stacks, calibrations, bands, distances, each, accounts = [], [], [], [], [], [], []
    for j in range(classes):
        one = data.one_vs_rest(j)
        outcome = one.outcome
        panel, scores, apart = fit_base_learners(rows, encoding, one, schema.experts, config.seed, lambda words: None)
        members = _members(scores, votes[:, j], head[:, j], retriever.has_head)
        names = [*panel.names, "AWARE vote", *(["AWARE head"] if retriever.has_head else [])]
        stack, out_of_fold, _ = fit_stack(members, one)
        calibration = Calibrator.fit(out_of_fold, outcome)
        panels.append(panel)
        distances.append(apart)
        stacks.append(stack)
        calibrations.append(calibration)
        bands.append(VennAbersBand.fit(out_of_fold, outcome))
        each.append(calibration.log_odds(out_of_fold))
        accounts.append(dict(zip(names, _accounts(outcome, members, stack), strict=True)))
        progress(f"class {j + 1} of {classes}")
    coupling = Coupling.fit(np.column_stack(each), code)
    share = coupling.shares(np.column_stack(each))
    model = FittedClasses(
        encoding, tuple(panels), retriever, tuple(stacks), tuple(calibrations), tuple(bands), coupling, DistanceQuantiles.fit(distances[0])
    )
    progress("calibration")
    ranked = [_ranked(code == j, share[:, j]) for j in range(classes)]
    size = np.bincount(code)
    summary = {
        "rows": len(code),
        "events": int(len(code) - size.max()),  # outside the commonest class
        "patients": data.n_patients,
        "folds": data.n_folds,
        "retrieval": PLACES[retriever.learned],
        "backbone": {"in_use": False, "why": "the embedded model knows one event, not classes"},
        "out_of_fold": {
            "auprc": float(np.mean([one["auprc"] for one in ranked])),  # means over the classes
            "auroc": float(np.mean([one["auroc"] for one in ranked])),
            "log_loss": float(-np.log(np.maximum(share[np.arange(len(code)), code], 1e-300)).mean()),
            "classes": [{"rows": int(count), **one} for count, one in zip(size, ranked, strict=True)],
            "members": _mean_accounts(accounts),
            "vote_log_loss": told,
        },
        "context": asdict(retriever.rule),
    }
    return model, summary


def name_outcomes(similar: pl.DataFrame, classes: NDArray[Any]) -> pl.DataFrame:
    """Return similar patients with their class instead of its number; 0 and 1 stay where there are two."""
    if len(classes) == 2:
        return similar
    return similar.with_columns(pl.Series("outcome", classes).gather(similar["outcome"]))


def class_columns(scores: ClassScores, classes: NDArray[Any]) -> list[pl.Series]:
    """Return scores as the columns that ``predict_frame`` promises for more than two classes."""
    likeliest = pl.Series("class", classes).gather(scores.proba.argmax(axis=1))
    out = [likeliest]
    for name, table in (("risk", scores.proba), ("low", scores.low), ("high", scores.high)):
        out += [pl.Series(f"{name}: {label}", column) for label, column in zip(classes.tolist(), table.T, strict=True)]
    out += [pl.Series("n_similar", scores.n_similar), pl.Series("novelty", scores.novelty)]
    return out + [pl.Series(f"vote: {label}", column) for label, column in zip(classes.tolist(), scores.vote.T, strict=True)]


def _refuse(config: FitConfig) -> None:
    if config.user_estimators:
        raise InputError("estimators among the experts are for an outcome with two values; with more classes give score columns only")
    if config.prevalence is not None:
        raise InputError("prevalence is for an outcome with two values: with more there is one for each, and none was asked for")
    if config.backbone not in (None, "embedded") or config.members != 1 or config.adapter:
        raise InputError(
            "backbone, members and adapter are for an outcome with two values: with more classes the panel and the similar patients "
            'answer alone. Leave backbone at "embedded" or None'
        )


def _members(panel: Floats, votes: Floats, head: Floats, has_head: bool) -> Floats:
    """Return one class's members (q, m); a head's log-share becomes log-odds against the rest."""
    opinions = [panel, logit(votes, _VOTE_FLOOR)]
    return np.column_stack([*opinions, logit(np.exp(head), 1e-6)] if has_head else opinions)


def _ranked(outcome: NDArray[np.bool_], score: Floats) -> dict[str, float]:
    return {"auprc": float(average_precision_score(outcome, score)), "auroc": float(roc_auc_score(outcome, score))}


def _accounts(outcome: Ints, members: Floats, stack: Stack) -> list[dict[str, float]]:
    found = zip(members.T, stack.weight, strict=True)
    return [{"auprc": float(average_precision_score(outcome, column)), "weight": float(weight)} for column, weight in found]


def _mean_accounts(accounts: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return each member's figures, means over the classes."""
    return {
        name: {key: float(np.mean([account[name][key] for account in accounts])) for key in ("auprc", "weight")} for name in accounts[0]
    }
