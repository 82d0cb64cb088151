"""``nearward schema`` and ``inspect``: what the columns of a table are, and what a saved model or generator holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.adapt import show_adaptation
from nearward.cli.terminal.console import Category, Group, Json, Missing, TableFile, as_categories
from nearward.cli.terminal.output import say, show, show_classes, write_json, writing

if TYPE_CHECKING:
    import polars as pl

    from nearward.event_model.event_risk import EventRisk
    from nearward.retrieval.neighbors.index_check import IndexCheck
    from nearward.risk_model.classifier import RiskClassifier
    from nearward.risk_model.summary import BackboneSummary, FitSummary


def schema(
    cohort: TableFile,
    out: Annotated[Path, typer.Option(help="JSON file to write; - prints it.", metavar="FILE")] = Path("schema.json"),
    group: Group = None,
    category: Category = None,
    missing: Missing = None,
    redcap: Annotated[
        Path | None,
        typer.Option(help="Data dictionary of REDCap (CSV); it is checked against the table.", show_default=False, metavar="FILE"),
    ] = None,
) -> None:
    """Infer what the columns of a table are.

    Role and kind of each are printed, and written as JSON, for you to correct and to pass as --schema.

    \b
    Examples:
      nearward schema cohort.parquet --out schema.json
      nearward schema cohort.csv --category admission_type_id --missing usual
      nearward schema export.csv --redcap dictionary.csv
    """
    from nearward.tabular.data.atomic_files import replacing
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import require_columns

    frame, _ = as_categories(read_table(cohort, missing=missing or ()), None, category)
    require_columns([group], frame.columns)
    if redcap is not None:
        from nearward.tabular.data.hospital_files import read_redcap_dictionary

        inferred = read_redcap_dictionary(redcap, frame)
    else:
        inferred = Schema.infer(frame, missing or (), frame.get_column(group) if group else None)
    inferred = inferred.with_roles(group=group)
    show(inferred.review(), f"{cohort.name}: {len(inferred.columns)} columns")
    with writing(out, ".json") as path, replacing(path) as temporary:
        temporary.write_text(inferred.to_json(), encoding="utf-8")
    say(f"written to {out}: correct it, then nearward fit --schema {out}")


def inspect(
    model: Annotated[Path, typer.Argument(help="Folder of a model, generator or other saved part.", show_default=False, metavar="FOLDER")],
    json: Json = None,
) -> None:
    """Describe a saved model or generator.

    Whether it contains patient records, training data, out-of-fold performance, importance, schema.

    \b
    Examples:
      nearward inspect model/
      nearward inspect model/ --json - | jq .fit.events
    """
    from nearward.adaptation.without_records import STILL_INFERRED
    from nearward.event_model.event_risk import EventRisk
    from nearward.event_model.sources import KIND
    from nearward.loading import load
    from nearward.tabular.persistence.artifact import loading, read_manifest

    manifest = read_manifest(model)
    say(f"contains patient records: {'yes' if manifest['contains_records'] else 'no'}")
    size = sum(file["size"] for file in manifest["files"].values())
    about = {"kind": manifest.get("kind", "RiskClassifier"), "format": manifest["nearward_model"], "megabytes": round(size / 1e6, 1)}
    results: dict[str, Any] = {"contains_records": manifest["contains_records"], "about": about}
    if manifest.get("kind") not in (None, KIND):
        with loading(model):
            show(_facts({**about, **_flat(manifest.get("summary"))}), f"a {about['kind']}, format {about['format']}")
        write_json({**results, "summary": manifest.get("summary")}, json)
        return
    with loading(model):
        results["fit"] = _describe_fit(manifest, about)
    loaded = load(model)  # last: what precedes needs no backbone and no weights
    if isinstance(loaded, EventRisk):
        results["events"] = _describe_events(loaded)
    classifier = loaded.model_ if isinstance(loaded, EventRisk) else loaded
    gate, columns = classifier.gate() if manifest["contains_records"] else None, classifier.schema_.review()
    if gate is None:
        say(STILL_INFERRED)
    else:
        results["search"], results["index_check"] = _describe_search(classifier)
        weights = "the encoders' gate" if results["fit"].retrieval.embedding == "AWARE encoders" else "the linear metric's weights"
        show(gate.head(15), f"feature importance for similarity: share of {weights}")
    if classifier.fitted_.adaptation is not None:
        show_adaptation(classifier.adaptation_)
    show(columns, "schema")
    write_json({**results, "adaptation": classifier.fitted_.adaptation, "importance": gate, "schema": columns}, json)


def _describe_fit(manifest: Mapping[str, Any], about: Mapping[str, Any]) -> FitSummary:
    """Print the fit that a risk model's manifest describes, and return its summary."""
    import polars as pl

    from nearward.risk_model.summary import PERSISTED_TYPES
    from nearward.tabular.data.validation import describe_event
    from nearward.tabular.persistence.artifact import unpack

    summary: FitSummary = unpack(manifest["summary"], {}, PERSISTED_TYPES)
    out_of_fold, setting = summary.out_of_fold, summary.retrieval.setting
    facts = {
        "nearward": f"{manifest['package_version']}, format {about['format']}, {about['megabytes']:.1f} MB",
        "training data": summary.describe_rows(),
        "outcome": f"{len(out_of_fold.classes)} classes"
        if out_of_fold.classes
        else f"{summary.events} events (outcome {describe_event(manifest['event'])})",
        "out of fold": f"{out_of_fold.describe('auprc')}, {out_of_fold.describe('auroc')}",
        "retrieval": str(summary.retrieval),
        "neighbours": f"{setting.neighbours}, class floor {'on' if setting.floor else 'off'}, kernel width {setting.width:g}",
        "in-context model": _describe_backbone(summary.backbone),
        "removed since the fit": f"{manifest['forgotten']} patients; encoders, trees and stack were fitted on them among others"
        if manifest["forgotten"]
        else "no patient",
    }
    show(_facts(facts), "the fit")
    if out_of_fold.classes:
        show_classes(manifest["classes"], out_of_fold.classes, "out of fold, each class against the rest; below, means over the classes")
    learners = pl.DataFrame([{"base learner": name, **vars(figures)} for name, figures in out_of_fold.base_learners.items()])
    show(learners.sort("weight", descending=True), "base learners of the stack, out of fold")
    return summary


