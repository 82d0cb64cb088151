"""``nearward adapt``, ``nearward extend`` and ``nearward forget``: a model's site and its stored patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.terminal.console import FolderOut, Group, Json, ModelFolder, Outcome, Report, TableFile
from nearward.cli.terminal.output import say, show, write_json

if TYPE_CHECKING:
    import polars as pl

    from nearward.adaptation.summary import Adaptation
    from nearward.risk_model.classifier import RiskClassifier


def adapt(
    model: ModelFolder,
    local: TableFile,
    outcome: Outcome,
    out: FolderOut,
    group: Group = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="THEIRS=OURS: what the site calls a column of the model; may be repeated.", show_default=False, metavar="PAIR"),
    ] = None,
    report: Report = None,
    json: Json = None,
) -> None:
    """Bring a model up to date with a site's own patients.

    Level, slope, similar patients, stack weights, base learners: each step is used only where it clearly helps at the site.

    \b
    Examples:
      nearward adapt model/ local.parquet --outcome died --out model-here/
      nearward adapt model/ local.parquet --outcome died --rename creat=creatinine --out model-here/ --report here.html
    """
    from nearward.adaptation.ladder import STEPS
    from nearward.cli.terminal.progress import show_progress
    from nearward.tabular.persistence.artifact import check_folder

    check_folder(out)
    classifier, *patients = _read(model, local, outcome, group)
    with show_progress("adapt", len(STEPS) - 2) as progress:
        here = classifier.adapt(*patients, columns=_pairs(rename), progress=progress)
    _save(here, out)
    if report is not None:
        here.adaptation_.to_html(report)
    show_adaptation(here.adaptation_)
    write_json({"adaptation": here.adaptation_}, json)


def extend(model: ModelFolder, new: TableFile, outcome: Outcome, out: FolderOut, group: Group = None, json: Json = None) -> None:
    """Store more patients in a model, without training.

    They are found as similar patients from now on; risks of the base learners stay.

    \b
    Examples:
      nearward extend model/ new-patients.parquet --outcome died --out model/
    """
    from nearward.tabular.persistence.artifact import check_folder

    check_folder(out)
    classifier, *patients = _read(model, new, outcome, group)
    extension = classifier.extend(*patients)
    _save(classifier, out)
    say(str(extension))
    write_json({"extension": extension}, json)


def forget(
    model: ModelFolder,
    ids: Annotated[Path, typer.Option(help="Text file with a patient's id on each line.", show_default=False, metavar="FILE")],
    out: FolderOut,
    refit: Annotated[bool, typer.Option("--refit", help="Fit the model again without them.")] = False,
    json: Json = None,
) -> None:
    """Remove patients from a model.

    Records, index rows and stored scores are removed; it is said what was fitted on the patients and still stands.

    \b
    Examples:
      nearward forget model/ --ids withdrawn.txt --out model/
      nearward forget model/ --ids withdrawn.txt --refit --out model/
    """
    from nearward.loading import load_classifier
    from nearward.tabular.errors import InputError
    from nearward.tabular.persistence.artifact import check_folder

    check_folder(out)
    wanted = [line.strip() for line in ids.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not wanted:
        raise InputError(f"{ids} holds no ids: one a line is needed")
    classifier = load_classifier(model)
    removal = classifier.forget(wanted)
    if refit:
        classifier, removal = classifier.refit(), removal.refitted()
    _save(classifier, out)
    say(str(removal))
    write_json({"removal": removal}, json)


def show_adaptation(adaptation: Adaptation) -> None:
    """Print what an adaptation did."""
    import polars as pl

    from nearward.adaptation.page import step_table

    show(step_table(adaptation).with_columns(pl.selectors.float().round(4)), f"adapted: {adaptation}")
    say(
        f"local recalibration of the log-odds: intercept {adaptation.intercept:+.2f}, slope {adaptation.slope:.2f}; "
        f"the interval of a risk rests on {adaptation.band}; novelty is relative to {adaptation.novelty}"
    )


def _save(classifier: RiskClassifier, out: Path) -> None:
    """Save a model as it was loaded: with its records, or without."""
    classifier.save(out)
    say(f"model in {out}{': it contains patient records' if classifier.fitted_.records.width else ''}")


def _read(model: Path, table: Path, outcome: str, group: str | None) -> tuple[RiskClassifier, pl.DataFrame, pl.Series, pl.Series | None]:
    """Return a model, and a table's columns, outcome and patients."""
    from nearward.loading import load_classifier
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import require_columns

    classifier = load_classifier(model)
    frame = read_table(table, classifier.schema_)
    require_columns([outcome, group], frame.columns)
    known = set(classifier.schema_names)
    columns = frame.drop(outcome, *([group] if group and group not in known else []))
    return classifier, columns, frame.get_column(outcome), frame.get_column(group) if group else None


def _pairs(texts: list[str] | None) -> dict[str, str]:
    from nearward.tabular.errors import InputError

    pairs = {}
    for text in texts or []:
        theirs, equals, ours = text.partition("=")
        if not (theirs and equals and ours):
            raise InputError(f"--rename needs THEIRS=OURS, got {text!r}")
        pairs[theirs.strip()] = ours.strip()
    return pairs
