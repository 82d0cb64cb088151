"""Loading of saved risk models: what is in a folder decides which estimator is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nearward.tabular.persistence.artifact import read_manifest

if TYPE_CHECKING:
    from nearward.event_model.event_risk import EventRisk
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.tabular.backbones.pretrained import Backbone


def load(folder: str | Path, backbone: Backbone | None = None) -> RiskClassifier | EventRisk:
    """Load a model that ``RiskClassifier.save`` or ``EventRisk.save`` wrote; see their ``load``.

    Parameters
    ----------
    folder : path
    backbone : Backbone, optional
        Required where the model was fitted with a backbone object of your own, or its weights have moved.

    Raises
    ------
    ArtifactError
        Not a risk model, corrupt, or saved by another version.
    """
    from nearward.event_model.event_risk import EventRisk
    from nearward.event_model.sources import KIND
    from nearward.risk_model.classifier import RiskClassifier

    estimator = EventRisk if read_manifest(folder).get("kind") == KIND else RiskClassifier
    return estimator.load(folder, backbone)


def load_classifier(folder: str | Path, backbone: Backbone | None = None) -> RiskClassifier:
    """Load a risk model of tables.

    Raises
    ------
    InputError
        The model reads events.
    """
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.tabular.errors import InputError

    model = load(folder, backbone)
    if not isinstance(model, RiskClassifier):
        raise InputError(f"{folder} holds a model of events: give the events, and the moments of prediction with --labels")
    return model
