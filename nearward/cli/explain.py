"""``nearward explain``: what raised or lowered a risk; ``sheet``: one patient's page; ``similar``: the patients behind a risk."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import Json, MedsLabels, ModelFolder, Row, Seed, TableFile, find_row
from nearward.cli.terminal.output import say, show, write_json, write_rows

if TYPE_CHECKING:
    import polars as pl

    from nearward.risk_model.classifier import RiskClassifier

_COLUMNS_SHOWN = 15


class ReferencePatients(StrEnum):
    """Whose values are exchanged for the row's."""

    SIMILAR = "similar"
    COHORT = "cohort"


Reference = Annotated[
    ReferencePatients, typer.Option(help="Whose values are exchanged: those of the row's similar patients, or of all training patients.")
]
Permutations = Annotated[int, typer.Option(help="Orders of the columns, an even number; more of them give smaller standard errors.")]


def explain(
    model: ModelFolder,
    table: TableFile,
    row: Annotated[
        str | None,
        typer.Option(
            help="The row: its id where the model knows a column of ids, else its number from 0.", show_default="all", metavar="ROW"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Parquet, CSV or Arrow file to write; - prints CSV. Required without --row.", show_default=False, metavar="FILE"),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Waterfall of the row: .svg, .png or .pdf. Needs --row.", show_default=False, metavar="FILE")
    ] = None,
    json: Json = None,
    reference: Reference = ReferencePatients.SIMILAR,
    permutations: Permutations = 64,
    seed: Seed = 0,
) -> None:
    """Show which columns raised or lowered a risk.

    In log-odds, by Shapley values with their Monte Carlo standard errors. The contributions of a row, its base rate included, sum to the
    log-odds of its risk.

    \b
    Examples:
      nearward explain model/ new.parquet --row 17 --picture why.svg
      nearward explain model/ new.parquet --out explained.parquet
    """
    from nearward.cli.terminal.progress import show_progress
    from nearward.loading import load_classifier
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    if row is None and (out is None or picture is not None):
        raise InputError("without --row all rows are explained into the table --out; --picture is of one row")
    if picture is not None and picture.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise InputError(f"--picture must end in .svg, .png or .pdf, got {picture.name!r}")
    classifier = load_classifier(model)
    if picture is not None and len(classifier.classes_) > 2:
        raise InputError("--picture is for two classes; nearward.waterfall draws one class of a table with several")
    frame = read_table(table, classifier.schema_)
    if row is not None:
        number = find_row(row, frame, classifier.schema_.named("id"))
        frame = frame[number : number + 1]
    with show_progress("explain", frame.height) as progress:
        explanation = classifier.explain(
            frame, reference.value, permutations=permutations, seed=seed, progress=lambda rows: progress(done=rows)
        )
    if row is not None:
        show(explanation.drop(explanation.columns[0]).head(2 + _COLUMNS_SHOWN), "contributions to the log-odds of the risk")
    write_json({"explanation": explanation}, json)
    if out is not None:
        write_rows(explanation, out)
        say(f"{frame.height} rows explained into {out}: it contains patients' values")
    if picture is not None:
        _draw(explanation, picture)
        say(f"waterfall in {picture}: it contains a patient's values")


def _draw(explanation: pl.DataFrame, path: Path) -> None:
    from nearward.explanation.waterfall import waterfall
    from nearward.tabular.data.atomic_files import replacing

    with replacing(path) as temporary:
        waterfall(explanation).savefig(temporary, format=path.suffix.lower().removeprefix("."), dpi=150)


