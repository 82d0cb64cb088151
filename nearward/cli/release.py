"""``nearward synth export`` and ``check``: release an audited synthetic table, and verify the stamp of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearward.cli.terminal.console import GeneratorFolder, Json, Report
from nearward.cli.terminal.output import say, write_json

if TYPE_CHECKING:
    from nearward.release.audit import AuditRows
    from nearward.release.export import Generator


def export(
    generator: GeneratorFolder,
    out: Annotated[Path, typer.Option(help="Parquet or CSV file to write.", show_default=False, metavar="FILE")],
    n: Annotated[int, typer.Option("-n", help="Rows.")] = 10_000,
    train: Annotated[
        Path | None,
        typer.Option(
            help="The rows that the generator was trained on, where its folder holds no rows.", show_default=False, metavar="TABLE"
        ),
    ] = None,
    holdout: Annotated[
        Path | None, typer.Option(help="Real rows that it never saw, instead of those in its folder.", show_default=False, metavar="TABLE")
    ] = None,
    accept_risk: Annotated[
        str | None, typer.Option(help="Reason for a release although the audit did not pass; written into the file.", show_default=False)
    ] = None,
    report: Report = None,
    json: Json = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sample and the audit.", show_default="the generator's")] = None,
) -> None:
    """Sample, audit and release a synthetic table.

    It is written with its stamp. Exit code 3 if the audit is missing or did not pass. The report and the JSON have the card of the audit,
    passed or not.

    \b
    Examples:
      nearward synth export generator/ -n 50000 --out synth.parquet \\
        --report card.html
      nearward synth export generator/ --out synth.csv \\
        --accept-risk "internal teaching, agreed with the DPO"
    """
    from nearward.cli.evaluate import show_card, write_reports
    from nearward.cli.terminal.progress import show_progress
    from nearward.release.export import check_destination, describe, export_table, sample_and_audit
    from nearward.synth.synthesizer import Synthesizer

    check_destination(out, accept_risk)
    model = Synthesizer.load(generator)
    rows = _audit_rows(model, train, holdout)
    with show_progress("export", 2) as progress:
        sample = sample_and_audit(model, n, seed=seed, rows=rows, progress=progress)
    table, verdict = sample.table, sample.audit
    if verdict is not None:
        show_card(verdict.card, out.name)
        write_reports({report: verdict.card.to_html, json: verdict.card.to_json}, (), generator)
    ledger = getattr(model, "privacy", None)
    if ledger is not None:
        say(f"differential privacy: {ledger}")
    about = describe(model, seed, sample.redrawn, sample.audits)
    stamp = export_table(table, out, verdict, about=about, rules=model.rules, ledger=ledger, accept_risk=accept_risk)
    resampled = stamp["rules"]["share of rows drawn again"]
    if resampled is not None:
        say(f"{resampled:.2%} of the rows were resampled to satisfy the rules")
    if sample.audits is not None and sample.audits["audited"] > 1:
        say(f"{sample.audits['audited']} tables of this generator have been audited; the stamp says so")
    say(f"{table.height} rows written to {out}: {_describe_verdict(stamp)}")


def check(
    table: Annotated[Path, typer.Argument(help="Parquet file, or CSV with its stamp beside it.", show_default=False, metavar="TABLE")],
    json: Json = None,
) -> None:
    """Verify the stamp of a synthetic table.

    Exit code 3 if it has none, is not the table that was audited, or if nobody answers for it.

    \b
    Examples:
      nearward synth check synth.parquet
      nearward synth check synth.parquet --json stamp.json
    """
    from nearward.release.stamp_check import verify_release

    stamp = verify_release(table)
    write_json(stamp, json)
    say(f"{table}: {stamp['rows']} rows, made by nearward {stamp['package_version']} ({stamp['generator']}); unchanged since its audit")
    tried = stamp["generator"].get("tables_of_this_generator")
    if tried and tried["audited"] > 1:
        say(f"{tried['audited']} tables of this generator were audited, {tried['passed']} passed: this may be the best of them")
    audit = stamp["audit"] or {"components": {}}
    if audit.get("event") is not None:
        say(f"the event: {audit['outcome']} is {audit['event']}")
    for part in audit["components"].values():
        estimate = part["estimate"]
        value = "" if estimate is None else f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
        say(f"  {part['letter']}  {part['name']:22} {value:26} {part['status']}: {part['why']}")
    if stamp["sampled_prior"]:
        shares = {name: _show_share(share) for name, share in stamp["sampled_prior"].items()}
        say(f"share of the event: {shares['sampled']} here, {shares['train']} in the rows it was trained on")
    ledger = stamp["privacy"].get("ledger")
    say(
        f"privacy: {stamp['privacy']['statement']}"
        if ledger is None
        else f"differential privacy: epsilon {ledger['spent']['epsilon']:.3g}, delta {ledger['spent']['delta']:.3g}, {ledger['unit']}; "
        f"{stamp['privacy']['not covered']}"
    )
    say(_describe_verdict(stamp))


def _audit_rows(model: Generator, train: Path | None, holdout: Path | None) -> AuditRows | None:
    from dataclasses import replace

    from nearward.release.audit import AuditRows
    from nearward.tabular.data.schema import Schema
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    if train is None and holdout is None:
        return None
    own_rows: AuditRows | None = model.audit_rows
    if own_rows is not None:
        if train is not None or holdout is None:
            raise InputError("--train: the generator's folder already holds the rows that it was trained on; leave the option out")
        schema = Schema.from_dtypes(own_rows.train).with_roles(group=own_rows.group)
        return replace(own_rows, holdout=read_table(holdout, schema))
    if train is None or holdout is None:
        raise InputError(
            "--train and --holdout are needed together: the rows that the generator was trained on, and rows that it never saw"
        )
    train_rows = read_table(train)
    schema = Schema.from_dtypes(train_rows).with_roles(group=model.groups)
    return AuditRows(train_rows, read_table(holdout, schema), model.outcome, model.positive, model.groups)


def _show_share(share: dict[str, float | None]) -> str:
    return f"{share['low']:.4f} to {share['high']:.4f}" if share["value"] is None else f"{share['value']:.4f}"


def _describe_verdict(stamp: dict[str, object]) -> str:
    if stamp["passed"]:
        return "passed its audit; that is no proof of anonymity (docs/reference/faith-card.md)"
    risk = stamp["accepted_risk"]
    reason = risk["reason"] if isinstance(risk, dict) else ""
    return f"did NOT pass its audit ({'; '.join(stamp['missed'])}); released because: {reason}"  # type: ignore[arg-type]