def _describe_search(classifier: RiskClassifier) -> tuple[pl.DataFrame, IndexCheck | None]:
    """Print how each shard's similar patients are searched, with recall and vote where that is not exact, and return it."""
    import polars as pl

    retriever = classifier.fitted_.model.retriever
    shards, check, outcome = retriever.shards, retriever.index_check, retriever.outcome
    search = pl.DataFrame([{"shard": f, "stored rows": len(shard.rows), "search": shard.kind} for f, shard in enumerate(shards)])
    events = "" if len(classifier.classes_) > 2 else f", {int(outcome.sum())} with the event"
    show(search, f"search for similar patients, among {len(outcome)} stored rows now{events}")
    if check is not None:
        say(f"vote of the similar patients by these lists against exact search, when the model was fitted: {check.describe()}")
    return search, check


def _describe_events(model: EventRisk) -> dict[str, Any]:
    """Print what the events became and which of them are kept, and return it."""
    import polars as pl

    codes = model.features_.vocabulary_
    timelines = None if model.timelines_ is None else int(model.timelines_.get_column("hours").list.len().sum())
    facts = {
        "codes with columns": len(codes.columns),
        "rare codes counted for their parents": len(codes.members),
        "rare codes in lists": len(codes.listed),
        "subjects": codes.n_subjects,
        **model.counts_,
        "events kept for timelines (patient records)": timelines,
    }
    show(_facts(facts), "the events")
    rows = [(one.name, one.kind, one.n_subjects, one.unit) for one in codes.columns[:20]]
    show(pl.DataFrame(rows, schema=["code", "kind", "subjects", "unit"], orient="row"), "the twenty most frequent codes")
    return facts


def _describe_backbone(backbone: BackboneSummary) -> str:
    """Describe whether the in-context model and its adapter are used, and why."""
    name = "" if backbone.name is None else f"{backbone.name} "
    text = f"{name}{'in use' if backbone.in_use else 'not in use'} ({backbone.why}"
    if backbone.auprc is not None:
        text += f": AUPRC {backbone.auprc_with:.4f} with it, {backbone.auprc_without:.4f} without; alone {backbone.auprc:.4f}"
    adapter = backbone.adapter
    return text + ")" + (f"; adapter {'in use' if adapter.in_use else 'not in use'} ({adapter.why})" if adapter else "")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under names such as ``rows: train``; longer lists as their length."""
    if isinstance(value, Mapping):
        return {name: leaf for key, part in value.items() for name, leaf in _flat(part, f"{prefix}: {key}" if prefix else str(key)).items()}
    return {prefix: f"{len(value)} entries" if isinstance(value, list) else value} if prefix else {}


def _facts(facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return facts as a table of two columns."""
    import polars as pl

    texts = [(name, f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)) for name, value in facts.items()]
    return pl.DataFrame(texts, {"what": pl.String, "value": pl.String}, orient="row")
