"""``nearward score``: one table into one file, or a job over many into a folder; ``nearward watch``: such jobs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.console import show

if TYPE_CHECKING:
    from nearward.batch.job import Report, Task

_FILES = (".parquet", ".csv", ".arrow", ".feather", ".ipc")

PARTIAL = 4


def score(
    model: Annotated[Path, typer.Argument(help="Folder of a fitted model.", show_default=False)],
    tables: Annotated[
        list[Path], typer.Argument(help="Tables to score; for a folder of scores: Parquet files, or folders of them.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="A file, for one table; or a folder, for a job that resumes where it stopped.", show_default=False)
    ],
    workers: Annotated[int | None, typer.Option(help="Processes, or Ray actors.", show_default="one a core")] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Of all processes together: 2GB, 750MB. Fewer workers and smaller shards where it is tight.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray (pip install 'nearward[distributed]').")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; auto for this machine's.", show_default="a cluster of its own")
    ] = None,
    schema: Annotated[str, typer.Option(help="plain; or meds: the five columns of the MEDS evaluation schema.")] = "plain",
    labels: Annotated[
        Path | None,
        typer.Option(help="MEDS labels, a Parquet file or a folder: each takes its subject's features as of its time.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Risk from which on a row counts as flagged.", show_default="the event rate the model expects")
    ] = None,
    shard_rows: Annotated[int | None, typer.Option(help="Rows a shard.", show_default="16384, fewer where memory is tight")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell rows, shards, memory and time beforehand; write nothing.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Void what is in the folder, and score anew.")] = False,
) -> None:
    """Score new rows: id, risk and its band, similar patients near, novelty.

    With a file to write (.parquet, .csv, .arrow) one table is scored at once. With a folder, Parquet tables are scored shard by shard; the
    same command again goes on where it stopped. Exit code 4: some rows could not be scored, and ledger/ in the folder says which and why.
    """
    from nearward.batch.job import Task
    from nearward.batch.memory import read_size
    from nearward.tabular.errors import InputError

    if out.suffix.lower() in _FILES and not out.is_dir():
        given = any(option is not None for option in (workers, max_memory, address, labels, threshold, shard_rows))  # 0 is a value too
        if len(tables) > 1 or tables[0].is_dir() or dry_run or restart or (engine, schema) != ("local", "plain") or given:
            raise InputError(f"--out {out} is one file, for one table and without options. Name a folder for a job over many tables")
        _one_table(model, tables[0], out)
        return
    limit = None if max_memory is None else read_size(max_memory)
    task = Task(model, tuple(tables), out, schema, labels, threshold, workers, limit, shard_rows, engine, address, restart)
    if dry_run:
        _show_plan(task)
        return
    _job(task)


def watch(
    runs: Annotated[list[Path], typer.Argument(help="Folders that nearward score wrote, in order of time.", show_default=False)],
) -> None:
    """Show how scored populations move from run to run: rows flagged, novelty, drift of columns against training."""
    from nearward.batch.summary import over_runs, read_summary

    told, moved = over_runs([(folder.name or str(folder), read_summary(folder)) for folder in runs])
    show(told, "runs")
    if moved is None:
        typer.echo("no column has moved in any of these runs (PSI above .1 and above chance)")
    else:
        show(moved, "PSI against training, of columns that moved in any run (customarily: from .1 on look, from .25 on act)")


def _one_table(model: Path, table: Path, out: Path) -> None:
    from nearward.cli.progress import show_progress
    from nearward.risk_model.classifier import load
    from nearward.tabular.data.table_io import read_table, write_table

    fitted, frame = load(model), read_table(table)
    with show_progress("score", frame.height) as progress:
        scores = fitted.predict_frame(frame, progress=lambda rows: progress(done=rows))
    write_table(scores, out)
    strange = int((scores.get_column("novelty") > 0.99).sum())
    typer.echo(
        f"{scores.height} rows scored into {out}; "
        f"{strange} lie outside the training population (novelty above .99; one in a hundred does by nature)"
    )


def _job(task: Task) -> None:
    from nearward.batch.job import run_job
    from nearward.batch.summary import drift_table, summary_table
    from nearward.cli.progress import show_progress

    report = run_job(task, lambda rows: show_progress("score", rows))
    show(summary_table(report.summary), f"{task.out}: {report.done} of {report.shards} shards done")
    drifts = drift_table(report.summary)
    if drifts is None:
        typer.echo(report.summary["drift"].get("note", "no drift: nothing is scored"))
    else:
        moved = drifts.filter(drifts.get_column("verdict") != "").height
        show(
            drifts.head(10),
            f"drift against training: {moved} of {drifts.height} columns moved (the ten largest; all of them in summary.json)",
        )
    _tell_run(report)
    if not report.complete:
        raise typer.Exit(PARTIAL)


def _tell_run(report: Report) -> None:
    for what, why in report.failed[:20]:
        typer.echo(f"not scored: {what}: {why}", err=True)
    if len(report.failed) > 20:
        typer.echo(f"not scored: {len(report.failed) - 20} more; see summary.json", err=True)
    rate = report.scored / report.seconds if report.seconds else 0.0
    crew = f"{report.workers} worker{'' if report.workers == 1 else 's'}" + (f" of {report.threads} threads" if report.threads > 1 else "")
    typer.echo(
        f"{report.scored} rows scored in this run, {report.seconds:.0f} s, {rate:.0f} rows/s with {crew}, "
        f"{report.resident / 1e9:.2f} GB resident at most" + ("" if report.complete else ". Partial: run the same command again to go on")
    )


def _show_plan(task: Task) -> None:
    import polars as pl

    from nearward.batch.dry_run import dry_run

    told = dry_run(task)
    show(pl.DataFrame(told.rows, schema=["what", "expected"], orient="row"), f"{task.out}: nothing was written")
    for name, why in told.unreadable:
        typer.echo(f"cannot be scored: {name}: {why}", err=True)
