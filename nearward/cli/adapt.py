"""``nearward adapt``, ``nearward extend`` and ``nearward forget``: a model's site and its stored patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import (
    EventColumns,
    FolderOut,
    Group,
    Json,
    MedsLabels,
    ModelFolder,
    Outcome,
    Report,
    TableFile,
    read_columns,
)
from nearward.cli.terminal.output import STANDARD, say, show, write_json

if TYPE_CHECKING:
    from nearward.adaptation.summary import Adaptation
    from nearward.event_model.event_risk import EventRisk
    from nearward.risk_model.classifier import RiskClassifier


def adapt(
    model: ModelFolder,
    local: TableFile,
    out: FolderOut,
    outcome: Outcome = "",
    group: Group = None,
    labels: MedsLabels = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            help="THEIRS=OURS: what the site calls a column of the model, or a code of events; may be repeated.",
            show_default=False,
            metavar="PAIR",
        ),
    ] = None,
    columns: EventColumns = None,
    report: Report = None,
    json: Json = None,
) -> None:
    """Bring a model up to date with a site's own patients.

    Level and slope move by what the local events bear; local similar patients, stack weights and base learners are used only where they
    clearly help at the site. Of a model of events, the local table is the site's events, and --labels its moments with their outcomes.

    \b
    Examples:
      nearward adapt model/ local.parquet --outcome died --out model-here/
      nearward adapt model/ local.parquet --outcome died \\
        --rename creat=creatinine --out model-here/ --report here.html
      nearward adapt model/ events/ --labels local.parquet --out model-here/
    """
    from nearward.adaptation.ladder import STEPS
    from nearward.cli.terminal.progress import show_progress
    from nearward.evaluation.provenance import Provenance
    from nearward.tabular.errors import InputError
    from nearward.tabular.persistence.artifact import model_hash

    _check_out(model, out)
    loaded, patients = _read(model, local, outcome, group, labels)
    if columns and labels is None:
        raise InputError("--columns names columns of events: it needs --labels")
    pairs = _pairs(rename)
    names: dict[str, Any] = {"columns": pairs} if labels is None else {"codes": pairs, "columns": read_columns(columns)}
    with show_progress("adapt", len(STEPS) - 1) as progress:
        here = loaded.adapt(*patients, **names, progress=progress)
    _save(here, out)
    if report is not None:
        data = [path for path in (local, labels) if path is not None and path != STANDARD]
        here.adaptation_.to_html(report, Provenance.now(data, model_hash(out)))
    show_adaptation(here.adaptation_)
    write_json({"adaptation": here.adaptation_}, json)


def extend(
    model: ModelFolder,
    new: TableFile,
    out: FolderOut,
    outcome: Outcome = "",
    group: Group = None,
    labels: MedsLabels = None,
    json: Json = None,
) -> None:
    """Store more patients in a model, without training.

    They are found as similar patients from now on; risks of the base learners stay. Of a model of events, the table is their events, and
    --labels their moments with the outcomes.

    \b
    Examples:
      nearward extend model/ new-patients.parquet --outcome died --out model/
      nearward extend model/ events/ --labels last-month.parquet --out model/
    """
    _check_out(model, out)
    loaded, patients = _read(model, new, outcome, group, labels)
    extension = loaded.extend(*patients)
    _save(loaded, out)
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
    from nearward.event_model.event_risk import EventRisk
    from nearward.event_model.stored_subjects import FEATURES
    from nearward.loading import load

    _check_out(model, out)
    wanted = _read_ids(ids)
    loaded = load(model)
    removal = loaded.forget(wanted)
    if refit:
        loaded, removal = loaded.refit(), removal.refitted((FEATURES,) if isinstance(loaded, EventRisk) else ())
    _save(loaded, out)
    say(str(removal))
    write_json({"removal": removal}, json)


def show_adaptation(adaptation: Adaptation) -> None:
    """Print what an adaptation did."""
    from nearward.adaptation.page import step_table
    from nearward.tabular.errors import list_names

    show(step_table(adaptation), f"adapted: {adaptation}")
    if adaptation.renamed:
        say(f"columns that have another name at the site: {', '.join(f'{site} is {name}' for site, name in adaptation.renamed.items())}")
    if adaptation.missing_columns:
        say(f"columns that the site lacks: {list_names(adaptation.missing_columns)}")
    say(
        f"local recalibration of the log-odds: intercept {adaptation.intercept:+.2f}, slope {adaptation.slope:.2f}; "
        f"the interval of a risk rests on {adaptation.band}; novelty is relative to {adaptation.novelty}"
    )


def _check_out(model: Path, out: Path) -> None:
    """Check, before anything is computed, that a model of this kind may be written."""
    from nearward.tabular.persistence.artifact import check_folder, read_manifest

    check_folder(out, read_manifest(model).get("kind"))


def _save(model: RiskClassifier | EventRisk, out: Path) -> None:
    """Save a model as it was loaded: with its records, or without."""
    from nearward.event_model.event_risk import EventRisk

    model.save(out)
    fitted = model.model_.fitted_ if isinstance(model, EventRisk) else model.fitted_
    say(f"model in {out}{': it contains patient records' if fitted.records.width else ''}")


def _read(model: Path, table: Path, outcome: str, group: str | None, labels: Path | None) -> tuple[Any, tuple[Any, ...]]:
    """Return a model, and patients with outcomes as its methods read them: columns, outcome and patients; or events and labels."""
    from nearward.cli.terminal.queries import load_for
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError, require_columns

    loaded = load_for(model, labels)
    if labels is not None:
        if outcome or group:
            raise InputError("--outcome and --group are for tables: with --labels the outcome is boolean_value, the group subject_id")
        return loaded, (table, labels)
    if not outcome:
        raise InputError("--outcome must name the outcome's column of the table")
    frame = read_table(table, loaded.schema_)
    require_columns([outcome, group], frame.columns)
    known = {column.name for column in loaded.schema_.columns}
    columns = frame.drop(outcome, *([group] if group and group not in known else []))
    return loaded, (columns, frame.get_column(outcome), frame.get_column(group) if group else None)


def _read_ids(path: Path) -> list[str]:
    from nearward.tabular.errors import InputError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: one id a line is needed") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path} holds no ids: one a line is needed")
    return ids


def _pairs(texts: list[str] | None) -> dict[str, str]:
    from nearward.tabular.errors import InputError

    pairs = {}
    for text in texts or []:
        theirs, equals, ours = text.partition("=")
        if not (theirs and equals and ours):
            raise InputError(f"--rename needs THEIRS=OURS, got {text!r}")
        pairs[theirs.strip()] = ours.strip()
    return pairs