def sheet(
    model: ModelFolder,
    table: TableFile,
    out: Annotated[Path, typer.Option(help="HTML page to write.", show_default=False, metavar="FILE")],
    row: Row = "0",
    reference: Reference = ReferencePatients.SIMILAR,
    permutations: Permutations = 64,
    seed: Seed = 0,
) -> None:
    """Write one patient's page.

    Risk and band, why this risk, similar patients, and what the page does not say; one sheet of paper where it is printed.

    \b
    Examples:
      nearward sheet model/ new.parquet --row P0042 --out sheet.html
    """
    from nearward.evaluation.provenance import Provenance
    from nearward.explanation.sheet import patient_sheet
    from nearward.loading import load_classifier
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.persistence.artifact import model_hash

    classifier = load_classifier(model)
    frame = read_table(table, classifier.schema_)
    id_columns = classifier.schema_.named("id")
    number = find_row(row, frame, id_columns)
    patient_sheet(
        classifier,
        frame[number : number + 1],
        out,
        reference=reference.value,
        permutations=permutations,
        seed=seed,
        label=None if id_columns else f"row {number}",
        provenance=Provenance.now(table, model_hash(model)),
    )
    say(f"sheet in {out}: it contains patients' values; guard it as you guard the cohort")


def similar(
    model: ModelFolder,
    table: TableFile,
    row: Row = "0",
    k: Annotated[int, typer.Option("-k", help="How many patients to show.")] = 10,
    labels: MedsLabels = None,
    json: Json = None,
) -> None:
    """Show the similar patients that a risk rests on.

    Their weights and outcomes, the features that make them similar, and those that differ. Of a model of events, where --row is a row of
    --labels, also what happened to these patients around the moment of prediction.

    \b
    Examples:
      nearward similar model/ new.parquet --row 17 -k 10
      nearward similar model/ new.parquet --row P0042 --json -
      nearward similar model/ events/ --labels tonight.parquet --row 3
    """
    from nearward.event_model.event_risk import EventRisk
    from nearward.loading import load
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    loaded = load(model)
    if isinstance(loaded, EventRisk):
        if labels is None:
            raise InputError(f"{model} holds a model of events: --labels must name the subjects and moments of prediction")
        frame = read_table(labels)
        number = find_row(row, frame, ())
        queries = frame[number : number + 1]
        results = _show_risk(loaded.model_, loaded.transform_counted(table, queries)[1], row)
        patients = loaded.similar(table, queries, k=k).drop("subject_id", "prediction_time")
        show(patients.drop("timeline"), "its similar patients with the largest weights")
        if loaded.timelines_ is not None:
            title = "what happened to them, in hours (h) or days (d) before (−) and after (+) their moment of prediction"
            show(patients.select("rank", "patient", "outcome", "timeline"), title)
    else:
        if labels is not None:
            raise InputError(f"{model} holds a model of tables: --labels goes with a model of events")
        frame = read_table(table, loaded.schema_)
        number = find_row(row, frame, loaded.schema_.named("id"))
        query = frame[number : number + 1]
        results = _show_risk(loaded, query, row)
        patients = loaded.similar(query, k=k)
        patients = patients.drop(patients.columns[0])
        show(patients, "its similar patients with the largest weights")
    write_json({**results, "similar": patients}, json)


def _show_risk(classifier: RiskClassifier, query: pl.DataFrame, row: str) -> dict[str, Any]:
    """Print the risk of a row of features, and the features that make patients similar to it; return both."""
    scores = classifier.predict_frame(query).row(0, named=True)
    if len(classifier.classes_) > 2:
        shares = ", ".join(f"{name} {scores[f'risk: {name}']:.3f} (vote {scores[f'vote: {name}']:.3f})" for name in classifier.classes_)
        say(f"row {row}: {shares}; {scores['n_similar']} similar patients are near; novelty {scores['novelty']:.2f}")
    else:
        say(
            f"row {row}: risk {scores['risk']:.3f} ({scores['low']:.3f} to {scores['high']:.3f}); similar patients vote "
            f"{scores['vote']:.3f}; {scores['n_similar']} are near; novelty {scores['novelty']:.2f}"
        )
    gate = classifier.gate(query)
    say(f"what makes patients similar to this one: {', '.join(f'{name} {share:.0%}' for name, share in gate.head(6).iter_rows())}")
    return {"scores": scores, "importance": gate}
