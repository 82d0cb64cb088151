"""Discovery of rules for synthetic rows: mined on training rows, confirmed on rows of other patients.

A rule with little evidence among the rows with the rare outcome is listed and not enforced: it may hold in nine of ten patients and fail in
the tenth, and enforcing it would delete the very rows that matter.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from nearward.synth.inputs.outcome import rarer_rows
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.mining import mine
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Ints

_MAX_VIOLATED = 0.01  # of the confirmation rows that a rule applies to
_MIN_EVENTS = 20  # rows with the rare outcome that an enforced rule applies to
_MAX_VIOLATED_BY_EVENTS = 0.05


def discover_rules(
    train: pl.DataFrame,
    confirmation: pl.DataFrame,
    tokenizer: TableTokenizer,
    event: tuple[str, object],
    patient_ids: Ints | None,
    seed: int,
) -> Rules:
    """Mine rules.

    Parameters
    ----------
    train : n rows
    confirmation : rows of other patients
        Rules that more than 1 % of these violate are dropped.
    tokenizer : TableTokenizer
        Of ``train``: unpublished categories are RARE in the rules, too.
    event : (column, value)
        Rules must have evidence among the rows with the rarer outcome: the event, or its absence where the event is common.
    patient_ids : (n,) or None
    seed : int
    """
    published, published_confirmation = (_published_columns(frame, tokenizer) for frame in (train, confirmation))
    mined = mine(published, seed, patient_ids)
    confirmed = [rule for rule in mined if _is_confirmed(rule, published_confirmation)]
    rare = rarer_rows((train.get_column(event[0]) == event[1]).to_numpy().astype(np.int64)) == 1
    return Rules(tuple(_with_rare_evidence(rule, published, rare) for rule in confirmed))


def _published_columns(frame: pl.DataFrame, tokenizer: TableTokenizer) -> pl.DataFrame:
    """Return the columns with unpublished categories as RARE, and codes as text."""
    columns = []
    for own in tokenizer.column_tokenizers:
        column = frame.get_column(own.name)
        if isinstance(own, CategoryTokenizer):
            column = own.to_series(own.encode(column), pl.String() if column.dtype.is_numeric() else column.dtype)
        columns.append(column)
    return pl.DataFrame(columns)


def _is_confirmed(rule: Rule, frame: pl.DataFrame) -> bool:
    applies, violates = rule.check(frame)
    return int((applies & violates).sum()) <= _MAX_VIOLATED * max(int(applies.sum()), 1)


def _with_rare_evidence(rule: Rule, frame: pl.DataFrame, rare: Bools) -> Rule:
    """Add the number of rows with the rarer outcome that a rule rests on, and whether it is enforced."""
    applies, violates = rule.check(frame)
    events, violated = int((applies & rare).sum()), int((applies & violates & rare).sum())
    enforced = events >= _MIN_EVENTS and violated <= _MAX_VIOLATED_BY_EVENTS * events
    return replace(rule, evidence=replace(rule.evidence, events=events, enforced=enforced))
