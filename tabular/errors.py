"""Errors and warnings. Messages name columns, counts and dtypes, and what to do; never a patient's value.

Every error derives from ``NearwardError``; those that the user can correct also derive from ``ValueError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

AUDIT_REMEDIES = (  # of a synthetic table that did not pass its audit
    "Where a part is not measurable: fit on more patients (a fifth is held out for the audit), and sample as many rows. Where one failed: "
    "fit on more patients, leave out columns that nobody needs, or review the rules; if patients are recognised, --epsilon guarantees a "
    "limit. Another seed is another draw, and every audit is counted."
)
_MOST_NAMES = 8  # of columns in a message: a wide table has thousands


class NearwardError(Exception):
    """Base class of all errors that nearward raises on purpose."""


class InputError(NearwardError, ValueError):
    """Raised where data or an argument cannot be used; the message says what was wrong, where, and what to do."""


class MissingColumns(InputError):
    """Raised where a frame lacks columns that a model, schema or evaluation needs; ``remedy`` says what to do about it."""

    def __init__(self, missing: Sequence[str], columns: Sequence[str], remedy: str = "") -> None:
        hints = [hint for hint in (did_you_mean(missing[:_MOST_NAMES], columns), remedy) if hint]
        super().__init__(" ".join([f"columns missing from the frame: {list_names(missing)}.", *hints]))


def require_columns(names: Iterable[str | None], columns: Sequence[str]) -> None:
    """Raise ``MissingColumns`` where some names are not among the columns; None is no name."""
    missing = [name for name in dict.fromkeys(names) if name is not None and name not in columns]
    if missing:
        raise MissingColumns(missing, columns)


class TooFewEvents(InputError):
    """Raised where there are too few events to fit or to evaluate a risk model."""

    def __init__(self, events: int, needed: int, what: str = "fit a risk model", instead: str | None = None) -> None:
        if instead is None:
            screen = " nearward.screen ranks rows from one event up." if what == "fit a risk model" and events else ""
            instead = f"Gather more patients with the outcome, or widen its definition.{screen}"
        super().__init__(f"refused: {events} events are too few to {what}; at least {needed} are needed. {instead}")


class MissingWeights(InputError):
    """Raised where the weights of a pretrained network are not on this machine; nothing is ever downloaded."""

    def __init__(self, package: str, reason: str, example: str, variable: str, cache: str) -> None:
        super().__init__(
            f"no weights for {package}: {reason}. Nothing is ever downloaded; provide the file in one of three ways: "
            f"{example}; or the environment variable {variable}=/path/to/the/file; or copy it into the cache of {package}, {cache}. "
            "docs/guide/bring-your-own-backbone.md says where each file comes from and under which licence."
        )


class MissingPackage(InputError):
    """Raised where a package that an option needs can't be imported."""

    def __init__(self, package: str, needed: str, requirement: str) -> None:
        super().__init__(f"{package} can't be imported here, and {needed}: pip install '{requirement}'")

    def __str__(self) -> str:
        """Return the message, with the reason where it is another one than that the package is not installed, as for want of OpenMP."""
        cause = self.__cause__
        if cause is None or (isinstance(cause, ModuleNotFoundError) and (cause.name or "").casefold() in super().__str__().casefold()):
            return super().__str__()
        return f"{super().__str__()}. Its import failed with {type(cause).__name__}: {cause}"


class DifferentTables(InputError):
    """Raised where tables that are compared differ in columns or in the kinds of columns."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(f"the tables differ: {'; '.join(faults)}. Give all of them the same columns and dtypes.")


class SharedPatients(InputError):
    """Raised where patients are in both parts of a split."""

    def __init__(self, shared: int, group: str) -> None:
        super().__init__(
            f"refused: {shared} patients (column {group!r}) are in both train and holdout, so the holdout would call a copy of them "
            "novel. Split by patient, synthesise from the new train, and come back."
        )


class RuleError(InputError):
    """Raised where a rule or a rules file cannot be used as written."""


class BudgetSpent(InputError):
    """Raised where a release would cost more than the remaining privacy budget."""


class ArtifactError(NearwardError):
    """Raised where a model on disk is corrupt, of another kind, from a later version, or unsafe to load."""


class ExportRefused(ArtifactError):
    """Raised where a synthetic table does not pass the audit's thresholds; nothing is written then."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            f"export refused: {'; '.join(reasons)}. Nothing was written. {AUDIT_REMEDIES} Or, if you are authorised to, accept the risk: "
            '--accept-risk "why", which is written into the file.'
        )


class NotReleased(ArtifactError):
    """Raised where a stamped synthetic table neither passed its audit nor carries a reason for accepting the risk."""

    def __init__(self, what: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"nobody answers for {what}: it did not pass its audit ({'; '.join(reasons)}), and its stamp has no reason for accepting the "
            "risk. Do not use it; export it again."
        )


class FolderTakenOver(NearwardError):
    """Raised where another scoring job has begun anew (``--restart``) in the folder of a running one."""

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"{folder} was taken over by another job (--restart) while this one ran: this one has stopped and deleted nothing. "
            "The scores there are the other job's; to have both, score into another folder"
        )


class NoStamp(ArtifactError):
    """Raised where a synthetic table carries no provenance stamp that can be read."""


class StaleAudit(ArtifactError):
    """Raised where a table is not the one that was audited."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not the table that was audited: its hash differs. Audit it again, or export again.")


class ForkedProcess(NearwardError, RuntimeError):
    """Raised in a process that was forked from one that had used nearward already: it would hang."""

    def __init__(self) -> None:
        super().__init__(
            "this process was forked from one that had used nearward already. Polars, OpenMP and FAISS keep threads, which a fork does not "
            'have and would wait for without end. Start workers afresh: multiprocessing.get_context("spawn"), joblib\'s loky, gunicorn '
            "without --preload; or load the model in each worker only"
        )


class DataWarning(UserWarning):
    """Warns of data that are probably not what the user thinks they are."""


def did_you_mean(unknown: Iterable[str], known: Sequence[str]) -> str:
    """Return ``'ag': did you mean 'age'?`` for each unknown name with a close match in whatever case, else an empty text."""
    folded = {name.strip().casefold(): name for name in reversed(known)}
    near = {name: difflib.get_close_matches(name.strip().casefold(), folded, 1) for name in unknown}
    return "; ".join(f"{name!r}: did you mean {folded[match[0]]!r}?" for name, match in near.items() if match)


def list_first(texts: Sequence[str]) -> str:
    """Return texts with commas between them, of many only the first and how many more there are.

    Examples
    --------
    >>> list_first(["'age'", "'sex'"])
    "'age', 'sex'"
    >>> list_first([f"x{i}" for i in range(400)])
    'x0, x1, x2, x3, x4, x5, x6, x7 and 392 more'
    """
    rest = len(texts) - _MOST_NAMES
    return ", ".join(texts[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def list_names(names: Sequence[str]) -> str:
    """Return the names of columns as a list, see ``list_first``."""
    return f"[{list_first([repr(name) for name in names])}]"
