"""The release of a synthetic table: sampled, audited against real rows unseen by the generator, then written with a stamp or refused."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from nearward import __version__
from nearward.evaluation.synthetic.json_report import public_card_json
from nearward.evaluation.synthetic.results import Gates
from nearward.evaluation.synthetic.small_counts import suppress_share
from nearward.release.audit import Audit, AuditRows, audit
from nearward.release.stamp_check import SHORTEST_REASON
from nearward.synth.provenance import check_ending, table_hash, write_stamped
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, ExportRefused, InputError, StaleAudit
from nearward.tabular.rules.rule import Evidence
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import to_yaml
from nearward.tabular.typing import Progress

if TYPE_CHECKING:
    from nearward.synth.differential_privacy.accountant import PrivacyAccountant

AUDITED = "empirically audited, not guaranteed: attacks were tried, and what was not tried is not bounded"
NOT_COVERED = "the audit's figures, the prior and the schema were read off the real rows, and the budget does not cover them"


class Generator(Protocol):
    """The interface of a synthesizer that tables are released from."""

    seed: int

    @property
    def audit_rows(self) -> AuditRows | None:
        """The real rows to compare with; None where the generator was saved without rows."""

    @property
    def rules(self) -> Rules:
        """Rules, of which the enforced ones hold in every row."""

    @property
    def outcome(self) -> str:
        """Column of the outcome."""

    @property
    def positive(self) -> Any:
        """The outcome's value that is the event."""

    @property
    def groups(self) -> str | None:
        """Column of patient ids."""

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Sample n rows."""


def export_table(
    table: pl.DataFrame,
    path: str | Path,
    verdict: Audit | None,
    *,
    about: Mapping[str, Any] | None = None,
    rules: Rules | None = None,
    ledger: PrivacyAccountant | None = None,
    accept_risk: str | None = None,
) -> dict[str, Any]:
    """Write an audited table with its stamp; a failed or missing audit needs ``accept_risk``.

    Parameters
    ----------
    table : pl.DataFrame
    path : path ending in .parquet or .csv
    verdict : Audit or None
    about : mapping, optional
        Description of the generator: its kind, seed and configuration.
    rules : Rules, optional
    ledger : PrivacyAccountant, optional
        The privacy budget spent; without it the stamp says that nothing is guaranteed.
    accept_risk : str, optional
        The reason for a release although the audit is missing or did not pass. An audit of another table is always refused.

    Returns
    -------
    dict
        The stamp as written.

    Raises
    ------
    ExportRefused
        The audit is missing or did not pass, and ``accept_risk`` is not given.
    StaleAudit
        The audit is of another table.
    InputError
        Another file ending, a missing folder, a reason that is too short.
    OSError
        The disk is full; no part of the file remains.
    """
    path = check_destination(path, accept_risk)
    if verdict is not None and verdict.sha256 != table_hash(table):
        raise StaleAudit("the table at hand")
    missed = ["there is no audit"] if verdict is None else verdict.missed
    if missed and accept_risk is None:
        raise ExportRefused(missed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        schema = Schema.infer(table.with_columns(pl.col(pl.Duration).dt.total_microseconds()))  # a number, without its range
    stamp = {
        "package_version": __version__,
        "synthetic": "made by nearward; no row is a patient's",
        "rows": table.height,
        "generator": dict(about or {}),
        "schema": json.loads(_without_ranges(schema).to_json()),
        "sampled_prior": None if verdict is None else _prior(verdict),
        "rules": _rules(rules, verdict) | {"share of rows drawn again": (about or {}).get("drawn_again")},
        "audit": None if verdict is None else public_card_json(verdict.card),
        "passed": not missed,
        "missed": missed,
        "accepted_risk": {"reason": accept_risk.strip(), "missed": missed} if accept_risk is not None and missed else None,
        "privacy": {"statement": AUDITED} if ledger is None else {"ledger": ledger.to_json(), "not covered": NOT_COVERED},
    }
    return write_stamped(table, path, stamp)


@dataclasses.dataclass(frozen=True)
class AuditedSample:
    """A sampled table and its audit.

    Parameters
    ----------
    table : pl.DataFrame
    audit : Audit or None
        None where there are no real rows to compare with.
    redrawn : float or None
        Rows that were sampled again to satisfy the rules, divided by the rows of the table; None where the generator does not count them.
    audits : dict or None
        How many different tables of this generator were ``audited`` so far, this one included, and how many ``passed``: of several the best
        may have been selected. None without an audit, or where the generator does not count them.
    """

    table: pl.DataFrame
    audit: Audit | None
    redrawn: float | None
    audits: dict[str, int] | None = None


def sample_and_audit(
    generator: Generator,
    n: int,
    *,
    seed: int | None = None,
    rows: AuditRows | None = None,
    gates: Gates | None = None,
    progress: Progress | None = None,
) -> AuditedSample:
    """Sample a table and audit it.

    Parameters
    ----------
    generator : Generator
        A fitted ``Synthesizer``, or anything with its ``sample``, ``rules``, ``seed`` and ``audit_rows``; with its ``sample_with_redrawn``,
        the rows that were sampled again are counted, and with its ``record_audit`` the tables that were audited.
    n : int
    seed : int, optional
        Seed of the sample and the audit; the generator's own by default.
    rows : AuditRows, optional
        Real rows to compare with. Where the generator has rows of its own, only the holdout is replaced: the rows that it was trained on
        and steered by are fixed.
    gates : Gates, optional
    progress : callable, optional
        Called after each of the two steps, with its name.
    """
    seed = generator.seed if seed is None else seed
    counting = getattr(generator, "sample_with_redrawn", None)
    table, redrawn = counting(n, seed=seed) if counting else (generator.sample(n, seed=seed), None)
    if progress is not None:
        progress("sampled")
    own_rows = generator.audit_rows
    if own_rows is not None:
        rows = own_rows if rows is None else dataclasses.replace(own_rows, holdout=rows.holdout)
    verdict = None if rows is None else audit(table, rows, generator.rules, gates, seed)
    record, audits = getattr(generator, "record_audit", None), None
    if record is not None and verdict is not None:
        audits = record(verdict.sha256, seed, table.height, passed=not verdict.missed)
    if progress is not None:
        progress("audited")
    return AuditedSample(table, verdict, redrawn, audits)


def export_synthetic(
    generator: Generator,
    n: int,
    path: str | Path,
    *,
    seed: int | None = None,
    rows: AuditRows | None = None,
    gates: Gates | None = None,
    accept_risk: str | None = None,
) -> dict[str, Any]:
    """Sample, audit, stamp and write a table.

    Parameters
    ----------
    generator, n, seed, rows, gates
        As ``sample_and_audit``.
    path : path ending in .parquet or .csv
    accept_risk : str, optional
        As ``export_table``.

    Returns
    -------
    dict
        The stamp as written.

    Raises
    ------
    ExportRefused, StaleAudit, InputError, OSError
        As ``audit`` and ``export_table``.

    Examples
    --------
    >>> export_synthetic(generator, 50_000, "synth.parquet")["passed"]  # doctest: +SKIP
    True
    """
    check_destination(path, accept_risk)
    sample = sample_and_audit(generator, n, seed=seed, rows=rows, gates=gates)
    about = describe(generator, seed, sample.redrawn, sample.audits)
    ledger = getattr(generator, "privacy", None)
    return export_table(sample.table, path, sample.audit, about=about, rules=generator.rules, ledger=ledger, accept_risk=accept_risk)


def check_destination(path: str | Path, accept_risk: str | None = None) -> Path:
    """Check the path and the reason before minutes of sampling and auditing.

    Raises
    ------
    InputError
    """
    path = check_ending(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    if accept_risk is not None and len(accept_risk.strip()) < SHORTEST_REASON:
        raise InputError(f"accept_risk needs a reason of at least {SHORTEST_REASON} letters; it is written into the file")
    return path


def describe(
    generator: Generator, seed: int | None, redrawn: float | None = None, audits: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Describe the generator of a table: its kind, settings, seed and the sample's, the share of rows sampled again, the audits so far."""
    seeds = {"seed": generator.seed, "sample_seed": generator.seed if seed is None else seed}
    counted: dict[str, Any] = {} if redrawn is None else {"drawn_again": redrawn}
    if audits is not None:
        counted["tables_of_this_generator"] = dict(audits)
    return {**getattr(generator, "about", {}), **counted, "kind": type(generator).__name__, **seeds}


def _rules(rules: Rules | None, verdict: Audit | None) -> dict[str, Any]:
    hard = Rules() if rules is None else rules.enforced
    if not len(hard):
        return {"hard": 0, "listed": None, "rows that break one": None}
    violations = None if verdict is None or verdict.violations is None else dataclasses.asdict(verdict.violations)
    return {"hard": len(hard), "listed": to_yaml(_without_counts(hard)), "rows that break one": violations}


def _without_counts(rules: Rules) -> Rules:
    """Return rules without their evidence, which has counts of single real rows."""
    return Rules(tuple(dataclasses.replace(rule, evidence=Evidence(rule.evidence.source)) for rule in rules))


def _prior(verdict: Audit) -> dict[str, Any]:
    """Return both shares of the event; that of the training rows as a range where it is one of few rows."""
    shares = dataclasses.asdict(verdict.prior)
    return shares | {"train": suppress_share(shares["train"])}


def _without_ranges(schema: Schema) -> Schema:
    """Return the schema without the columns' ranges, which are the table's own extremes."""
    return Schema(tuple(dataclasses.replace(column, low=None, high=None) for column in schema.columns))
