"""An external backbone on a cohort: TabPFN, TabICL or a network of the user's own predicts from raw rows in the retriever's contexts.

Such a network returns a risk and no weights: the vote that explains remains the retriever's.

Shapes: n stored rows, q query rows, d raw columns, p encoded columns, c context rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.tabular.backbones.context_batching import predict
from nearward.tabular.backbones.pretrained import Backbone, PretrainedBackbone, find_backbone
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints

SETTING = RetrievalSetting(128, True, 1.0)
_RISK_FLOOR = 1e-4  # a network's 0 or 1 is not certain


class ExternalBackboneModel:
    """A backbone with the stored rows that it reads.

    Parameters
    ----------
    backbone : Backbone
    stored : (n, d), from ``raw_rows``
    outcome : (n,), 0 or 1
    """

    def __init__(self, backbone: Backbone, stored: Floats, outcome: Ints) -> None:
        self.backbone, self.stored, self.outcome = backbone, stored, outcome

    @property
    def settings(self) -> tuple[RetrievalSetting, ...]:
        """Retrieval settings of the contexts that it reads."""
        return (SETTING,)

    def predict(self, raw: Floats, context: Context, patient_ids: Ints | None = None) -> Floats:
        """Return the risk of rows (q, d), corrected for the class floor: (q,).

        With ``patient_ids`` (n,) the rows are the stored rows themselves, and each is predicted without its own patient.
        """
        risk = predict(self.backbone, self.stored, self.outcome, context.row, raw, patient_ids=patient_ids, query_patient_ids=patient_ids)
        return expit(logit(risk, _RISK_FLOOR) - _floor_log_odds(context))

    def extended(self, raw: Floats, outcome: Ints) -> ExternalBackboneModel:
        """Return the model with more stored rows (m, d) and their outcomes (m,)."""
        return ExternalBackboneModel(self.backbone, np.concatenate([self.stored, raw]), np.concatenate([self.outcome, outcome]))

    def without(self, removed: Bools) -> ExternalBackboneModel:
        """Return the model without some stored rows (mask, (n,))."""
        return ExternalBackboneModel(self.backbone, self.stored[~removed], self.outcome[~removed])

    def state(self) -> dict[str, Any]:
        """Return the stored rows and the backbone's settings; its weights stay where they are."""
        return {"backbone": backbone_to_json(self.backbone), "stored": self.stored, "outcome": self.outcome}

    @classmethod
    def from_state(cls, state: dict[str, Any], backbone: Backbone | None = None) -> ExternalBackboneModel:
        """Load what ``state`` returned; errors as ``backbone_from_json``."""
        return cls(backbone_from_json(state["backbone"], backbone), state["stored"], state["outcome"])


def fit_external_backbone(
    backbone: Backbone, raw: Floats, inputs: EncoderInputs, data: TrainingData, retriever: Retriever
) -> tuple[ExternalBackboneModel, Floats]:
    """Predict each stored row by a backbone from other patients' rows.

    Parameters
    ----------
    backbone : Backbone
    raw : (n, d), from ``raw_rows``
    inputs : EncoderInputs, what the retriever reads
    data : TrainingData
    retriever : Retriever

    Returns
    -------
    model : ExternalBackboneModel
    out_of_fold : (n,), risk
    """
    model = ExternalBackboneModel(backbone, raw, data.outcome)
    (context,) = retriever.out_of_fold_contexts(inputs, data.patient_ids, model.settings)
    return model, model.predict(raw, context, data.patient_ids)


def raw_rows(table_encoder: TableEncoder, numbers: EncodedTable) -> Floats:
    """Return numbers in their own units, then each category's code, NaN where missing or unseen: (n, d)."""
    scale, centre = (np.array([getattr(column, name) for column in table_encoder.numeric]) for name in ("scale", "centre"))
    return np.column_stack([np.sinh(numbers.values) * scale + centre, np.where(numbers.codes < 0, np.nan, numbers.codes)])


def category_columns(table_encoder: TableEncoder) -> range:
    """Return which columns of ``raw_rows`` hold category codes."""
    return range(len(table_encoder.numeric), len(table_encoder.numeric) + len(table_encoder.categorical))


def backbone_to_json(backbone: Backbone) -> dict[str, Any]:
    """Return a backbone as JSON: TabPFN and TabICL with their settings and the hash of their weights, other objects by name."""
    if not isinstance(backbone, PretrainedBackbone):
        return {"name": backbone.name}
    settings = {field.name: getattr(backbone, field.name) for field in dataclasses.fields(backbone) if field.name != "model_path"}
    return {**settings, "name": backbone.name, "categorical": list(backbone.categorical), "sha256": _digest(backbone)}


def backbone_from_json(values: dict[str, Any], backbone: Backbone | None) -> Backbone:
    """Make the backbone that ``backbone_to_json`` described, or check that the one given is the same.

    A path of weights in the manifest is not followed: whoever can write the model's folder could name any file of this machine. The
    weights are those that the user names, by ``backbone`` or in the environment, or those in the package's cache.

    Raises
    ------
    InputError
        An object of the user's own that is missing; or a backbone of another name.
    MissingWeights
        The weights of TabPFN or TabICL are not on this machine.
    ArtifactError
        The weights differ from those that the model was fitted with.
    """
    name, settings = values["name"], {key: value for key, value in values.items() if key not in ("name", "sha256", "model_path")}
    if backbone is None and not settings:
        raise InputError(f"this model needs a backbone of your own, {name!r}: pass it again, load(folder, backbone=…)")
    if backbone is None:
        backbone = next(kind for kind in PretrainedBackbone.__subclasses__() if kind.name == name)(**settings)
    backbone = find_backbone(backbone, settings.get("categorical", ()))
    if backbone.name != name:
        raise InputError(f"this model needs the backbone {name!r}, got {backbone.name!r}")
    if isinstance(backbone, PretrainedBackbone) and _digest(backbone) != values["sha256"]:
        raise ArtifactError(
            f"{backbone.weights()} holds other {name} weights than the model was fitted with. Name the right file: "
            f"load(folder, backbone={type(backbone).__name__}(model_path=…)), or the environment variable NEARWARD_{name.upper()}"
        )
    return backbone


def _digest(backbone: PretrainedBackbone) -> str:
    return hashlib.sha256(Path(backbone.weights()).read_bytes()).hexdigest()


def _floor_log_odds(context: Context) -> Floats:
    """Return by how much the floored rows raise the log-odds of the events in each context (q,), smoothed by half a patient."""
    events = (context.present & (context.outcome > 0) & ~context.floored).sum(axis=1)
    return np.asarray(np.log((events + context.floored.sum(axis=1) + 0.5) / (events + 0.5)))
