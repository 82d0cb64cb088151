"""``nearward watch``: scoring runs compared over time: drift, novelty, and calibration once outcomes are known."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.terminal.console import Events, Json, Missing, Report, Seed, as_event
from nearward.cli.terminal.output import say, show, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearward.evaluation.calibration_drift import CalibrationDrift
    from nearward.evaluation.drift_report import RunFigures
    from nearward.evaluation.provenance import Provenance
    from nearward.event_model.code_drift import CodeDrift

ALARM = 4  # exit code: something that --fail-on names has drifted
_EXPECTED_NOVEL = 0.01
_NOVEL_FACTOR = 2  # the interval of the novel share must lie above this many times the expected share


class Cause(StrEnum):
    """Kinds of drift that ``--fail-on`` names."""

    COLUMNS = "columns"
    NOVELTY = "novelty"
    CALIBRATION = "calibration"
    CODES = "codes"


def watch(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that nearward score wrote, in order of time.", show_default=False, metavar="FOLDER...")
    ],
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help="Table of outcomes, with the id column of the scores; and run, the run's folder, where runs share ids: calibration drift.",
            show_default=False,
            metavar="TABLE",
        ),
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="Column of the outcome.", show_default=False, metavar="COLUMN")] = None,
    positive: Events = None,
    fail_on: Annotated[
        list[Cause] | None,
        typer.Option(help="Exit with code 4 where this has drifted in the last run; may be repeated.", show_default=False),
    ] = None,
    report: Report = None,
    json: Json = None,
    missing: Missing = None,
    seed: Seed = 0,
) -> None:
    """Compare scored populations over time.

    Flagged rows, novel rows, and data drift of columns against training. Where outcomes are given also the calibration of the risks, and
    the step of nearward adapt that would mend it.

    \b
    Examples:
      nearward watch scores-monday/ scores-tuesday/
      nearward watch scores-*/ --fail-on columns --fail-on novelty
      nearward watch scores-*/ --outcomes outcomes.parquet --outcome died \\
        --fail-on calibration --report drift.html
    """
    from nearward.batch.meds import SUBJECT
    from nearward.batch.outcomes import RISK, join_outcomes
    from nearward.batch.summary import compare_runs, name_runs, read_summary
    from nearward.evaluation.calibration_drift import measure_calibration_drift, propose_step
    from nearward.evaluation.drift_report import RunFigures
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    if (outcomes is None) != (outcome is None):
        raise InputError(f"--outcomes and --outcome belong together, got {'--outcome' if outcomes is None else '--outcomes'} alone")
    if Cause.CALIBRATION in (fail_on or []) and outcomes is None:
        raise InputError("--fail-on calibration needs the outcomes: name their table in --outcomes and their column in --outcome")
    named = name_runs(runs)
    summaries = [(name, read_summary(folder)) for name, folder in named.items()]
    calibration: list[CalibrationDrift | None] = [None] * len(runs)
    if outcomes is not None and outcome is not None:
        table = read_table(outcomes, missing=missing or ())
        event = as_event(positive, table.get_column(outcome)) if outcome in table.columns else None
        joined = join_outcomes(named, table, outcome)
        subject = SUBJECT if SUBJECT in joined[0].columns else None
        calibration = [measure_calibration_drift(frame, outcome, RISK, subject, event, seed) for frame in joined]
    figures = [
        RunFigures(name, s.scored, s.novel_share, tuple(c.column for c in s.drift if c.moved) if s.drift else None, known)
        for (name, s), known in zip(summaries, calibration, strict=True)
    ]
    model = summaries[-1][1].model
    known_runs = [run for run, (_, s) in zip(calibration, summaries, strict=True) if s.model == model and run is not None and run.metrics]
    first = known_runs[0] if known_runs else None
    proposal = propose_step(calibration[-1], first)
    alarms = _alarms(figures[-1], first, [code for code in summaries[-1][1].codes if code.moved or code.slip])
    compared, moved = compare_runs(summaries)
    show(compared, "runs")
    if moved is None:
        say("no column has moved in any of these runs (PSI above .1 and above chance)")
    else:
        show(moved, "PSI against training, of columns that moved in any run (rule of thumb: from .1 on look, from .25 on act)")
    if outcomes is not None:
        _show_calibration(figures)
    note = _describe_constant_slope(calibration[-1], first)
    _show_verdict([*alarms.values(), *([note] if note else [])], proposal, outcome)
    outcome_figures = [None if one is None else one.to_dict() for one in calibration]
    write_json(
        {"runs": compared, "moved": moved, "calibration": outcome_figures, "alarms": alarms, "note": note, "proposed_step": proposal},
        json,
    )
    if report is not None:
        from nearward.evaluation.drift_report import drift_page
        from nearward.evaluation.html_page import write_html

        write_html(drift_page(figures, _EXPECTED_NOVEL, list(alarms.values()), note, proposal, _origin(runs, model)), report)
        say(f"written to {report}")
    failed = [cause.value for cause in dict.fromkeys(fail_on or []) if cause in alarms]
    if failed:
        typer.echo(f"DRIFT: {', '.join(failed)} in {figures[-1].name}", err=True)
        raise typer.Exit(ALARM)


def _origin(runs: Sequence[Path], model: str) -> Provenance:
    """Return the provenance of the page, with the summary of each run."""
    from dataclasses import replace

    from nearward.batch.summary import SUMMARY
    from nearward.evaluation.provenance import DataFile, Provenance

    files = [replace(DataFile.read(folder / SUMMARY), name=f"{folder.name}/{SUMMARY}") for folder in runs]
    return replace(Provenance.now((), model), data=tuple(files))


def _alarms(last: RunFigures, first: CalibrationDrift | None, codes: Sequence[CodeDrift]) -> dict[Cause, str]:
    """What has drifted in the last run, in words."""
    alarms = {}
    if last.moved:
        alarms[Cause.COLUMNS] = (
            f"{len(last.moved)} column{'s' if len(last.moved) > 1 else ''} moved against training: {', '.join(last.moved)}"
        )
    if last.novel is not None and last.novel.low > _NOVEL_FACTOR * _EXPECTED_NOVEL:
        share, expected = f"{100 * last.novel.value:.1f} %", f"{100 * _EXPECTED_NOVEL:.0f} %"
        alarms[Cause.NOVELTY] = f"{share} of the rows lie outside the training population, where {expected} is expected"
    if codes:
        names = ", ".join(f"{code.name} (another unit?)" if code.slip else code.name for code in codes)
        alarms[Cause.CODES] = f"{len(codes)} code{'s' if len(codes) > 1 else ''} of events changed against training: {names}"
    if last.calibration is not None and (drifted := last.calibration.drifted_from(first)):
        alarms[Cause.CALIBRATION] = f"the calibration has drifted: {', '.join(drifted)}"
    return alarms


def _describe_constant_slope(last: CalibrationDrift | None, first: CalibrationDrift | None) -> str | None:
    """Say that the slope has been off since the model's first run; None where it is not, or has drifted since."""
    from nearward.evaluation.stats.confidence import defined

    if last is None or not last.slope_is_off or last.slope_drifted_from(first):
        return None
    slope = defined(last.metrics["calibration_slope"])
    return f"the calibration slope, {slope}, was off in the first run of this model already: miscalibrated, but no drift"


def _show_verdict(findings: Sequence[str], proposal: str | None, outcome: str | None) -> None:
    for text in findings:
        say(f"last run: {text}")
    if proposal:
        say(
            f"proposed: nearward adapt MODEL TABLE --outcome {outcome} --out FOLDER, with patients whose outcome is known; its step "
            f"{proposal!r} is the weakest that can mend this"
        )
    elif findings and outcome is None:
        say("proposed: look at units and codes of what moved, and give --outcomes as soon as they are known: drift need not hurt the risks")


def _show_calibration(runs: Sequence[RunFigures]) -> None:
    import polars as pl

    from nearward.evaluation.drift_report import runs_frame

    table = runs_frame(runs).drop("rows", "share of novel rows", "columns that moved")
    text = {name: ["" if value is None else str(value) for value in table[name].to_list()] for name in table.columns}
    show(pl.DataFrame(text), "calibration (95 %), where the outcome is known")
    for run in runs:
        if run.calibration is not None and not run.calibration.metrics:
            say(f"{run.name}: fewer than 10 rows with the event, or without it, are known: its calibration is not judged yet")
