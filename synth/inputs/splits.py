"""The five parts of a table by role: training, discriminators, confirmation of rules, and two that a synthetic table is evaluated on.

Every figure about the synthesizer is computed on rows that its model never saw: patients are split once, before anything is fitted.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.splits import assign_folds
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Ints

ROLES = ("generator", "discriminator", "rules", "utility", "privacy")
HOLDOUT_ROLES = ("utility", "privacy")  # the holdout of an audit
TUNING_ROLES = ("discriminator", "rules")  # not fitted, but the fitted model depends on them
_FIFTIETHS = {"generator": 31, "discriminator": 6, "rules": 3, "utility": 5, "privacy": 5}
_FIFTIETHS_WITHOUT_HOLDOUT = {"generator": 40, "discriminator": 6, "rules": 4, "utility": 0, "privacy": 0}


@dataclass(frozen=True)
class AuditRows:
    """Real rows that a synthetic table is compared with.

    Parameters
    ----------
    train : pl.DataFrame
        Rows that the generator was fitted to.
    holdout : pl.DataFrame
        Rows of a random part of the patients, never used by the generator.
    outcome : str
    positive : value or None
        The outcome's value that is the event.
    group : str or None
        Column of patient ids.
    steered : pl.DataFrame or None
        Rows used for early stopping, discriminators and confirmation of rules. Their patients are members as well, and are attacked
        separately: among the rows of train, members that are hard to recognise would hide those that are not.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    outcome: str
    positive: Any = None
    group: str | None = None
    steered: pl.DataFrame | None = None


@dataclass(frozen=True)
class RoleSplits:
    """A table split by role.

    Parameters
    ----------
    frame : n rows, with the column of patient ids
    row_indices : dict of role -> row indices, increasing
    patient_ids : (n,), from 0, or None where every row is a patient of its own
    outcome : str
    positive : value of the event
    groups : str or None, column of patient ids
    """

    frame: pl.DataFrame
    row_indices: Mapping[str, Ints]
    patient_ids: Ints | None
    outcome: str
    positive: Any
    groups: str | None

    @property
    def features(self) -> pl.DataFrame:
        """All rows without the column of patient ids."""
        return self.frame.drop(self.groups) if self.groups else self.frame

    def rows(self, role: str) -> pl.DataFrame:
        """Return the rows of a role, without the column of patient ids."""
        return self.features[self.row_indices[role]]

    def patients(self, role: str) -> Ints | None:
        """Return the patient ids of a role's rows."""
        return None if self.patient_ids is None else self.patient_ids[self.row_indices[role]]

    def audit_rows(self, holdout: pl.DataFrame | None) -> AuditRows:
        """Return the rows of an audit; ``holdout`` is another table, or None for the rows of the holdout roles."""
        holdout = self._records(*HOLDOUT_ROLES) if holdout is None else holdout
        tuning = self._records(*TUNING_ROLES)
        train = self.frame[self.row_indices["generator"]]
        return AuditRows(train, holdout, self.outcome, self.positive, self.groups, tuning if tuning.height else None)

    def _records(self, *roles: str) -> pl.DataFrame:
        return self.frame[np.sort(np.concatenate([self.row_indices[role] for role in roles]))]


def split_by_role(
    outcome: Ints, patient_ids: Ints | None, seed: int, with_holdout: bool = True, with_discriminators: bool = True
) -> dict[str, Ints]:
    """Assign patients to the five roles at random, events spread evenly over them.

    Parameters
    ----------
    outcome : (n,), 1 for the rarer of event and no event, else 0
    patient_ids : (n,), from 0, or None where every row is a patient of its own
    seed : int
    with_holdout : bool
        False where the holdout is another table: the last two roles are then empty.
    with_discriminators : bool
        False where no discriminators are trained: half of their rows join the training rows, half those that confirm rules.

    Returns
    -------
    row_indices : dict of role -> row indices, increasing; each patient has one role

    Raises
    ------
    InputError
        A role that needs rows has none.

    Examples
    --------
    >>> row_indices = split_by_role(np.tile([0, 0, 0, 1], 100), None, seed=0)
    >>> {role: len(rows) for role, rows in row_indices.items()}
    {'generator': 248, 'discriminator': 48, 'rules': 24, 'utility': 40, 'privacy': 40}
    """
    shares = dict(_FIFTIETHS if with_holdout else _FIFTIETHS_WITHOUT_HOLDOUT)
    if not with_discriminators:
        half = shares["discriminator"] // 2
        shares |= {"generator": shares["generator"] + half, "discriminator": 0, "rules": shares["rules"] + half}
    # Roles alternate over the folds: events fill the first folds first, and where they are few every role must still have its share.
    folds = sorted((((i + 0.5) / share, role) for role, share in enumerate(shares.values()) for i in range(share)))
    role_of_fold = np.array([role for _, role in folds])
    role_of_row = role_of_fold[assign_folds(outcome, patient_ids, len(folds), seed)]
    row_indices = {role: np.flatnonzero(role_of_row == number) for number, role in enumerate(ROLES)}
    empty = [role for role in ROLES if shares[role] and len(row_indices[role]) == 0]
    if empty:
        raise InputError(f"too few patients for the parts that a synthesizer needs: no rows for {empty}")
    return row_indices


def split_by_hash(groups: pl.Series | None, n_rows: int, seed: int, with_holdout: bool = True) -> dict[str, Ints]:
    """Assign each patient to training or holdout independently of all others, as differential privacy requires.

    A private generator has neither discriminators nor mined rules: their rows are training rows. The parts are only about as large as those
    of ``split_by_role``.

    Parameters
    ----------
    groups : (n,) or None
        Patient ids; a hash of the id decides. Without them every row is a patient of its own and is assigned by the operating system's
        cryptographic generator: a row's index changes with the rows above it.
    n_rows : int, n
    seed : int
    with_holdout : bool
        False where the holdout is another table: all rows are training rows.
    """
    row_indices = {role: np.zeros(0, dtype=np.int64) for role in ROLES}
    if not with_holdout:
        return row_indices | {"generator": np.arange(n_rows)}
    total = sum(_FIFTIETHS.values())
    if groups is None:
        slot = np.array([secrets.randbelow(total) for _ in range(n_rows)], dtype=np.int64)
    else:
        ids = groups.cast(pl.String)
        slots = {one: int.from_bytes(hashlib.sha256(f"{seed}/{one}".encode()).digest()[:8], "big") % total for one in ids.unique()}
        slot = ids.replace_strict(slots, return_dtype=pl.Int64).to_numpy()
    roles = [*reversed(HOLDOUT_ROLES), "generator"]
    ends = np.cumsum([_FIFTIETHS[role] for role in roles[:-1]])
    role_of_row = np.searchsorted(ends, slot, side="right")
    return row_indices | {role: np.flatnonzero(role_of_row == number) for number, role in enumerate(roles)}
