"""Calibrated risks of rare clinical outcomes from tables, explained by similar patients."""

from __future__ import annotations

import logging
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent, unless the program configures logging

# public name -> the module that defines it; imported on first use, so that `import nearward` stays light
_MODULE_OF = {
    "Alerts": "nearward.tabular.alerting.voting",
    "Backbone": "nearward.tabular.backbones.pretrained",
    "CellModel": "nearward.retrieval.cell_model",
    "EncoderConfig": "nearward.retrieval.encoders.aware",
    "Estimate": "nearward.evaluation.stats.confidence",
    "EventFeatures": "nearward.tabular.events.features",
    "EventRisk": "nearward.event_model.event_risk",
    "FaithCard": "nearward.evaluation.synthetic.card",
    "ImproveConfig": "nearward.synth.optimization.improvement",
    "NearwardError": "nearward.tabular.errors",
    "OneClass": "nearward.tabular.novelty.one_class",
    "Resampled": "nearward.tabular.ensemble.resampling",
    "RiskClassifier": "nearward.risk_model.classifier",
    "RiskReport": "nearward.evaluation.risk.report",
    "Rules": "nearward.tabular.rules.rules",
    "Schema": "nearward.tabular.data.schema",
    "SeriesEncoder": "nearward.tabular.temporal.series_encoder",
    "StableColumns": "nearward.tabular.preprocessing.stability_selection",
    "Synthesizer": "nearward.synth.synthesizer",
    "TabICLBackbone": "nearward.tabular.backbones.pretrained",
    "TabPFNBackbone": "nearward.tabular.backbones.pretrained",
    "ThresholdController": "nearward.tabular.alerting.threshold_controller",
    "TransportReport": "nearward.evaluation.transport.report",
    "UnknownGate": "nearward.tabular.novelty.open_set",
    "WindowGate": "nearward.tabular.temporal.window_mixture",
    "audit": "nearward.release.audit",
    "availability": "nearward.tabular.preprocessing.feature_blocks",
    "check_units": "nearward.tabular.events.units",
    "column_costs": "nearward.evaluation.feature_costs",
    "compare_risks": "nearward.evaluation.risk.comparison",
    "correct_prior": "nearward.tabular.calibration.calibrator",
    "development_sample_size": "nearward.evaluation.stats.sample_size",
    "engine": "nearward.tabular.parallel",
    "evaluate_risk": "nearward.evaluation.risk.report",
    "export_synthetic": "nearward.release.export",
    "export_table": "nearward.release.export",
    "faith_card": "nearward.evaluation.synthetic.card",
    "fit_archive": "nearward.archive.fit",
    "labels": "nearward.tabular.events.labels",
    "load": "nearward.loading",
    "model_card": "nearward.reporting.card",
    "patient_sheet": "nearward.explanation.sheet",
    "read_events": "nearward.tabular.events.reading",
    "read_redcap_dictionary": "nearward.tabular.data.hospital_files",
    "read_missing": "nearward.tabular.data.text_values",
    "read_stamp": "nearward.synth.provenance",
    "regular_series": "nearward.tabular.temporal.windows",
    "screen": "nearward.screening",
    "source_leak": "nearward.evaluation.risk.site_leakage",
    "transport": "nearward.evaluation.transport.report",
    "validation_sample_size": "nearward.evaluation.stats.sample_size",
    "waterfall": "nearward.explanation.waterfall",
    "windows": "nearward.tabular.temporal.windows",
    "write_rules": "nearward.tabular.rules.yaml_io",
}

__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    import importlib

    if name == "datasets":  # a module: nw.datasets.ward
        return importlib.import_module("nearward.datasets")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nearward' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "datasets", *_MODULE_OF])
