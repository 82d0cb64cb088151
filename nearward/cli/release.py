"""``nearward synth export`` and ``check``: the commands by which a synthetic table leaves, and by which its reader looks at its stamp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nearward.release.audit import AuditRows
    from nearward.release.export import Generator

Stamped = Annotated[Path, typer.Argument(help="Parquet file, or CSV with its stamp beside it.", show_default=False)]


def export(
    generator: Annotated[Path, typer.Argument(help="Folder of a fitted generator.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet or CSV file to write.", show_default=False)],
    n: Annotated[int, typer.Option("-n", help="Rows.")] = 10_000,
    train: Annotated[
        Path | None, typer.Option(help="What the generator learned from, where its folder holds no rows.", show_default=False)
    ] = None,
    holdout: Annotated[
        Path | None, typer.Option(help="Real rows that it never saw, in the place of those in its folder.", show_default=False)
    ] = None,
    accept_risk: Annotated[
        str | None, typer.Option(help="Why the table may leave although it did not pass; kept in the file.", show_default=False)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page of the card to write, passed or not.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sample and the audit.", show_default="the generator's")] = None,
) -> None:
    """Sample, audit, stamp and write a table. Exit code 3 where the audit is missing or did not pass: nothing is written then."""
    from nearward.cli.evaluate import show_card
    from nearward.cli.progress import show_progress
    from nearward.release.export import check_place, describe, export_table, sample_and_audit

    check_place(out, accept_risk)
    model = _load(generator)
    rows = _rows(model, train, holdout)
    with show_progress("export", 2) as progress:
        sample = sample_and_audit(model, n, seed=seed, rows=rows, progress=progress)
    table, verdict = sample.table, sample.audit
    if verdict is not None:
        show_card(verdict.card, out.name)
        if report is not None:
            verdict.card.to_html(report)
            typer.echo(f"written to {report}")
    ledger = getattr(model, "privacy", None)
    if ledger is not None:
        typer.echo(f"differential privacy: {ledger}")
    stamp = export_table(
        table, out, verdict, about=describe(model, seed, sample.redrawn), rules=model.rules, ledger=ledger, accept_risk=accept_risk
    )
    again = stamp["rules"]["share of rows drawn again"]
    if again is not None:
        typer.echo(f"{again:.2%} of the rows were drawn again to keep the rules")
    typer.echo(f"{table.height} rows written to {out}: {_verdict(stamp)}")


def check(table: Stamped) -> None:
    """Look at a table's stamp, and whether the table is still the one that was audited. Exit code 3 where it is not, or has none."""
    from nearward.synth.provenance import verify

    stamp = verify(table)
    typer.echo(
        f"{table}: {stamp['rows']} rows, made by nearward {stamp['package_version']} ({stamp['generator']}); unchanged since its audit"
    )
    audit = stamp["audit"] or {"components": {}}
    for part in audit["components"].values():
        found = part["estimate"]
        shown = "" if found is None else f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
        typer.echo(f"  {part['letter']}  {part['name']:22} {shown:26} {part['status']}: {part['why']}")
    if stamp["sampled_prior"]:
        shares = {name: share["value"] for name, share in stamp["sampled_prior"].items()}
        typer.echo(f"share of the event: {shares['sampled']:.4f} here, {shares['train']:.4f} in the rows it was learned from")
    ledger = stamp["privacy"].get("ledger")
    typer.echo(
        f"privacy: {stamp['privacy']['statement']}"
        if ledger is None
        else f"differential privacy: epsilon {ledger['spent']['epsilon']:.3g}, delta {ledger['spent']['delta']:.3g}, {ledger['unit']}; "
        f"{stamp['privacy']['not covered']}"
    )
    typer.echo(_verdict(stamp))


def _load(folder: Path) -> Generator:
    from nearward.synth.synthesizer import Synthesizer  # type: ignore[import-not-found, unused-ignore]

    loaded: Generator = Synthesizer.load(folder)
    return loaded


def _rows(model: Generator, train: Path | None, holdout: Path | None) -> AuditRows | None:
    from dataclasses import replace

    from nearward.release.audit import AuditRows
    from nearward.tabular.data.table_io import read_table
    from nearward.tabular.errors import InputError

    if train is None and holdout is None:
        return None
    held: AuditRows | None = model.audit_rows
    if held is not None:
        if train is not None or holdout is None:
            raise InputError("--train: the generator's folder holds the rows that it learned from, and no others count; leave it out")
        return replace(held, holdout=read_table(holdout))
    if train is None or holdout is None:
        raise InputError("--train and --holdout come together: what the generator learned from, and real rows that it never saw")
    return AuditRows(read_table(train), read_table(holdout), model.outcome, model.positive, model.groups)


def _verdict(stamp: dict[str, object]) -> str:
    if stamp["passed"]:
        return "passed its audit; that is no proof of anonymity (docs/reference/faith-card.md)"
    risk = stamp["accepted_risk"]
    reason = risk["reason"] if isinstance(risk, dict) else ""
    return f"did NOT pass its audit ({'; '.join(stamp['missed'])}); let out because: {reason}"  # type: ignore[arg-type]
