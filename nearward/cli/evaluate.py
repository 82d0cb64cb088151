"""``nearward evaluate``: evaluate a table of risks or a synthetic table, from any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearward.cli.terminal.console import (
    App,
    Events,
    Group,
    Json,
    Missing,
    Outcome,
    Positive,
    Report,
    Resamples,
    SchemaFile,
    Seed,
    TableFile,
    Threshold,
    as_event,
    columns_option,
    read_schema,
    split_names,
    spool,
)
from nearward.cli.terminal.output import say, show, writing

if TYPE_CHECKING:
    from nearward.evaluation.risk.results import EvaluationFacts, SiteResults, Subgroup, ThresholdResults
    from nearward.evaluation.stats.confidence import Result
    from nearward.evaluation.synthetic.card import FaithCard

app = App(help="Evaluate risk predictions, or synthetic tables.")

_SUBGROUP_KEYS = ("auprc", "auroc", "observed_expected", "recall_at_budget")
ScoredBy = Annotated[
    Path | None,
    typer.Option(
        "--scored-by", help="Folder of the model that made the risks: its hash is written on the page.", show_default=False, metavar="MODEL"
    ),
]


@app.command()
def risk(
    scored: TableFile,
    outcome: Outcome,
    risk: Annotated[
        list[str] | None, columns_option("Column of the predicted risk, by default risk; several are compared with the first")
    ] = None,
    group: Group = None,
    subgroups: Annotated[list[str] | None, columns_option("Column to evaluate in groups by")] = None,
    strata: Annotated[
        list[str] | None, columns_option("Column of sites or diagnoses, evaluated in strata by their number of events")
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(
            help="Column of the site or source file: results by site, pooled, with a prediction interval for the next site; and a test "
            "for site leakage, whether the other columns predict it.",
            show_default=False,
            metavar="COLUMN",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Column of the dates or times of prediction: performance by month, quarter or year.", show_default=False, metavar="COLUMN"
        ),
    ] = None,
    positive: Events = None,
    report: Report = None,
    json: Json = None,
    scored_by: ScoredBy = None,
    alert_rate: Annotated[float, typer.Option(help="Share of rows that can be alerted.")] = 0.05,
    threshold: Threshold = None,
    thresholds: Annotated[
        list[float] | None,
        typer.Option(help="Threshold to tabulate sensitivity, specificity, PPV, NPV, … at; can be repeated.", show_default=False),
    ] = None,
    sensitivities: Annotated[
        list[float] | None,
        typer.Option(help="The same at the threshold that reaches this sensitivity.", show_default=False),
    ] = None,
    alert_rates: Annotated[
        list[float] | None,
        typer.Option(help="The same at the threshold that alerts at most this share of rows; can be repeated.", show_default=False),
    ] = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Evaluate predicted risks on a test set, or compare several.

    Discrimination, calibration and net benefit, each with its interval.

    \b
    Examples:
      nearward evaluate risk scored.parquet --outcome died --report report.html
      nearward evaluate risk scored.parquet --outcome died --risk ours,apache
      nearward evaluate risk scored.parquet --outcome died --json - | jq
    """
    from nearward.evaluation.risk.comparison import compare_risks
    from nearward.evaluation.risk.report import evaluate_risk
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    frame = read_table(scored, read_schema(schema, missing), missing or ())
    names = split_names(["risk"] if risk is None else risk, frame.columns)
    column = frame.get_column(outcome) if outcome in frame.columns else None
    event = None if column is None else as_event(positive, column)
    options: dict[str, Any] = {"alert_rate": alert_rate, "threshold": threshold, "resamples": resamples, "seed": seed, "positive": event}
    if not names:
        raise InputError("--risk names no column")
    table_options = {"thresholds": thresholds, "sensitivities": sensitivities, "alert_rates": alert_rates}
    table_of: dict[str, Any] = {name: values for name, values in table_options.items() if values}
    if len(names) > 1:
        if subgroups or strata or site or time or table_of:
            options_of_one = "--subgroups, --strata, --site, --time, --thresholds, --sensitivities and --alert-rates"
            raise InputError(f"{options_of_one} are for one risk at a time: name one in --risk")
        comparison = compare_risks(frame, outcome, names, group, **options)
        _show_results(comparison.metrics, _counts(scored, comparison.facts))
        differences = {f"less {name}": difference for name, difference in comparison.differences.items()}
        _show_results(differences, f"{comparison.first} less each other, on the same resamples")
        write_reports({report: comparison.to_html, json: comparison.to_json}, (scored,), scored_by)
        return
    by_group, by_stratum = split_names(subgroups, frame.columns), split_names(strata, frame.columns)
    evaluation = evaluate_risk(frame, outcome, names[0], group, by_group, strata=by_stratum, site=site, time=time, **table_of, **options)
    _show_results({evaluation.risk: evaluation.metrics}, _counts(scored, evaluation.facts))
    chance = evaluation.ece_by_chance
    say(f"calibration error that perfectly calibrated risks would show here: {chance.value:.4f} ({chance.low:.4f} to {chance.high:.4f})")
    _show_thresholds(evaluation.thresholds)
    parts = {"subgroups": evaluation.subgroups, "event-count strata": evaluation.strata, "by calendar time": evaluation.periods}
    for title, groups in parts.items():
        if groups:
            _show_subgroups(groups, title)
    if evaluation.sites is not None:
        show_sites(evaluation.sites)
    if evaluation.source is not None:
        show(evaluation.source.shown(), f"event rate by {site}")
        say(f"source leak: {evaluation.source.verdict()}")
    for note in evaluation.notes:
        typer.echo(f"note: {note}", err=True)
    write_reports({report: evaluation.to_html, json: evaluation.to_json}, (scored,), scored_by)


