"""What can go wrong, in words that name the column and say what to do; never a patient's value.

Every error derives from ``NearwardError``; those that the user can mend also derive from ``ValueError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class NearwardError(Exception):
    """Base of all errors raised on purpose by nearward."""


class InputError(NearwardError, ValueError):
    """The data or an argument cannot be used as given; the message says where and how to mend it."""


class MissingColumns(InputError):
    """The frame lacks columns that are needed."""

    def __init__(self, missing: Sequence[str], have: Sequence[str]) -> None:
        super().__init__(f"columns missing from the frame: {list(missing)}. {did_you_mean(missing, have)}".strip())


class TooFewEvents(InputError):
    """There are too few events to learn or to judge a risk from."""

    def __init__(self, events: int, needed: int, what: str = "fit a risk model") -> None:
        instead = " nearward.screen ranks rows from one event up." if what == "fit a risk model" and events else ""
        super().__init__(
            f"refused: {events} events are too few to {what}; at least {needed} are needed. "
            f"Gather more patients with the outcome, or widen its definition.{instead}"
        )


class MissingWeights(InputError):
    """The weights of a pretrained network are not on this machine, and nothing is ever downloaded."""

    def __init__(self, package: str, lacking: str, given_by: str, variable: str, cached: str) -> None:
        super().__init__(
            f"no weights for {package}: {lacking}. Nothing is ever downloaded; provide the file in one of three ways: "
            f"{given_by}; or the environment variable {variable}=/path/to/the/file; or put it where {package} itself keeps it, {cached}. "
            "docs/guide/bring-your-own-backbone.md says where each file comes from and under which licence."
        )


class DifferentTables(InputError):
    """Tables that must have the same columns, of the same kinds, do not."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(f"the tables differ: {'; '.join(faults)}. Give all of them the same columns and dtypes.")


class SharedPatients(InputError):
    """Patients are on both sides of a split."""

    def __init__(self, shared: int, group: str) -> None:
        super().__init__(
            f"refused: {shared} patients (column {group!r}) are in both train and holdout, so the holdout would call a copy of them "
            "novel. Split by patient, synthesise from the new train, and come back."
        )


class RuleError(InputError):
    """A rules file or a rule cannot be used as written."""


class BudgetSpent(InputError):
    """A release would cost more than what is left of the privacy budget."""


class ArtifactError(NearwardError):
    """A model on disk is corrupt, foreign, from a later version, or unsafe to load."""


class ExportRefused(ArtifactError):
    """A synthetic table may not leave."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            f"export refused: {'; '.join(reasons)}. Nothing was written. Mend it (more rows, another seed, reviewed rules), or, if you "
            'may decide that, take the risk by name: --accept-risk "why", which is written into the file.'
        )


class NoStamp(ArtifactError):
    """A table carries no stamp that can be read."""


class StaleAudit(ArtifactError):
    """A table is not the one that was audited."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not the table that was audited: its hash differs. Audit it again, or export again.")


class DataWarning(UserWarning):
    """Something in the data is probably not what the user thinks it is."""


def did_you_mean(asked: Iterable[str], have: Sequence[str]) -> str:
    """Return ``'ag': did you mean 'age'?`` for each asked name that has a close match, else an empty text."""
    near = {name: difflib.get_close_matches(name, have, 1) for name in asked}
    return "; ".join(f"{name!r}: did you mean {match[0]!r}?" for name, match in near.items() if match)
