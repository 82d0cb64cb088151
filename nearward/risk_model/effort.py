"""``effort``: how much time a fit may spend, in the place of single settings, and how long it will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nearward.tabular.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Effort:
    """Limits of a fit.

    Parameters
    ----------
    folds : int, optional
        Cross-fitting folds at most, and so encoders.
    steps : int, optional
        Training steps of an encoder at most.
    repeats : int
        Fold draws of the base learners at most; ``fit_base_learners`` stops earlier where the draw hardly matters.
    teaching_rows : int
        About as many rows teach at most; all rows are indexed (``teaching_sample.py``).
    """

    folds: int | None = None
    steps: int | None = None
    repeats: int = 1
    teaching_rows: int = 100_000


EFFORTS = {
    "fast": Effort(folds=3, steps=300, teaching_rows=50_000),
    "default": Effort(),
    "thorough": Effort(repeats=10, teaching_rows=200_000),
}
_RELATIVE_TIME = {"fast": 0.5, "default": 1.0, "thorough": 2.0}
_INDEXING = 2e-4  # processor seconds to embed and index a row that teaches nothing
_MOST_CPUS = 5  # as many as there are folds


def find_effort(effort: Any) -> Effort:
    """Return the limits of an effort by its name.

    Raises
    ------
    InputError
        Another name.
    """
    if not isinstance(effort, str) or effort not in EFFORTS:
        hint = did_you_mean([effort], list(EFFORTS)) if isinstance(effort, str) else ""
        raise InputError(f"effort must be one of {list(EFFORTS)}, got effort={effort!r}. {hint}".strip())
    return EFFORTS[effort]


def expected_seconds(rows: int, columns: int, effort: str, cpus: int) -> float:
    """Return how long a fit will take on quiet CPUs, within a factor of about two; see docs/benchmarks/speed.md for what was measured."""
    taught = min(rows, EFFORTS[effort].teaching_rows)
    processor_seconds = 2.0 + taught * (4e-3 + 2e-5 * columns) + (rows - taught) * _INDEXING
    return _RELATIVE_TIME[effort] * processor_seconds / min(cpus, _MOST_CPUS)


def spell_seconds(seconds: float) -> str:
    """Return a rough duration as text: "about 20 s", "about 3 min"."""
    number, unit = (seconds, "s") if seconds < 95 else (seconds / 60, "min")
    return f"about {float(f'{max(number, 1):.1g}'):g} {unit}"


def count_steps(effort: Any, folds: int) -> int:
    """Return how many steps of a fit are reported, where an in-context model is tried and no fold draw is repeated."""
    # beside the folds: expected time, closed-form learners, encoders, choice of context, in-context model, stack, calibration
    return min(folds, find_effort(effort).folds or folds) + 7
