"""Saving a fitted RiskClassifier into a folder, and loading it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward import __version__
from nearward.adaptation.summary import PERSISTED_TYPES as ADAPTATION_TYPES
from nearward.adaptation.summary import Adaptation
from nearward.adaptation.without_records import without_records
from nearward.evaluation.drift import bins_as_json, fit_bins
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.risk_model.binary import FittedRisk
from nearward.risk_model.external_backbone import ExternalBackboneModel, backbone_to_json
from nearward.risk_model.multiclass import FittedClasses
from nearward.risk_model.summary import PERSISTED_TYPES, FitSummary
from nearward.risk_model.user_experts import estimators_from_json, estimators_to_json, split_experts
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import loading, pack, read_model, read_schema, unpack, write_model
from nearward.tabular.typing import Arrays, Ints


@dataclass(frozen=True)
class FittedState:
    """Everything that ``RiskClassifier.fit`` leaves behind.

    Parameters
    ----------
    model : FittedRisk or FittedClasses
    classes : (c,), outcome values, in increasing order
    event_index : int, index of the event in ``classes``
    event : the outcome value that is the event, or a tuple of several; None where each class has a risk
    schema : Schema
    summary : FitSummary
    records : pl.DataFrame, the stored rows' features, identifiers and outcomes; no columns where they were left out of the saved model
    columns : list of str, of the training frame: an array's columns are these, in this order
    feature_names : list of str; empty where the training frame had no names
    patient_ids : (n,), the stored rows' patient numbers
    forgotten : int, patients who were removed since the fit
    adaptation : Adaptation, where the model was adapted to a site
    bins : the training rows' counts by bin, as JSON, of a model without records
    """

    model: FittedRisk | FittedClasses = field(repr=False)  # its repr would show patients' values
    classes: NDArray[Any]
    event_index: int
    event: Any
    schema: Schema
    summary: FitSummary
    records: pl.DataFrame = field(repr=False)
    columns: list[str]
    feature_names: list[str]
    patient_ids: Ints = field(repr=False)
    forgotten: int = 0
    adaptation: Adaptation | None = None
    bins: Any = field(default=None, repr=False)


def save(parameters: dict[str, Any], fitted: FittedState, folder: str | Path, records: bool = True) -> None:
    """Write a classifier's parameters and fitted state into a folder, with or without the stored patients' records."""
    tensors: Arrays = {}
    fitted = fitted if records else withhold_records(fitted)
    write_model(folder, to_json(parameters, fitted, tensors), tensors, fitted.records)


def save_records(parameters: dict[str, Any], fitted: FittedState, folder: str | Path, records: pl.LazyFrame) -> None:
    """Write a classifier as ``save`` does, with records that lie in files; ``fitted`` has some of them."""
    tensors: Arrays = {}
    features = fitted.schema.named("feature", "expert")
    bins = [one for name in features for one in fit_bins(records.select(name).collect(engine="streaming"))]  # a column at a time
    about = to_json(parameters, dataclasses.replace(fitted, bins=bins_as_json(bins)), tensors)
    write_model(folder, about, tensors, records)


def withhold_records(fitted: FittedState) -> FittedState:
    """Return a fitted state without the stored patients' records, its counts by bin kept."""
    return fitted if fitted.records.width == 0 else without_records(dataclasses.replace(fitted, bins=_count_by_bin(fitted)))


def to_json(parameters: dict[str, Any], fitted: FittedState, tensors: Arrays) -> dict[str, Any]:
    """Return parameters and fitted state, without the records, as JSON, with arrays moved to ``tensors``."""
    event = list(fitted.event) if isinstance(fitted.event, tuple) else fitted.event
    backbone, encoder, prevalence = parameters["backbone"], parameters["encoder"], parameters["prevalence"]
    seed = parameters["seed"] or 0 if parameters["random_state"] == 0 else parameters["random_state"]
    return {
        "package_version": __version__,
        "schema": json.loads(fitted.schema.to_json()),
        "classes": fitted.classes.tolist(),
        "event_index": fitted.event_index,
        "event": event,
        "config": {
            "random_state": int(seed) if isinstance(seed, int | np.integer) else None,
            "folds": int(parameters["folds"]),
            "positive": None if parameters["positive"] is None else event,
            "prevalence": None if prevalence is None else float(prevalence),
            "encoder": None if encoder is None else dataclasses.asdict(encoder),
            "backbone": backbone if backbone is None or isinstance(backbone, str) else backbone_to_json(backbone),
            "trees": parameters["trees"],
            "effort": parameters["effort"],
            "members": int(parameters["members"]),
            "adapter": bool(parameters["adapter"]),
        },
        "experts": estimators_to_json(split_experts(parameters["experts"])[1]),
        "columns": fitted.columns,
        "feature_names_in": fitted.feature_names,
        "summary": pack(fitted.summary, tensors),
        "forgotten": fitted.forgotten,
        "adaptation": pack(fitted.adaptation, tensors),
        "patient_ids": pack(fitted.patient_ids, tensors),
        "bins": fitted.bins or _count_by_bin(fitted),
        "contains_records": fitted.records.width > 0,
        "model": fitted.model.pack(tensors),
    }


def _count_by_bin(fitted: FittedState) -> Any:
    """Return the stored rows' counts by bin as JSON, for the drift of new rows."""
    return bins_as_json(fit_bins(fitted.records.select(fitted.schema.named("feature", "expert"))))


def load(folder: str | Path, backbone: Backbone | None) -> tuple[dict[str, Any], FittedState]:
    """Read the parameters and the fitted state that ``save`` wrote; errors as ``RiskClassifier.load``."""
    about, tensors, records, _ = read_model(folder)
    if "kind" in about:
        raise ArtifactError(f"{folder} is not a risk model but a {about['kind']}")
    with loading(folder):
        return from_json(about, tensors, records, backbone)


def from_json(
    about: dict[str, Any], tensors: Arrays, records: pl.DataFrame, backbone: Backbone | None = None
) -> tuple[dict[str, Any], FittedState]:
    """Return the parameters and the fitted state of ``to_json``'s form."""
    schema = read_schema(about)
    binary = len(about["classes"]) == 2
    model: Any = FittedRisk.unpack(about["model"], tensors, backbone) if binary else FittedClasses.unpack(about["model"], tensors)
    parameters = about["config"]
    if parameters["encoder"] is not None:
        parameters["encoder"] = EncoderConfig(**parameters["encoder"])
    if isinstance(parameters["backbone"], dict):  # an object: the fitted model's, where that uses one
        parameters["backbone"] = model.backbone.backbone if isinstance(model.backbone, ExternalBackboneModel) else None
    parameters |= {"schema": schema, "experts": [*schema.experts, *estimators_from_json(about["experts"])]}
    event = tuple(about["event"]) if isinstance(about["event"], list) else about["event"]
    adaptation = unpack(about["adaptation"], tensors, ADAPTATION_TYPES)
    bins = about["bins"] if len(records.columns) == 0 else None
    patients = unpack(about["patient_ids"], tensors, ()), about["forgotten"], adaptation, bins
    parts = schema, unpack(about["summary"], tensors, PERSISTED_TYPES), records, about["columns"], about["feature_names_in"]
    return parameters, FittedState(model, np.array(about["classes"]), about["event_index"], event, *parts, *patients)
