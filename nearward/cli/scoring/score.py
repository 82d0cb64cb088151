"""``nearward score``: one table into a file, or many tables into a folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.terminal.console import Json, MedsLabels, ModelFolder, spool
from nearward.cli.terminal.output import STANDARD, say, show, write_json, write_rows
from nearward.cli.terminal.resources import Address, Engine, MaxMemory, Workers

if TYPE_CHECKING:
    from nearward.batch.job import JobReport
    from nearward.batch.options import ScoringJob

PARTIAL = 4  # exit code: some rows could not be scored
_FILES = (".parquet", ".csv", ".arrow", ".feather", ".ipc")
_MOST_FAILURES = 20  # printed


def score(
    model: ModelFolder,
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="Tables to score; with a folder as --out: Parquet files, or folders of them. Of a model of events: MEDS folders or files. "
            "- reads one table from standard input.",
            show_default=False,
            metavar="TABLE...",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="A file, for one table (- prints CSV); or a folder, for a scoring job that can be resumed.",
            show_default=False,
            metavar="PATH",
        ),
    ],
    workers: Workers = None,
    max_memory: MaxMemory = None,
    engine: Engine = "local",
    address: Address = None,
    index_actors: Annotated[
        bool | None,
        typer.Option(
            help="With Ray: divide the index over actors, one a shard, in place of a copy with every worker.",
            show_default="where it exceeds the memory of the cluster's smallest node",
        ),
    ] = None,
    format: Annotated[
        str, typer.Option(help="Columns to write: plain; or meds, the five columns of the MEDS evaluation schema.", metavar="NAME")
    ] = "plain",
    labels: MedsLabels = None,
    threshold: Annotated[
        float | None, typer.Option(help="Risk from which on a row counts as flagged.", show_default="the event rate the model expects")
    ] = None,
    shard_rows: Annotated[int | None, typer.Option(help="Rows of a shard.", show_default="16384, fewer with a tight --max-memory")] = None,
    shard_minutes: Annotated[
        float | None,
        typer.Option(help="Kill a worker that takes longer for one shard; it is tried once more.", show_default="no limit"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate rows, shards, memory and time; write nothing.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard the scores in the folder and start again.")] = False,
    json: Json = None,
) -> None:
    """Score new rows.

    Each gets its id, risk with a band, the number of similar patients, and novelty.

    With a file as --out (.parquet, .csv, .arrow), one table is scored at once. With a folder, Parquet tables are scored shard by shard; the
    same command resumes an interrupted job. Exit code 4: some rows could not be scored; ledger/ in the folder says which and why.

    \b
    Examples:
      nearward score model/ new.parquet --out risk.parquet
      nearward score model/ - --out - < new.csv > risk.csv
      nearward score model/ archive/ --out scores/ --workers 2 --max-memory 2GB
      nearward score model/ archive/ --out scores/ --dry-run
      nearward score model/ features/ --labels labels/ --format meds \\
        --out scores/
      nearward score model/ events/ --labels tonight.parquet --out scores/
    """
    from nearward.batch.memory import read_size
    from nearward.batch.options import ScoringJob
    from nearward.tabular.errors import InputError

    if out == STANDARD or (out.suffix.lower() in _FILES and not out.is_dir()):
        of_jobs = (workers, max_memory, address, index_actors, labels, threshold, shard_rows, shard_minutes)
        job_options = any(option is not None for option in of_jobs)
        if len(tables) > 1 or tables[0].is_dir() or dry_run or restart or (engine, format) != ("local", "plain") or job_options:
            raise InputError(f"--out {out} is one file, for one table and without options. Name a folder for a job over many tables")
        _score_table(model, spool(tables[0]), out, json)
        return
    if STANDARD in tables:
        raise InputError("- (standard input) is scored into one file: name a file, or -, as --out")
    limit = None if max_memory is None else read_size(max_memory)
    seconds = None if shard_minutes is None else 60 * shard_minutes
    plan = (format, labels, threshold, workers, limit, shard_rows)
    job = ScoringJob(model, tuple(tables), out, *plan, engine, address, restart, seconds, index_actors)
    if dry_run:
        _show_dry_run(job, json)
    else:
        _run_job(job, json)


def _score_table(model: Path, table: Path, out: Path, json: Path | None) -> None:
    from nearward.cli.terminal.progress import show_progress
    from nearward.loading import load_classifier
    from nearward.tabular.data.table_io import read_table

    classifier = load_classifier(model)
    frame = read_table(table, classifier.schema_)
    with show_progress("score", frame.height) as progress:
        scores = classifier.predict_frame(frame, progress=lambda rows: progress(done=rows))
    write_rows(scores, out)
    novel = int((scores.get_column("novelty") > 0.99).sum())
    write_json({"rows": scores.height, "novel": novel}, json)
    say(
        f"{scores.height} rows scored into {out}; "
        f"{novel} {'lies' if novel == 1 else 'lie'} outside the training population (novelty above .99; one in a hundred is expected)"
    )


def _show_dry_run(job: ScoringJob, json: Path | None) -> None:
    import polars as pl

    from nearward.batch.dry_run import dry_run

    run = dry_run(job)
    show(pl.DataFrame(run.rows, schema=["what", "expected"], orient="row"), f"{job.out}: nothing was written")
    write_json({"expected": dict(run.rows), "unreadable": dict(run.unreadable)}, json)
    for name, why in run.unreadable:
        typer.echo(f"cannot be scored: {name}: {why}", err=True)


def _run_job(job: ScoringJob, json: Path | None) -> None:
    from nearward.batch.job import run_job
    from nearward.batch.summary import drift_table, summary_table
    from nearward.cli.terminal.progress import show_progress
    from nearward.event_model.code_drift import code_drift_table
    from nearward.tabular.errors import FolderTakenOver

    try:
        report = run_job(job, lambda rows: show_progress("score", rows))
    except FolderTakenOver as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(PARTIAL) from error
    summary = report.summary
    write_json({"summary": summary, "scored_in_this_run": report.scored, "complete": report.complete}, json)
    show(summary_table(summary), f"{job.out}: {report.done} of {report.shards} shards done")
    if summary.drift:
        everything = "" if report.stopped else "; all of them in summary.json"
        moved = sum(column.moved for column in summary.drift)
        shown = "largest of each code" if summary.codes else "ten largest"
        title = f"drift against training: {moved} of {len(summary.drift)} columns moved (the {shown}{everything})"
        show(drift_table(summary.drift), title)
    else:
        say(summary.drift_note or "no drift: no row was scored")
    if summary.codes:
        changed = sum(code.moved or code.slip for code in summary.codes)
        show(
            code_drift_table(summary.codes[:10]),
            f"codes against training: {changed} of {len(summary.codes)} changed (the ten that changed most)",
        )
    _show_run(report)
    if not report.complete:
        raise typer.Exit(PARTIAL)


def _show_run(report: JobReport) -> None:
    for what, why in report.failed[:_MOST_FAILURES]:
        typer.echo(f"not scored: {what}: {why}", err=True)
    if len(report.failed) > _MOST_FAILURES:
        where = "the job was stopped before it wrote a summary" if report.stopped else "see summary.json"
        typer.echo(f"not scored: {len(report.failed) - _MOST_FAILURES} more; {where}", err=True)
    rate = report.scored / report.seconds if report.seconds else 0.0
    workers = f"{report.workers} worker{'' if report.workers == 1 else 's'}"
    threads = f" of {report.threads} threads" if report.threads > 1 else ""
    say(
        f"{report.scored} rows scored in this run, {report.seconds:.0f} s, {rate:.0f} rows/s with {workers}{threads}, "
        + ("memory unknown" if math.isnan(report.peak_memory) else f"{report.peak_memory / 1e9:.2f} GB resident at most")
        + ("" if report.complete else ". Partial: run the same command again to resume")
    )
