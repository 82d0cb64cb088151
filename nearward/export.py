"""The gate through which a synthetic table leaves: sampled, audited against real rows its generator never saw, stamped, or refused.

``synth`` makes the table and ``evaluation`` judges it; neither knows the other, and they meet here.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from nearward import __version__
from nearward.evaluation.estimate import Estimate, wilson
from nearward.evaluation.faith import FaithCard, Gates, faith_card
from nearward.evaluation.faith_page import as_json
from nearward.synth.stamp import StaleAudit, check_ending, table_hash, write_stamped
from nearward.tabular.errors import ArtefactError, DataWarning, InputError, MissingColumns
from nearward.tabular.frame import to_frame
from nearward.tabular.rules import Rules
from nearward.tabular.rules_file import to_yaml
from nearward.tabular.schema import Schema

if TYPE_CHECKING:
    from nearward.synth.ledger import Ledger

AUDITED = "empirically audited, not guaranteed: attacks were tried, and what was not tried is not bounded"
NOT_COVERED = "the audit's figures, the prior and the schema were read off the real rows, and the budget does not cover them"
_FEWEST_LETTERS = 10  # of a reason: "ok" is none
_QUIET: Callable[..., None] = lambda words="", done=1: None  # noqa: E731


class ExportRefused(ArtefactError):
    """A synthetic table may not leave."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(
            f"export refused: {'; '.join(reasons)}. Nothing was written. Mend it (more rows, another seed, reviewed rules), or, if you "
            'may decide that, take the risk by name: --accept-risk "why", which is written into the file.'
        )


@dataclass(frozen=True)
class AuditRows:
    """Real rows that a table is judged by.

    Parameters
    ----------
    train : pl.DataFrame
        What the generator learned from.
    holdout : pl.DataFrame
        A random part of the patients that it never saw.
    outcome : str
    positive : value or None
        Which of the outcome's values is the event.
    group : str or None
        Column that names the patients.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    outcome: str
    positive: Any = None
    group: str | None = None


class Generator(Protocol):
    """What the gate asks of a synthesizer."""

    audit_rows: Any  # AuditRows, or None where the generator's folder holds none
    rules: Rules
    seed: int

    def sample(self, n: int, where: Mapping[str, Any] | None = None, seed: int | None = None) -> pl.DataFrame:
        """Draw n rows."""
        ...


@dataclass(frozen=True)
class Audit:
    """The verdict on one table, bound to it by the hash of its cells.

    Parameters
    ----------
    card : FaithCard
    broken : Estimate or None
        Share of rows that break a hard rule of the generator; None where it has none.
    prior : dict
        ``sampled``, the share of the event in the table, and ``train``, in the rows the generator learned from: what ``correct_prior``
        needs to carry a model trained on the table back.
    sha256 : str
    """

    card: FaithCard
    broken: Estimate | None
    prior: dict[str, Estimate]
    sha256: str

    @property
    def missed(self) -> list[str]:
        """Why the table may not leave, in words; empty where it may."""
        parts = [
            f"{part.name} {part.status} ({part.why}{'' if part.estimate is None else f'; {part.estimate}'})"
            for part in self.card.components.values()
            if part.status != "passed"
        ]
        if self.broken is not None and self.broken.value > 0:
            parts.append(f"{self.broken.value:.2%} of the rows break a hard rule")
        if self.card.copies.suspicious:
            parts.append("more rows repeat a row of train than holdout rows do")
        return parts


def audit(
    table: pl.DataFrame | pl.LazyFrame, rows: AuditRows | None, rules: Rules | None = None, gates: Gates | None = None, seed: int = 0
) -> Audit:
    """Judge a synthetic table.

    Parameters
    ----------
    table : pl.DataFrame or pl.LazyFrame
    rows : AuditRows or None
        None where there are none: nothing can be judged then.
    rules : Rules, optional
        Hard rules that every row must keep.
    gates : Gates, optional
    seed : int

    Raises
    ------
    ExportRefused
        There are no rows to judge by.
    InputError
        Tables that cannot be judged; as ``faith_card``.
    """
    if rows is None:
        raise ExportRefused(["there is no audit: the generator holds no real rows to judge by; give them (train and holdout)"])
    frame = to_frame(table)
    for name in (rows.outcome, *([rows.group] if rows.group else [])):
        if name not in rows.train.columns:
            raise MissingColumns([name], rows.train.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are in the card's notes
        card = faith_card(
            train=rows.train,
            holdout=rows.holdout,
            synthetic=frame,
            outcome=rows.outcome,
            positive=rows.positive,
            group=rows.group,
            rules=rules,
            gates=gates,
            seed=seed,
        )
    broken = None
    if rules is not None and len(rules):
        broken = wilson(int(rules.violations(frame).any(axis=1).sum()), frame.height)
    prior = {name: _share(part, rows) for name, part in (("sampled", frame), ("train", rows.train))}
    return Audit(card, broken, prior, table_hash(frame))


def export_table(
    table: pl.DataFrame,
    path: str | Path,
    audit: Audit | None,
    *,
    about: Mapping[str, Any] | None = None,
    rules: Rules | None = None,
    ledger: Ledger | None = None,
    accept_risk: str | None = None,
) -> dict[str, Any]:
    """Write a table with its stamp if its audit lets it pass, or if somebody answers for it.

    Parameters
    ----------
    table : pl.DataFrame
    path : path ending in .parquet or .csv
    audit : Audit or None
    about : mapping, optional
        Of the generator: what it is, its seed, its configuration.
    rules : Rules, optional
    ledger : Ledger, optional
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
    path = check_ending(path)
    if accept_risk is not None and len(accept_risk.strip()) < _FEWEST_LETTERS:
        raise InputError(
            f"accept_risk needs a reason of at least {_FEWEST_LETTERS} letters that a reader can follow; it is kept in the file"
        )
    if audit is not None and audit.sha256 != table_hash(table):
        raise StaleAudit("the table at hand")
    missed = ["there is no audit"] if audit is None else audit.missed
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
        "sampled_prior": None if audit is None else {name: dataclasses.asdict(share) for name, share in audit.prior.items()},
        "rules": _rules(rules, audit),
        "audit": None if audit is None else as_json(audit.card),
        "passed": not missed,
        "missed": missed,
        "accepted_risk": {"reason": accept_risk.strip(), "missed": missed} if accept_risk is not None and missed else None,
        "privacy": {"statement": AUDITED} if ledger is None else {"ledger": ledger.to_json(), "not covered": NOT_COVERED},
    }
    return write_stamped(table, path, stamp)


