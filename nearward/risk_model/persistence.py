"""Saving a fitted RiskClassifier into a folder, and loading it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from nearward import __version__
from nearward.evaluation.drift import bins_as_json, fit_bins
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.risk_model.binary import FittedRisk
from nearward.risk_model.external_backbone import ExternalBackboneModel, describe
from nearward.risk_model.multiclass import FittedClasses
from nearward.risk_model.user_experts import describe as describe_experts
from nearward.risk_model.user_experts import restored as restored_experts
from nearward.risk_model.user_experts import split_experts
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import read_model, write_model
from nearward.tabular.typing import Arrays


def save(model: Any, folder: str | Path) -> None:
    """Write a fitted RiskClassifier into a folder."""
    tensors: Arrays = {}
    encoder = None if model.encoder is None else dataclasses.asdict(model.encoder)
    about = {
        "package_version": __version__,
        "schema": json.loads(model.schema_.to_json()),
        "classes": model.classes_.tolist(),
        "config": {
            "seed": int(model.seed),
            "folds": int(model.folds),
            "prevalence": None if model.prevalence is None else float(model.prevalence),
            "encoder": encoder,
            "backbone": model.backbone if model.backbone is None or isinstance(model.backbone, str) else describe(model.backbone),
            "members": int(model.members),
            "adapter": bool(model.adapter),
        },
        "experts": describe_experts(split_experts(model.experts)[1]),
        "columns": model._columns,
        "n_features_in": model.n_features_in_,
        "feature_names_in": getattr(model, "feature_names_in_", np.array([])).tolist(),
        "summary": model.summary_,
        "bins": bins_as_json(fit_bins(model._records.select(model.schema_.named("feature", "expert")))),
        "model": model._model.pack(tensors),
    }
    write_model(folder, about, tensors, model._records)


def load(kind: type, folder: str | Path, backbone: Backbone | None) -> Any:
    """Read the classifier (of class ``kind``) that ``save`` wrote; errors as ``RiskClassifier.load``."""
    about, tensors, records = read_model(folder)
    if "kind" in about:
        raise ArtifactError(f"{folder} is not a risk model but a {about['kind']}")
    schema = Schema.from_json(json.dumps(about["schema"]))
    multiclass = len(about["classes"]) > 2
    fitted: Any = FittedClasses.unpack(about["model"], tensors) if multiclass else FittedRisk.unpack(about["model"], tensors, backbone)
    config = about["config"]
    if config["encoder"] is not None:
        config["encoder"] = EncoderConfig(**config["encoder"])
    if isinstance(config["backbone"], dict):  # a backbone object: the one that the fitted model uses, if it uses one
        config["backbone"] = fitted.backbone.backbone if isinstance(fitted.backbone, ExternalBackboneModel) else None
    experts = [*schema.experts, *restored_experts(about.get("experts", []))]
    model = kind(**config, positive=None if multiclass else about["classes"][1], schema=schema, experts=experts)
    model.classes_, model.schema_, model.summary_ = np.array(about["classes"]), schema, about["summary"]
    model.n_features_in_ = about["n_features_in"]
    model._columns = about["columns"]
    if about["feature_names_in"]:
        model.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
    model._model, model._records = fitted, records
    return model
