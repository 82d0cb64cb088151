"""The five parts of a table that must not meet: what is learned, criticised, confirmed, and judged on the way to a synthetic table.

Every score of the synthesizer is reckoned on rows that its model never saw; one deal of the patients makes that so, once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.splits import assign_folds
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints

ROLES = ("generator", "discriminator", "rules", "utility", "privacy")
HOLDOUT_ROLES = ("utility", "privacy")  # what an audit calls holdout
TUNING_ROLES = ("discriminator", "rules")  # not learned from, but what is learned hangs on them
_FIFTIETHS = {"generator": 31, "discriminator": 6, "rules": 3, "utility": 5, "privacy": 5}
_JUDGED_ELSEWHERE = {"generator": 40, "discriminator": 6, "rules": 4, "utility": 0, "privacy": 0}


def split_by_role(outcome: Ints, group: Ints | None, seed: int, judged: bool = True, critics: bool = True) -> dict[str, Ints]:
    """Deal the patients into the five parts, rare outcomes spread evenly over them.

    Parameters
    ----------
    outcome : (n,), 1 for the rarest outcome, else 0
    group : (n,), patient numbers from 0, or None where every row is a patient of its own
    seed : int
    judged : bool
        False where the rows to judge by are another table: the last two parts are then empty.
    critics : bool
        False where nobody trains critics: half of what they would have is learned from, the other half joins the rows that confirm rules.

    Returns
    -------
    rows : dict of role -> row numbers, increasing; each row has one role, each patient too

    Raises
    ------
    InputError
        A part that needs rows has none.

    Examples
    --------
    >>> parts = split_by_role(np.tile([0, 0, 0, 1], 100), None, seed=0)
    >>> {role: len(rows) for role, rows in parts.items()}
    {'generator': 248, 'discriminator': 48, 'rules': 24, 'utility': 40, 'privacy': 40}
    """
    shares = dict(_FIFTIETHS if judged else _JUDGED_ELSEWHERE)
    if not critics:
        half = shares["discriminator"] // 2
        shares |= {"generator": shares["generator"] + half, "discriminator": 0, "rules": shares["rules"] + half}
    slots = sum(shares.values())
    # Roles alternate: events are dealt to the first slots first, and where they are few every role must still have its share of them.
    turns = sorted((((i + 0.5) / share, number) for number, share in enumerate(shares.values()) for i in range(share)))
    role_of = np.array([number for _, number in turns])
    fold = assign_folds(outcome, group, slots, seed)
    rows = {role: np.flatnonzero(role_of[fold] == number) for number, role in enumerate(ROLES)}
    empty = [role for role in ROLES if shares[role] and len(rows[role]) == 0]
    if empty:
        raise InputError(f"too few patients for the parts that a synthesizer needs: none is left for {empty}. Gather more patients.")
    return rows


def split_by_hash(names: pl.Series | None, rows: int, seed: int, judged: bool = True) -> dict[str, Ints]:
    """Deal the patients into rows to learn from and rows to judge by, each by himself: who else is in the table changes nobody's part.

    Differential privacy needs that, and has neither critics nor mined rules: the parts of these are learned from. The parts are only about
    as large as ``split_by_role`` would make them.

    Parameters
    ----------
    names : (n,) or None
        Of the patients, whose part hangs on the name. Where every row is a patient of its own, its part hangs on its own draw from the
        operating system: its number would change with the rows above it.
    rows : int, n
    seed : int
    judged : bool
        False where the rows to judge by are another table: all are learned from.
    """
    nobody = {role: np.zeros(0, dtype=np.int64) for role in ROLES}
    if not judged:
        return nobody | {"generator": np.arange(rows)}
    total = sum(_FIFTIETHS.values())
    if names is None:
        slot = np.random.default_rng().integers(total, size=rows)
    else:
        text = names.cast(pl.String)
        place = {name: int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") % total for name in text.unique()}
        slot = text.replace_strict(place, return_dtype=pl.Int64).to_numpy()
    ends = np.cumsum([_FIFTIETHS[role] for role in reversed(HOLDOUT_ROLES)])
    dealt = np.searchsorted(ends, slot, side="right")
    parts = {role: np.flatnonzero(dealt == number) for number, role in enumerate([*reversed(HOLDOUT_ROLES), "generator"])}
    return nobody | parts


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
    steered : pl.DataFrame or None
        Rows that it was not fitted to, but that stopped its learning, trained its critics and confirmed its rules. Their patients are
        members as well. They are attacked apart: among the rows of train, members who can hardly be told would hide those who can.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    outcome: str
    positive: Any = None
    group: str | None = None
    steered: pl.DataFrame | None = None
