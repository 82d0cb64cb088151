"""``nearward inspect``: describes a saved model or generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from nearward.cli.console import ModelFolder, show, show_classes

if TYPE_CHECKING:
    from nearward.risk_model.summary import BackboneSummary


def inspect(model: ModelFolder) -> None:
    """Describe a saved model: patient records, training data, out-of-fold performance of each base learner, schema."""
    from nearward.risk_model.classifier import load
    from nearward.tabular.persistence.artifact import loading, read_manifest

    manifest = read_manifest(model)
    with loading(model):
        _describe_manifest(manifest)
    if "kind" in manifest:
        return
    classifier = load(model)  # last: what precedes needs no backbone and no weights
    show(classifier.gate().head(15), "feature importance for similarity: share of the encoders' gate")
    show(classifier.schema_.review(), "schema")


def _describe_manifest(manifest: Mapping[str, Any]) -> None:
    """Print what a saved model's manifest says."""
    import polars as pl

    from nearward.risk_model.summary import PERSISTED_TYPES, FitSummary
    from nearward.tabular.data.validation import describe_event
    from nearward.tabular.persistence.artifact import unpack

    size = sum(file["size"] for file in manifest["files"].values())
    typer.echo(f"contains patient records: {'yes' if manifest['contains_records'] else 'no'}")
    if "kind" in manifest:
        typer.echo(f"a {manifest['kind']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB")
        return
    summary: FitSummary = unpack(manifest["summary"], {}, PERSISTED_TYPES)
    out_of_fold = summary.out_of_fold
    counts = f"{len(out_of_fold.classes)} classes"
    if not out_of_fold.classes:
        counts = f"{summary.events} events (outcome {describe_event(manifest['event'])})"
    setting = summary.retrieval.setting
    typer.echo(
        f"nearward {manifest['package_version']}, format {manifest['nearward_model']}, {size / 1e6:.1f} MB; "
        f"{summary.rows} rows of {summary.patients} patients, {counts}; retrieval: {summary.retrieval}; "
        f"{setting.neighbours} neighbours, class floor {'on' if setting.floor else 'off'}, kernel width {setting.width:g}"
    )
    typer.echo(_describe_backbone(summary.backbone))
    if out_of_fold.classes:
        show_classes(manifest["classes"], out_of_fold.classes, "out of fold, each class against the rest; below, means over the classes")
    learners = pl.DataFrame([{"base learner": name, **vars(figures)} for name, figures in out_of_fold.base_learners.items()])
    title = f"base learners of the stack, out of fold (stack: AUPRC {out_of_fold.auprc:.3f}, AUROC {out_of_fold.auroc:.3f})"
    show(learners.sort("weight", descending=True), title)


def _describe_backbone(backbone: BackboneSummary) -> str:
    """Describe whether the in-context model and its adapter are used, and why."""
    name = "" if backbone.name is None else f"{backbone.name} "
    text = f"in-context model: {name}{'in use' if backbone.in_use else 'not in use'} ({backbone.why}"
    if backbone.auprc is not None:
        text += f": AUPRC {backbone.auprc_with:.4f} with it, {backbone.auprc_without:.4f} without; alone {backbone.auprc:.4f}"
    adapter = backbone.adapter
    return text + ")" + (f"; adapter {'in use' if adapter.in_use else 'not in use'} ({adapter.why})" if adapter else "")
