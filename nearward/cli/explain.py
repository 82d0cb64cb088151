"""``nearward explain``: what raised or lowered a risk; ``sheet``: one patient's page; ``similar``: the patients behind a risk."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import Json, MedsLabels, ModelFolder, Row, Seed, TableFile
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
    labels: MedsLabels = None,
    json: Json = None,
    reference: Reference = ReferencePatients.SIMILAR,
    permutations: Permutations = 64,
    seed: Seed = 0,
) -> None:
    """Show which columns raised or lowered a risk.

    In log-odds, by Shapley values with their Monte Carlo standard errors. The contributions of a row, its base rate included, sum to the
    log-odds of its risk. Of a model of events, --row is a row of --labels.

    \b
    Examples:
      nearward explain model/ new.parquet --row 17 --picture why.svg
      nearward explain model/ new.parquet --out explained.parquet
      nearward explain model/ events/ --labels tonight.parquet --row 3
    """
    from nearward.cli.terminal.progress import show_progress
    from nearward.cli.terminal.queries import read_queries
    from nearward.tabular.errors import InputError

    if row is None and (out is None or picture is not None):
        raise InputError("without --row all rows are explained into the table --out; --picture is of one row")
    if picture is not None and picture.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise InputError(f"--picture must end in .svg, .png or .pdf, got {picture.name!r}")
    queries = read_queries(model, table, labels, row)
    if picture is not None and len(queries.model.classes_) > 2:
        raise InputError("--picture is for two classes; nearward.waterfall draws one class of a table with several")
    rows = queries.rows.height
    options: dict[str, Any] = {"reference": reference.value, "permutations": permutations, "seed": seed}
    with show_progress("explain", rows) as progress:
        explanation = queries.model.explain(*queries.data, **options, progress=lambda rows: progress(done=rows))
    if row is not None:
        show(
            explanation.drop(explanation.columns[: queries.key_columns]).head(2 + _COLUMNS_SHOWN),
            "contributions to the log-odds of the risk",
        )
    write_json({"explanation": explanation}, json)
    if out is not None:
        write_rows(explanation, out)
        say(f"{rows} rows explained into {out}: it contains patients' values")
    if picture is not None:
        _draw(explanation, picture)
        say(f"waterfall in {picture}: it contains a patient's values")


def _draw(explanation: pl.DataFrame, path: Path) -> None:
    """Write the waterfall; the texts of an SVG are drawn by the viewer's fonts, which lack fewer characters."""
    import matplotlib as mpl

    from nearward.explanation.waterfall import waterfall
    from nearward.tabular.data.atomic_files import replacing
    from nearward.tabular.errors import DataWarning

    kind = path.suffix.lower().removeprefix(".")
    with replacing(path) as temporary, mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("error" if kind != "svg" else "ignore", "Glyph .* missing from font")
        try:
            waterfall(explanation).savefig(temporary, format=kind, dpi=150)
        except UserWarning:
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            waterfall(explanation).savefig(temporary, format=kind, dpi=150)
            note = f"the font lacks characters of this row: boxes stand for them in {path.name}. A picture in .svg shows them"
            warnings.warn(note, DataWarning, stacklevel=3)


def sheet(
    model: ModelFolder,
    table: TableFile,
    out: Annotated[Path, typer.Option(help="HTML page to write.", show_default=False, metavar="FILE")],
    row: Row = "0",
    labels: MedsLabels = None,
    reference: Reference = ReferencePatients.SIMILAR,
    permutations: Permutations = 64,
    seed: Seed = 0,
) -> None:
    """Write one patient's page.

    Risk and band, why this risk, similar patients, and what the page does not say; one sheet of paper where it is printed. Of a model of
    events, --row is a row of --labels.

    \b
    Examples:
      nearward sheet model/ new.parquet --row P0042 --out sheet.html
      nearward sheet model/ events/ --labels tonight.parquet --row 3 \\
        --out sheet.html
    """
    from nearward.cli.terminal.queries import read_queries
    from nearward.evaluation.provenance import Provenance
    from nearward.explanation.sheet import patient_sheet
    from nearward.tabular.persistence.artifact import model_hash

    queries = read_queries(model, table, labels, row)
    patient_sheet(
        queries.classifier,
        queries.features(),
        out,
        reference=reference.value,
        permutations=permutations,
        seed=seed,
        label=queries.label,
        provenance=Provenance.now([table] if labels is None else [labels], model_hash(model)),
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
    from nearward.cli.terminal.queries import read_queries

    queries = read_queries(model, table, labels, row)
    results = _show_risk(queries.classifier, queries.features(), row)
    patients = queries.model.similar(*queries.data, k=k)
    patients = patients.drop(patients.columns[: queries.key_columns])
    title = "its similar patients with the largest weights"
    if "timeline" not in patients.columns:
        show(patients, title)
    else:
        show(patients.drop("timeline"), title)
        if patients.get_column("timeline").is_not_null().any():
            title = "what happened to them, in hours (h) or days (d) before (−) and after (+) their moment of prediction"
            show(patients.select("rank", "patient", "outcome", "timeline"), title)
    write_json({**results, "similar": patients}, json)


def _show_risk(classifier: RiskClassifier, query: pl.DataFrame, row: str) -> dict[str, Any]:
    """Print the risk of a row of features, and the features that make patients similar to it; return both."""
    from nearward.tabular.events.code_columns import code_of_column

    scores = classifier.predict_frame(query).row(0, named=True)
    if len(classifier.classes_) > 2:
        shares = ", ".join(f"{name} {scores[f'risk: {name}']:.3f} (vote {scores[f'vote: {name}']:.3f})" for name in classifier.classes_)
        say(f"row {row}: {shares}; {_describe_distance(scores)}")
    else:
        say(
            f"row {row}: risk {scores['risk']:.3f} ({scores['low']:.3f} to {scores['high']:.3f}); vote of the similar patients "
            f"{scores['vote']:.3f}; {_describe_distance(scores)}"
        )
    gate = classifier.gate(query)
    by_code: dict[str, float] = {}  # of events: the columns of a code together
    for name, share in gate.iter_rows():
        code = code_of_column(name)
        by_code[code] = by_code.get(code, 0.0) + share
    largest = sorted(by_code.items(), key=lambda item: -item[1])[:6]
    say(f"what makes patients similar to this one: {', '.join(f'{name} {share:.0%}' for name, share in largest)}")
    return {"scores": scores, "importance": gate}


def _describe_distance(scores: dict[str, Any]) -> str:
    return f"{scores['n_similar']} of these patients within the usual distance; novelty {scores['novelty']:.2f}"
