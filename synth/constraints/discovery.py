"""Finds the rules that synthetic rows shall keep: mined on the rows that are learned from, confirmed on rows of other patients.

A rule that the rare outcome's rows say too little about is shown and not enforced: what holds in nine of ten patients may be what fails in
the tenth, and enforcing it would delete the very rows that matter.

Letters: n rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.mining import mine
from nearward.tabular.rules.rules import Evidence, Rule, Rules
from nearward.tabular.typing import Ints

_MOST_BROKEN = 0.01  # of the second fold's rows
_FEWEST_RARE = 20  # rows with the rare outcome that a rule speaks of
_MOST_BROKEN_BY_RARE = 0.05


def discover_rules(
    frame: pl.DataFrame, second: pl.DataFrame, tokens: TableTokenizer, rare: tuple[str, object], patient: Ints | None, seed: int
) -> Rules:
    """Mine rules.

    Parameters
    ----------
    frame : n rows, those that are learned from
    second : rows of other patients
    tokens : Tokens
        Of ``frame``: rare levels are RARE in the rules, too.
    rare : (column, value), the rare outcome
    patient : (n,) or None
    seed : int

    Returns
    -------
    Rules
        What the second fold breaks in more than 1 % of the rows is left out.
    """
    table, other = (_published(part, tokens) for part in (frame, second))
    found = mine(table, seed, patient)
    held = [rule for rule in found if _holds(rule, other)]
    event = (frame.get_column(rare[0]) == rare[1]).to_numpy()
    return Rules(tuple(_weighed(rule, table, event) for rule in held))


def _holds(rule: Rule, frame: pl.DataFrame) -> bool:
    speaks, breaks = rule.judged(frame)
    return int((speaks & breaks).sum()) <= _MOST_BROKEN * max(int(speaks.sum()), 1)


def _weighed(rule: Rule, frame: pl.DataFrame, event: NDArray[np.bool_]) -> Rule:
    """Say how many rows with the rare outcome a rule rests on, and whether it shall be enforced."""
    speaks, breaks = rule.judged(frame)
    rows, broken = int((speaks & event).sum()), int((speaks & breaks & event).sum())
    evidence: Evidence = rule.evidence
    enough = rows >= _FEWEST_RARE and broken <= _MOST_BROKEN_BY_RARE * rows
    return replace(rule, evidence=replace(evidence, events=rows, enforced=enough))


def _published(frame: pl.DataFrame, tokens: TableTokenizer) -> pl.DataFrame:
    """Return the columns that rules can speak of, their rare levels as RARE."""
    columns = []
    for own in tokens.column_tokenizers:
        column = frame.get_column(own.name)
        if column.dtype.is_temporal():
            continue
        columns.append(own.to_series(own.encode(column), column.dtype) if isinstance(own, CategoryTokenizer) else column)
    return pl.DataFrame(columns)
