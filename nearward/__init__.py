"""Calibrated risks of rare clinical outcomes from tables, explained by similar patients."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

# public name -> the module it lives in; imported on first use, so that `import nearward` stays light
_HOMES = {
    "RiskClassifier": "nearward.risk_model.classifier",
    "load": "nearward.risk_model.classifier",
    "Resampled": "nearward.tabular.ensemble.resampling",
    "Schema": "nearward.tabular.data.schema",
    "Synthesizer": "nearward.synth.synthesizer",
    "EncoderConfig": "nearward.retrieval.encoders.aware",
    "OneClass": "nearward.tabular.novelty.one_class",
    "CellModel": "nearward.retrieval.cell_model",
    "UnknownGate": "nearward.tabular.novelty.open_set",
    "WindowGate": "nearward.tabular.temporal.window_mixture",
    "availability": "nearward.tabular.data.feature_blocks",
    "NearwardError": "nearward.tabular.errors",
    "correct_prior": "nearward.tabular.calibration.calibrator",
    "Estimate": "nearward.evaluation.stats.confidence",
    "FaithCard": "nearward.evaluation.synthetic.card",
    "Rules": "nearward.tabular.rules.rules",
    "Alerts": "nearward.tabular.alerting.voting",
    "SeriesEncoder": "nearward.tabular.temporal.series_encoder",
    "StableColumns": "nearward.tabular.preprocessing.stability_selection",
    "ThresholdController": "nearward.tabular.alerting.threshold_controller",
    "column_costs": "nearward.evaluation.risk.feature_costs",
    "regular_series": "nearward.tabular.temporal.windows",
    "source_leak": "nearward.evaluation.risk.site_leakage",
    "windows": "nearward.tabular.temporal.windows",
    "RiskReport": "nearward.evaluation.risk.report",
    "compare_risks": "nearward.evaluation.risk.comparison",
    "evaluate_risk": "nearward.evaluation.risk.report",
    "faith_card": "nearward.evaluation.synthetic.card",
    "export_synthetic": "nearward.release.export",
    "read_stamp": "nearward.synth.provenance",
    "screen": "nearward.screening",
}

__all__ = [
    "Alerts",
    "CellModel",
    "EncoderConfig",
    "Estimate",
    "FaithCard",
    "NearwardError",
    "OneClass",
    "Resampled",
    "RiskClassifier",
    "RiskReport",
    "Rules",
    "Schema",
    "SeriesEncoder",
    "StableColumns",
    "Synthesizer",
    "ThresholdController",
    "UnknownGate",
    "WindowGate",
    "__version__",
    "availability",
    "column_costs",
    "compare_risks",
    "correct_prior",
    "evaluate_risk",
    "export_synthetic",
    "faith_card",
    "load",
    "read_stamp",
    "regular_series",
    "screen",
    "source_leak",
    "windows",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'nearward' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
