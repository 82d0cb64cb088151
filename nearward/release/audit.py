"""The verdict on a synthetic table before it leaves, bound to the very table by the hash of its cells.

``synth`` makes the table and ``evaluation`` judges it; neither knows the other, and they meet here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import polars as pl

from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.synthetic.card import FaithCard, Gates, faith_card
from nearward.synth.inputs.splits import AuditRows
from nearward.synth.provenance import table_hash
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_target
from nearward.tabular.errors import DataWarning, ExportRefused, MissingColumns
from nearward.tabular.rules.rules import Rules

__all__ = ["Audit", "AuditRows", "audit"]


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
            steered=rows.steered,
        )
    broken = None
    if rules is not None and len(rules.enforced):
        broken = wilson(int(rules.enforced.violations(frame).any(axis=1).sum()), frame.height)
    prior = {name: _share(part, rows) for name, part in (("sampled", frame), ("train", rows.train))}
    return Audit(card, broken, prior, table_hash(frame))


def _share(frame: pl.DataFrame, rows: AuditRows) -> Estimate:
    column = frame.get_column(rows.outcome)
    event = validate_target(rows.train.get_column(rows.outcome), max_classes=None).event if rows.positive is None else rows.positive
    return wilson(int((column == event).sum()), frame.height)