@app.command()
def synth(
    train: Annotated[
        Path, typer.Option(help="Table that the synthesizer was trained on.", show_default=False, metavar="TABLE", callback=spool)
    ],
    holdout: Annotated[
        Path, typer.Option(help="Real rows that it never saw, by a random split.", show_default=False, metavar="TABLE", callback=spool)
    ],
    synthetic: Annotated[Path, typer.Option(help="Synthetic table.", show_default=False, metavar="TABLE", callback=spool)],
    outcome: Outcome,
    positive: Positive = None,
    group: Group = None,
    rules: Annotated[Path | None, typer.Option(help="YAML file of your own rules.", show_default=False, metavar="FILE")] = None,
    write_rules: Annotated[
        Path | None, typer.Option(help="YAML file to write all evaluated rules to.", show_default=False, metavar="FILE")
    ] = None,
    report: Report = None,
    json: Json = None,
    schema: SchemaFile = None,
    missing: Missing = None,
    seed: Seed = 0,
) -> None:
    """Evaluate a synthetic table.

    FAITH-style card of fidelity, utility and privacy attacks. Exit code 4 if it does not pass.

    \b
    Examples:
      nearward evaluate synth --train t.parquet --holdout h.parquet \\
        --synthetic s.parquet --outcome died --report card.html
    """
    from nearward.evaluation.synthetic.card import faith_card
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.rules import yaml_io

    marks, declared = missing or (), read_schema(schema, missing)
    train_rows = read_table(train, declared, marks)
    if declared is None:
        declared = Schema.from_dtypes(train_rows).with_roles(group=group).with_missing(marks)  # the three are read alike
    card = faith_card(
        train=train_rows,
        holdout=read_table(holdout, declared, marks),
        synthetic=read_table(synthetic, declared, marks),
        outcome=outcome,
        positive=positive,
        group=group,
        rules=rules,
        seed=seed,
    )
    show_card(card, synthetic.name)
    write_reports({report: card.to_html, json: card.to_json}, (train, holdout, synthetic))
    if write_rules is not None:
        yaml_io.write_rules(card.rules, write_rules)
        say(f"written to {write_rules}")
    if not card.passed:
        missed = ", ".join(f"{part.name} ({part.status})" for part in card.components.values() if part.status != "passed")
        typer.echo(f"NOT PASSED: {missed}", err=True)
        raise typer.Exit(4)
    say("passed: all five components reach their gates; that is no proof of anonymity (docs/reference/faith-card.md)")


def show_card(card: FaithCard, name: str) -> None:
    """Print the five components of a card."""
    import polars as pl

    parts = list(card.components.values())
    shown = {
        "letter": [part.letter for part in parts],
        "component": [part.name for part in parts],
        "estimate (95 %)": ["" if part.estimate is None else str(part.estimate) for part in parts],
        "gate": [part.gate for part in parts],
        "status": [part.status for part in parts],
        "why": [part.why for part in parts],
    }
    rows = f"{card.rows['synthetic']} rows, event: {card.outcome} is {card.event}"
    show(pl.DataFrame(shown), f"FAITH-style card (our definition) of {name}: {rows}, seed {card.seed}")


