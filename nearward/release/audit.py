"""The audit of a synthetic table before its release, tied to that table by the hash of its values.

``synth`` generates the table and ``evaluation`` evaluates it; neither imports the other, so the two are combined here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import polars as pl

from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.synthetic.card import FaithCard, faith_card
from nearward.evaluation.synthetic.results import Gates
from nearward.synth.inputs.splits import AuditRows
from nearward.synth.provenance import table_hash
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_target
from nearward.tabular.errors import DataWarning, ExportRefused, require_columns
from nearward.tabular.rules.rules import Rules

__all__ = ["Audit", "AuditRows", "audit"]


@dataclass(frozen=True)
class EventShares:
    """The shares of the event that ``correct_prior`` needs to correct the risks of a model trained on the table.

    Parameters
    ----------
    sampled : Estimate, in the table
    train : Estimate, in the rows that the generator was trained on
    """

    sampled: Estimate
    train: Estimate


@dataclass(frozen=True)
class Audit:
    """The audit of one table.

    Parameters
    ----------
    card : FaithCard
    violations : Estimate or None
        Share of rows that violate a hard rule of the generator; None where it has none.
    prior : EventShares
    sha256 : str, hash of the table
    """

    card: FaithCard
    violations: Estimate | None
    prior: EventShares
    sha256: str

    @property
    def missed(self) -> list[str]:
        """The requirements that the table does not meet, thresholds laxer than the default included; it may leave where there are none."""
        laxer = self.card.gates.laxer
        reasons = [f"thresholds laxer than the default: {', '.join(laxer)}"] if laxer else []
        reasons += [
            f"{part.name} {part.status} ({part.why}{'' if part.estimate is None else f'; {part.estimate}'})"
            for part in self.card.components.values()
            if part.status != "passed"
        ]
        if self.violations is not None and self.violations.value > 0:
            reasons.append(f"{self.violations.value:.2%} of the rows break a hard rule")
        if self.card.copies.suspicious:
            reasons.append("more rows repeat a row of train than holdout rows do")
        return reasons


def audit(
    table: pl.DataFrame | pl.LazyFrame, rows: AuditRows | None, rules: Rules | None = None, gates: Gates | None = None, seed: int = 0
) -> Audit:
    """Evaluate a synthetic table before its release.

    Parameters
    ----------
    table : pl.DataFrame or pl.LazyFrame
    rows : AuditRows or None
        The real rows to compare with; None is refused.
    rules : Rules, optional
        Rules of the generator; its hard rules must hold in every row.
    gates : Gates, optional
    seed : int

    Raises
    ------
    ExportRefused
        There are no real rows to compare with.
    InputError
        Unusable tables; as ``faith_card``.
    """
    if rows is None:
        raise ExportRefused(["there is no audit: the generator has no real rows to compare with; give them (train and holdout)"])
    frame = to_frame(table)
    require_columns([rows.outcome, rows.group], rows.train.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the card's notes have them
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
            steered=rows.steered,
        )
    violations = None
    if rules is not None and len(rules.enforced):
        violations = wilson(int(rules.enforced.violations(frame).any(axis=1).sum()), frame.height)
    prior = EventShares(_event_share(frame, rows), _event_share(rows.train, rows))
    return Audit(card, violations, prior, table_hash(frame))


def _event_share(frame: pl.DataFrame, rows: AuditRows) -> Estimate:
    column = frame.get_column(rows.outcome)
    event = validate_target(rows.train.get_column(rows.outcome), max_classes=None).event if rows.positive is None else rows.positive
    return wilson(int((column == event).sum()), frame.height)