def sample_and_audit(
    generator: Generator,
    n: int,
    *,
    seed: int | None = None,
    rows: AuditRows | None = None,
    gates: Gates | None = None,
    progress: Callable[..., None] = _QUIET,
) -> tuple[pl.DataFrame, Audit | None]:
    """Sample a table and judge it; the audit is None where there are no rows to judge by.

    Parameters
    ----------
    generator : Generator
        A fitted ``Synthesizer``, or anything with its ``sample``, ``rules``, ``seed`` and ``audit_rows``.
    n : int
    seed : int, optional
        Of the sample and the audit; the generator's own by default.
    rows : AuditRows, optional
        Real rows to judge by, in the place of those that the generator keeps.
    gates : Gates, optional
    progress : callable, optional
        Called twice, with a word.
    """
    seed = generator.seed if seed is None else seed
    table = generator.sample(n, seed=seed)
    progress("sampled")
    by = rows if rows is not None else generator.audit_rows
    verdict = None if by is None else audit(table, by, generator.rules, gates, seed)
    progress("audited")
    return table, verdict


def export(
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
    >>> export(generator, 50_000, "synth.parquet")["passed"]  # doctest: +SKIP
    True
    """
    check_place(path, accept_risk)
    table, verdict = sample_and_audit(generator, n, seed=seed, rows=rows, gates=gates)
    about = describe(generator, seed)
    ledger = getattr(generator, "privacy", None)
    return export_table(table, path, verdict, about=about, rules=generator.rules, ledger=ledger, accept_risk=accept_risk)


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


def describe(generator: Generator, seed: int | None) -> dict[str, Any]:
    """Say what made a table: the kind of generator, its seed, the sample's seed, and what the generator tells of itself."""
    told = {"kind": type(generator).__name__, "seed": generator.seed, "sample_seed": generator.seed if seed is None else seed}
    return {**getattr(generator, "about", {}), **told}


def _share(frame: pl.DataFrame, rows: AuditRows) -> Estimate:
    column = frame.get_column(rows.outcome)
    event = rows.positive if rows.positive is not None else rows.train.get_column(rows.outcome).drop_nulls().unique().sort()[-1]
    return wilson(int((column == event).sum()), frame.height)


def _rules(rules: Rules | None, audit: Audit | None) -> dict[str, Any]:
    if rules is None or not len(rules):
        return {"hard": 0, "listed": None, "rows that break one": None}
    broken = None if audit is None or audit.broken is None else dataclasses.asdict(audit.broken)
    return {"hard": len(rules), "listed": to_yaml(rules), "rows that break one": broken}


def _shareable(schema: Schema) -> Schema:
    """Leave out ranges: they are this table's extremes, and say nothing that the cells do not."""
    return Schema(tuple(dataclasses.replace(column, low=None, high=None) for column in schema.columns))