def _counts(scored: Path, facts: EvaluationFacts) -> str:
    return (
        f"{scored.name}: {facts.rows} rows of {facts.patients} patients, {facts.events} events ({facts.outcome} is {facts.event}); "
        f"{100 * facts.alert_rate:.3g} alerts per 100 patients; threshold {facts.threshold:.3g}"
    )


def _show_results(results: Mapping[str, Mapping[str, Result]], title: str) -> None:
    """Print the metrics, one column for each model."""
    import polars as pl

    from nearward.evaluation.risk.metrics import METRIC_BY_KEY

    keys = list(next(iter(results.values())))
    columns = {"metric": [METRIC_BY_KEY[key].title for key in keys]}
    columns |= {f"{name} (95 %)": [_format(values[key]) for key in keys] for name, values in results.items()}
    show(pl.DataFrame(columns), title)


def _show_thresholds(thresholds: Sequence[ThresholdResults]) -> None:
    import polars as pl

    from nearward.evaluation.risk.html_report import threshold_summary

    table = threshold_summary(thresholds)
    lines = enumerate(zip(thresholds, table.iter_rows(), strict=True), 1)
    text = {f"{number}. {one.label}": ["" if value is None else str(value) for value in row[1:]] for number, (one, row) in lines}
    show(pl.DataFrame({"alerted: risk at or above": table.columns[1:], **text}), "at thresholds (95 %)")


def _show_subgroups(groups: Sequence[Subgroup], title: str, keys: Sequence[str] = _SUBGROUP_KEYS) -> None:
    import polars as pl

    from nearward.evaluation.risk.disclosure_control import SUPPRESSION_NOTE
    from nearward.evaluation.risk.html_report import subgroup_summary

    table = subgroup_summary(groups, keys)
    text = {name: ["" if value is None else str(value) for value in table.get_column(name).to_list()] for name in table.columns}
    show(pl.DataFrame(text), title)
    if any(group.events is None for group in groups):
        say(SUPPRESSION_NOTE)


def show_sites(results: SiteResults) -> None:
    """Print the sites, the means over them, and what a next site may expect."""
    import polars as pl

    from nearward.evaluation.risk.html_report import pooled_summary
    from nearward.evaluation.stats.confidence import Undefined

    part = "site" if results.pooled else "period"
    _show_subgroups(results.sites, f"by {part}", (*_SUBGROUP_KEYS[:3], "calibration_slope", "usefulness"))
    if results.pooled:
        pooled = pooled_summary(results)
        estimates = [pl.Series(name, map(str, pooled[name].to_list())) for name in pooled.columns if pooled[name].dtype == pl.Object]
        show(pooled.drop(one.name for one in estimates).with_columns(estimates).select(pooled.columns), "over sites (95 %)")
    for why in dict.fromkeys(one.why for one in results.pooled.values() if isinstance(one, Undefined)):
        say(f"not pooled: {why}")
    if results.useful is not None:
        useful, n = round(results.useful.value * results.useful.n), results.useful.n
        chance = results.next_useful
        next_site = "" if chance is None else f"; at a next site with a probability of {'over 0.99' if chance > 0.99 else f'{chance:.2f}'}"
        say(f"worth using (net benefit over alerting all and none at {results.threshold:.3g}): {useful} of {n} {part}s{next_site}")


def _format(result: Result) -> str:
    """Return a result as text, or the reason why there is none."""
    return str(result) if hasattr(result, "value") else f"none: {result.why}"


def write_reports(writers: Mapping[Path | None, Callable[..., None]], data: tuple[Path, ...], model: Path | None = None) -> None:
    """Write the page and the JSON that were asked for, with the hashes of the data files and of the model, and say where."""
    from nearward.evaluation.provenance import Provenance
    from nearward.tabular.persistence.artifact import model_hash

    paths = {path: write for path, write in writers.items() if path is not None}
    if not paths:
        return
    provenance = Provenance.now(data, None if model is None else model_hash(model))
    for path, write in paths.items():
        with writing(path, ".json") as file:
            write(file, provenance=provenance)
        say(f"written to {path}")
