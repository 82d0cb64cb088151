"""``nearward similar``: the similar patients that a row's risk rests on."""

from __future__ import annotations

from typing import Annotated

import typer

from nearward.cli.terminal.console import Json, ModelFolder, Row, TableFile, find_row
from nearward.cli.terminal.output import say, show, write_json


def similar(
    model: ModelFolder,
    table: TableFile,
    row: Row = "0",
    k: Annotated[int, typer.Option("-k", help="How many patients to show.")] = 10,
    json: Json = None,
) -> None:
    """Show the similar patients that a risk rests on.

    Their weights and outcomes, the features that make them similar, and those that differ.

    \b
    Examples:
      nearward similar model/ new.parquet --row 17 -k 10
      nearward similar model/ new.parquet --row P0042 --json -
    """
    from nearward.risk_model.classifier import load
    from nearward.tabular.data.table_io import read_table

    classifier = load(model)
    frame = read_table(table, classifier.schema_)
    number = find_row(row, frame, classifier.schema_.named("id"))
    query = frame[number : number + 1]
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
    patients = classifier.similar(query, k=k)
    patients = patients.drop(patients.columns[0])
    show(patients, "its similar patients with the largest weights")
    write_json({"scores": scores, "importance": gate, "similar": patients}, json)
