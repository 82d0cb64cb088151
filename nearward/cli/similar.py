"""``nearward similar``: the similar patients that a row's risk rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import Json, MedsLabels, ModelFolder, Row, TableFile, find_row
from nearward.cli.terminal.output import say, show, write_json

if TYPE_CHECKING:
    import polars as pl

    from nearward.risk_model.classifier import RiskClassifier


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
