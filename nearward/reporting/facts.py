"""What is known of a model: its manifest's facts, and those of a report on its risks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearward.evaluation.stats.sample_size import (
    SampleSize,
    cox_snell_r2,
    development_sample_size,
    log_odds_moments,
    validation_sample_size,
)
from nearward.event_model.sources import KIND
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.events.label_table import LABEL
from nearward.tabular.persistence.artifact import model_hash, read_manifest, read_schema

_SMALL_C = 0.51  # a model that does not rank needs infinitely many rows


@dataclass(frozen=True)
class SampleSizeCheck:
    """A sample size beside the criteria.

    Parameters
    ----------
    needed : SampleSize
    rows, events : int
        Of the data.
    assumed : str
        What the criteria were given.
    """

    needed: SampleSize
    rows: int
    events: int
    assumed: str

    @property
    def enough(self) -> bool:
        """Whether all criteria are met."""
        return self.rows >= self.needed.rows

    def to_dict(self) -> dict[str, Any]:
        """Return the check for JSON."""
        needed = {"needed_rows": self.needed.rows, "needed_events": self.needed.events, "criteria": self.needed.criteria}
        return {"rows": self.rows, "events": self.events, **needed, "met": self.enough, "assumed": self.assumed}


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a saved model of a binary outcome, or of several classes.

    Parameters
    ----------
    version : str, of nearward
    sha256 : str
    schema : Schema
    classes, event : the outcome's values, and that of the event
    rows, patients, events, folds : int
    taught : int or None, rows that the model learned from, a weighted sample; None where all rows taught
    auprc, auroc : float, out of fold
    learners : tuple of str, what the stack weighs, the largest weight first
    retrieval, in_context : str
    prevalence : float or None, where the model is used, if it differs
    contains_records : bool, whether readable rows of the stored patients are in the folder
    reads_events : bool, whether the columns are features of time-stamped events
    """

    version: str
    sha256: str
    schema: Schema
    classes: tuple[Any, ...]
    event: Any
    rows: int
    patients: int
    events: int
    folds: int
    taught: int | None
    auprc: float
    auroc: float
    learners: tuple[str, ...]
    retrieval: str
    in_context: str
    prevalence: float | None
    contains_records: bool
    reads_events: bool

    @property
    def outcome(self) -> str | None:
        """Name of the outcome's column, where the schema has one."""
        if self.reads_events:
            return LABEL
        names = self.schema.named("outcome")
        return names[0] if names else None

    def parameters(self) -> int:
        """Return the candidate predictor parameters: one a number, one less than its categories a category (one where they are unknown)."""
        features = [column for column in self.schema.columns if column.role in ("feature", "expert")]
        return sum(max(1, len(column.categories) - 1) if column.categories else 1 for column in features)

    def development_check(self) -> SampleSizeCheck | None:
        """Compare the training data with the criteria of development; None with several classes, or where the model does not rank."""
        if len(self.classes) > 2 or self.auroc <= _SMALL_C:
            return None
        prevalence = self.events / self.rows
        r2 = cox_snell_r2(prevalence, self.auroc)
        assumed = (
            f"{self.parameters()} predictor parameters; Cox-Snell R² {r2:.3f}, from the out-of-fold AUROC {self.auroc:.3f}; shrinkage 0.9"
        )
        return SampleSizeCheck(development_sample_size(self.parameters(), prevalence, r2), self.taught or self.rows, self.events, assumed)


def read_facts(folder: str | Path) -> ModelFacts:
    """Read a saved model's facts; only its manifest is read, so that no backbone and no weights are needed.

    Raises
    ------
    ArtifactError
        As ``read_manifest``; or another kind of model.
    """
    manifest = read_manifest(folder)
    if manifest.get("kind", KIND) != KIND:
        raise ArtifactError(f"{folder} is not a risk model but a {manifest['kind']}: cards are of risk models")
    try:
        return _facts(manifest, model_hash(folder))
    except (LookupError, TypeError) as error:
        raise ArtifactError(f"{folder} has no summary that this nearward can read: fit and save it again") from error


def _facts(manifest: Mapping[str, Any], sha256: str) -> ModelFacts:
    summary = _plain(manifest["summary"])
    out_of_fold, backbone = summary["out_of_fold"], summary["backbone"]
    learners = sorted(out_of_fold["base_learners"].items(), key=lambda item: -item[1]["weight"])
    return ModelFacts(
        version=manifest["package_version"],
        sha256=sha256,
        schema=read_schema(manifest),
        classes=tuple(manifest["classes"]),
        event=manifest["event"],
        **{name: summary[name] for name in ("rows", "patients", "events", "folds", "taught")},
        auprc=out_of_fold["auprc"],
        auroc=out_of_fold["auroc"],
        learners=tuple(name for name, figures in learners if figures["weight"] > 0),
        retrieval=summary["retrieval"]["embedding"],
        in_context=f"{backbone['name'] or 'none'}: {'in use' if backbone['in_use'] else 'not in use'} ({backbone['why']})",
        prevalence=manifest["config"]["prevalence"],
        contains_records=bool(manifest["contains_records"]),
        reads_events=manifest.get("kind") == KIND,
    )


def _plain(packed: Any) -> Any:
    """Return what ``artifact.pack`` made of dataclasses as dictionaries."""
    if isinstance(packed, dict):
        if "fields" in packed:
            return {name: _plain(value) for name, value in packed["fields"].items()}
        return {name: _plain(value) for name, value in packed.get("dict", packed).items()}
    return [_plain(value) for value in packed] if isinstance(packed, list) else packed


@dataclass(frozen=True)
class ReportFacts:
    """Facts of a report that ``RiskReport.to_json`` wrote: its items by TRIPOD+AI, and its provenance."""

    items: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Rows, patients, events."""
        return dict(self.items["21"]["content"])

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metrics by key: value, low, high; or why there is none."""
        return dict(self.items["23a"]["content"]["metrics"])

    @property
    def subgroups(self) -> list[dict[str, Any]]:
        """Subgroups, with their metrics where they are not suppressed."""
        return list(self.items["23a"]["content"]["subgroups"])

    def validation_check(self) -> SampleSizeCheck | None:
        """Compare the evaluated rows with the criteria of validation; None where the risk does not rank."""
        rows, events = self.counts["rows"], self.counts["events"]
        c = self.metrics["auroc"].get("value")
        if c is None or not _SMALL_C < c < 1:
            return None
        mean, sd = log_odds_moments(events / rows, c)
        assumed = f"event rate {events / rows:.3f}, AUROC {c:.3f}, calibrated, log-odds of mean {mean:.2f} and sd {sd:.2f}; " + (
            "widths of the intervals 0.2 (observed / expected, slope) and 0.1 (AUROC)"
        )
        return SampleSizeCheck(validation_sample_size(events / rows, c, mean, sd), rows, events, assumed)


def read_report(path: str | Path) -> ReportFacts:
    """Read a report's JSON.

    Raises
    ------
    InputError
        Not the JSON of ``RiskReport.to_json``.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        report = ReportFacts(dict(content["items"]), dict(content.get("provenance") or {}))
        _ = report.counts["rows"], report.metrics["auroc"], report.subgroups
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a report's JSON: write it with nearward evaluate risk --json, or RiskReport.to_json") from error
    return report
