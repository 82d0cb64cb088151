"""The gate through which a synthetic table leaves: sampled, audited against real rows its generator never saw, stamped, or refused."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from nearward import __version__
from nearward.evaluation.synthetic.card import Gates
from nearward.evaluation.synthetic.html_report import for_readers
from nearward.release.audit import Audit, AuditRows, audit
from nearward.synth.provenance import check_ending, table_hash, write_stamped
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, ExportRefused, InputError, StaleAudit
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import to_yaml

if TYPE_CHECKING:
    from nearward.synth.differential_privacy.accountant import PrivacyAccountant

AUDITED = "empirically audited, not guaranteed: attacks were tried, and what was not tried is not bounded"
NOT_COVERED = "the audit's figures, the prior and the schema were read off the real rows, and the budget does not cover them"
_FEWEST_LETTERS = 10  # of a reason: "ok" is none
_QUIET: Callable[..., None] = lambda words="", done=1: None  # noqa: E731


class Generator(Protocol):
    """What the gate asks of a synthesizer."""

    seed: int

    @property
    def audit_rows(self) -> AuditRows | None:
        """Rows to judge by, None where there are none."""

    @property
    def rules(self) -> Rules:
        """Rules, of which the enforced ones hold in every row."""
        ...

    @property
    def outcome(self) -> str:
        """Column of the outcome."""
        ...

    @property
    def positive(self) -> Any:
        """The outcome's value that is the event."""
        ...

    @property
    def groups(self) -> str | None:
        """Column of patient ids."""
        ...

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Draw n rows."""
        ...


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
    """Write a table with its stamp if its audit lets it pass, or if somebody answers for it.

    Parameters
    ----------
    table : pl.DataFrame
    path : path ending in .parquet or .csv
    verdict : Audit or None
    about : mapping, optional
        Of the generator: what it is, its seed, its configuration.
    rules : Rules, optional
    ledger : PrivacyAccountant, optional
        What differential privacy cost; without it the stamp says that nothing is guaranteed.
    accept_risk : str, optional
        Why the table may leave although its audit is missing or did not pass. A stale audit is never let pass: it is another table's.

    Returns
    -------
    dict
        The stamp as written.

    Raises
    ------
    ExportRefused
        The audit is missing or did not pass, and nobody answers for it.
    StaleAudit
        The audit is another table's.
    InputError
        Another ending, no such folder, a reason of a few letters.
    OSError
        The disk is full; nothing of the file is left.
    """
    path = check_place(path, accept_risk)
    if verdict is not None and verdict.sha256 != table_hash(table):
        raise StaleAudit("the table at hand")
    missed = ["there is no audit"] if verdict is None else verdict.missed
    if missed and accept_risk is None:
        raise ExportRefused(missed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        schema = Schema.infer(table)
    stamp = {
        "package_version": __version__,
        "synthetic": "made by nearward; no row is a patient's",
        "rows": table.height,
        "generator": dict(about or {}),
        "schema": json.loads(_shareable(schema).to_json()),
        "sampled_prior": None if verdict is None else {name: dataclasses.asdict(share) for name, share in verdict.prior.items()},
        "rules": _rules(rules, verdict) | {"share of rows drawn again": (about or {}).get("drawn_again")},
        "audit": None if verdict is None else for_readers(verdict.card),
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
    """

    table: pl.DataFrame
    audit: Audit | None
    redrawn: float | None


def sample_and_audit(
    generator: Generator,
    n: int,
    *,
    seed: int | None = None,
    rows: AuditRows | None = None,
    gates: Gates | None = None,
    progress: Callable[..., None] = _QUIET,
) -> AuditedSample:
    """Sample a table and judge it.

    Parameters
    ----------
    generator : Generator
        A fitted ``Synthesizer``, or anything with its ``sample``, ``rules``, ``seed`` and ``audit_rows``; with its ``sample_with_redrawn``,
        the rows that were sampled again are counted.
    n : int
    seed : int, optional
        Of the sample and the audit; the generator's own by default.
    rows : AuditRows, optional
        Real rows to judge by. Where the generator keeps rows, only the holdout of these is taken: what it learned from and was steered
        by is not the caller's to say.
    gates : Gates, optional
    progress : callable, optional
        Called twice, with a word.
    """
    seed = generator.seed if seed is None else seed
    counting = getattr(generator, "sample_with_redrawn", None)
    table, redrawn = counting(n, seed=seed) if counting else (generator.sample(n, seed=seed), None)
    progress("sampled")
    held = generator.audit_rows
    by = rows if held is None else held if rows is None else dataclasses.replace(held, holdout=rows.holdout)
    verdict = None if by is None else audit(table, by, generator.rules, gates, seed)
    progress("audited")
    return AuditedSample(table, verdict, redrawn)


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
    check_place(path, accept_risk)
    sample = sample_and_audit(generator, n, seed=seed, rows=rows, gates=gates)
    about = describe(generator, seed, sample.redrawn)
    ledger = getattr(generator, "privacy", None)
    return export_table(sample.table, path, sample.audit, about=about, rules=generator.rules, ledger=ledger, accept_risk=accept_risk)


def check_place(path: str | Path, accept_risk: str | None = None) -> Path:
    """Refuse a place or a reason that would be refused after minutes of sampling and judging.

    Raises
    ------
    InputError
    """
    path = check_ending(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    if accept_risk is not None and len(accept_risk.strip()) < _FEWEST_LETTERS:
        raise InputError(
            f"accept_risk needs a reason of at least {_FEWEST_LETTERS} letters that a reader can follow; it is kept in the file"
        )
    return path


def describe(generator: Generator, seed: int | None, redrawn: float | None = None) -> dict[str, Any]:
    """Describe the generator of a table: its kind, its settings, its seed and the sample's, and the share of rows sampled again."""
    seeds = {"seed": generator.seed, "sample_seed": generator.seed if seed is None else seed}
    counted = {} if redrawn is None else {"drawn_again": redrawn}
    return {**getattr(generator, "about", {}), **counted, "kind": type(generator).__name__, **seeds}


def _rules(rules: Rules | None, verdict: Audit | None) -> dict[str, Any]:
    hard = Rules() if rules is None else rules.enforced
    if not len(hard):
        return {"hard": 0, "listed": None, "rows that break one": None}
    broken = None if verdict is None or verdict.broken is None else dataclasses.asdict(verdict.broken)
    return {"hard": len(hard), "listed": to_yaml(hard), "rows that break one": broken}


def _shareable(schema: Schema) -> Schema:
    """Leave out ranges: they are this table's extremes, and say nothing that the cells do not."""
    return Schema(tuple(dataclasses.replace(column, low=None, high=None) for column in schema.columns))
