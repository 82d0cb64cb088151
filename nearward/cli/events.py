"""``nearward events``: what a source of time-stamped events holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearward.cli.terminal.console import App, EventColumns, Json, MedsLabels, Report, read_columns
from nearward.cli.terminal.output import say, show, write_json

app = App(help="Time-stamped events (MEDS).")


@app.callback()
def events() -> None:
    """Time-stamped events (MEDS)."""


@app.command()
def describe(
    source: Annotated[
        Path, typer.Argument(help="MEDS folder, folder of Parquet files, or a file of events.", show_default=False, metavar="EVENTS")
    ],
    labels: MedsLabels = None,
    columns: EventColumns = None,
    codes: Annotated[int, typer.Option(help="Codes to print.")] = 30,
    report: Report = None,
    json: Json = None,
) -> None:
    """Describe events: codes, how often, of how many subjects, units, times, gaps.

    With --labels also where the moments of prediction lie in them. --report writes a page with pictures.

    \b
    Examples:
      nearward events describe events/ --labels labels.parquet \\
        --report events.html
      nearward events describe stays.parquet \\
        --columns subject_id=stay,numeric_value=value
    """
    from nearward.evaluation.events.description import MIN_SUBJECTS, describe_events
    from nearward.evaluation.events.html_report import codes_in_short, events_page, facts_table
    from nearward.evaluation.html_page import write_html
    from nearward.evaluation.provenance import Provenance
    from nearward.tabular.events.reading import read_events

    description = describe_events(read_events(source, read_columns(columns)), labels)
    show(facts_table(description.facts), f"{source}")
    show(description.quantiles, "quantiles")
    if description.labels:
        show(facts_table(description.labels), f"{labels}")
        show(description.before_labels, "before the moments of prediction")
    title = f"the most frequent of {description.codes.height} codes of at least {MIN_SUBJECTS} subjects"
    show(codes_in_short(description.codes.head(codes)), f"{title}; {description.rare_codes} rarer codes are not listed")
    if description.slips.height:
        show(description.slips, "numbers that look like another unit in some year")
    write_json(vars(description), json)
    if report is not None:
        write_html(events_page(description, source.name, Provenance.now(source)), report)
        say(f"written to {report}")
