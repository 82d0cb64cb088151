"""A backbone from elsewhere at work on a cohort: AWARE finds the context; TabPFN, TabICL or a network of your own judges by its raw rows.

Such a network answers with a risk, not with a vote; the vote that explains stays AWARE's.

Letters: n stored rows, q query rows, d raw columns, c context rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.voting import Context, Rule
from nearward.tabular.backbones.context_batching import predict
from nearward.tabular.backbones.pretrained import Backbone, PretrainedBackbone, find_backbone
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.typing import Floats, Ints

RULE = Rule(128, True, 1.0)
_CERTAIN = 1e-4  # a network's 0 or 1 is no certainty


class ExternalBackboneModel:
    """Stored rows as a backbone reads them.

    Parameters
    ----------
    backbone : Backbone
    stored : (n, d), as ``raw_rows`` gives them
    outcome : (n,), 0 or 1
    """

    def __init__(self, backbone: Backbone, stored: Floats, outcome: Ints) -> None:
        self.backbone, self.stored, self.outcome = backbone, stored, outcome

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The context that it wants."""
        return (RULE,)

    def ask(self, raw: Floats, context: Context, patient_ids: Ints | None = None, query_patient_ids: Ints | None = None) -> Floats:
        """Return the risk of rows (q, d), the class floor taken out again: (q,).

        ``patient_ids`` (n,) and ``query_patient_ids`` (q,) name the patients where stored rows are judged themselves.
        """
        risk = predict(
            self.backbone, self.stored, self.outcome, context.row, raw, patient_ids=patient_ids, query_patient_ids=query_patient_ids
        )
        return expit(logit(risk, _CERTAIN) - _floor_log_odds(context))

    def state(self) -> dict[str, Any]:
        """Return what it is made of, for the artifact; the backbone's weights stay where they are."""
        return {"backbone": describe(self.backbone), "stored": self.stored, "outcome": self.outcome}

    @classmethod
    def from_state(cls, state: dict[str, Any], backbone: Backbone | None = None) -> ExternalBackboneModel:
        """Rebuild what ``state`` took apart; see ``restore``."""
        return cls(restore(state["backbone"], backbone), state["stored"], state["outcome"])


def fit_external_backbone(
    backbone: Backbone, raw: Floats, dense: Floats, data: TrainingData, retriever: Retriever
) -> tuple[ExternalBackboneModel, Floats]:
    """Let a backbone judge each stored row by others, its own patient left out.

    Parameters
    ----------
    backbone : Backbone
    raw : (n, d), as ``raw_rows`` gives them
    dense : (n, p), the encoding that the retriever reads
    data : TrainingData
    retriever : Retriever

    Returns
    -------
    foreign : Foreign
    out_of_fold : (n,), risk
    """
    foreign = ExternalBackboneModel(backbone, raw, data.outcome)
    (context,) = retriever.out_of_fold(dense, data.patient_ids, foreign.rules)
    return foreign, foreign.ask(raw, context, patient_ids=data.patient_ids, query_patient_ids=data.patient_ids)


def raw_rows(encoding: TableEncoder, numbers: EncodedTable) -> Floats:
    """Return numeric columns in their own units, then each category's level number, NaN where missing or unseen: (n, d)."""
    scale, centre = np.array([c.scale for c in encoding.numeric]), np.array([c.centre for c in encoding.numeric])
    return np.column_stack([np.sinh(numbers.values) * scale + centre, np.where(numbers.codes < 0, np.nan, numbers.codes)])


def level_columns(encoding: TableEncoder) -> range:
    """Return which columns of ``raw_rows`` hold level numbers."""
    return range(len(encoding.numeric), len(encoding.numeric) + len(encoding.categorical))


def describe(backbone: Backbone) -> dict[str, Any]:
    """Tell a backbone as JSON: TabPFN and TabICL with their settings and the hash of their weights, other objects by name."""
    if not isinstance(backbone, PretrainedBackbone):
        return {"name": backbone.name}
    settings = {field.name: getattr(backbone, field.name) for field in dataclasses.fields(backbone)}
    path = None if backbone.model_path is None else str(backbone.model_path)
    return {**settings, "name": backbone.name, "model_path": path, "categorical": list(backbone.categorical), "sha256": _digest(backbone)}


def restore(told: dict[str, Any], given: Backbone | None) -> Backbone:
    """Rebuild what ``describe`` told, or check that the ``given`` one is the same.

    Raises
    ------
    InputError
        An object that only the user has, and did not give; or one of another name.
    MissingWeights
        The weights of TabPFN or TabICL are not on this machine.
    ArtifactError
        They are other weights than the model was fitted with.
    """
    name, settings = told["name"], {key: value for key, value in told.items() if key not in ("name", "sha256")}
    if given is None and not settings:
        raise InputError(f"this model asks a backbone of your own, {name!r}: give it again, load(folder, backbone=…)")
    made = next(kind for kind in PretrainedBackbone.__subclasses__() if kind.name == name)(**settings) if given is None else given
    backbone = find_backbone(made, settings.get("categorical", ()))
    if backbone.name != name:
        raise InputError(f"this model asks the backbone {name!r}, got {backbone.name!r} was given")
    if isinstance(backbone, PretrainedBackbone) and _digest(backbone) != told["sha256"]:
        raise ArtifactError(f"{backbone.weights()} holds other {name} weights than the model was fitted with")
    return backbone


def _digest(backbone: PretrainedBackbone) -> str:
    return hashlib.sha256(Path(backbone.weights()).read_bytes()).hexdigest()


def _floor_log_odds(context: Context) -> Floats:
    """By how much the floored rows raise the log-odds of the events in each context (q,); half a patient smooths."""
    there = context.row >= 0
    events = (there & (context.outcome > 0) & ~context.floored).sum(axis=1)
    out: Floats = np.log((events + context.floored.sum(axis=1) + 0.5) / (events + 0.5))
    return out
