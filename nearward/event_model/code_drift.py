"""What a scoring job counts of its events, and the drift of their codes against training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nearward.tabular.errors import ArtifactError
from nearward.tabular.events.event_counts import CODE_COUNTS, EventCounts, total_counts
from nearward.tabular.persistence.artifact import loading, read_manifest

if TYPE_CHECKING:
    from nearward.tabular.events.features import EventFeatures

_LABELS = {  # counts that are shown where they are not 0 -> their words
    "labels_without_events": "labels without events before their time",
    "duplicate_labels": "labels with the subject and time of another",
    "null_codes": "events without a code (left out)",
    "invalid_values": "events with a NaN or infinite number (the number is left out)",
    "missing_values": "events with a number that means unknown (the number is left out)",
    "other_units": "events in another unit than in training (the number is left out)",
    "unknown_codes": "events with a code that at most one training subject had (left out)",
    "unknown_texts": "events with a text that is none of the categories of training (read as other)",
}


@dataclass(frozen=True)
class CodeDrift:
    """The drift of one code against the training data.

    Parameters
    ----------
    code, name : str
    training, now : float, share of the training subjects and of the labels with it
    psi : float, population stability index of having it
    moved : bool, whether that exceeds .1 and chance
    factor : float or None
        Geometric mean of its numbers, now over training; None where there are too few.
    slip : bool
        Whether the factor looks like another unit.
    """

    code: str
    name: str
    training: float
    now: float
    psi: float
    moved: bool
    factor: float | None
    slip: bool


def counts_as_json(counts: EventCounts) -> dict[str, Any]:
    """Return counts as JSON."""
    return {**counts.summary(), "codes": counts.codes.to_dict(as_series=False)}


def total_of_shards(records: Sequence[Mapping[str, Any]]) -> EventCounts | None:
    """Return the sum of the shards' counts; None where there are none."""
    try:
        parts = [EventCounts(**{**record, "codes": pl.DataFrame(record["codes"], CODE_COUNTS)}) for record in records if record]
    except (TypeError, LookupError, pl.exceptions.PolarsError) as error:
        raise ArtifactError("a shard's counts of events are damaged: --restart") from error
    return total_counts(parts) if parts else None


def drift_of_codes(model: Path, counts: EventCounts) -> tuple[CodeDrift, ...]:
    """Compare codes with the training data: slips of units first, then the largest index.

    Parameters
    ----------
    model : path of the model's folder
    counts : EventCounts of all labels
    """
    from nearward.evaluation.drift import drift
    from nearward.tabular.events.features import EventFeatures

    with loading(model):
        features: EventFeatures = EventFeatures.from_json(read_manifest(model)["features"], {})  # codes are no arrays
    subjects, rows = features.vocabulary_.n_subjects, []
    for row in features.code_drift(counts).iter_rows(named=True):
        pairs = [(round(share * size), size) for share, size in ((row["training"], subjects), (row["now"], counts.labels))]
        index = drift(*([present, size - present] for present, size in pairs))
        shown = {name: row[name] for name in ("code", "name", "training", "now", "factor")}
        rows.append(CodeDrift(**shown, psi=index.psi.value, moved=index.moved, slip=bool(row["slip"])))
    return tuple(sorted(rows, key=lambda row: (not row.slip, -row.psi, row.code)))


def event_rows(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what was counted, in words, for a table."""
    rows = [("events before the labels' times", str(counts["events"]))] if counts else []
    return rows + [(words, str(counts[name])) for name, words in _LABELS.items() if counts.get(name)]


def code_drift_table(codes: Sequence[CodeDrift]) -> pl.DataFrame:
    """Return the drift of codes as a table to print."""
    verdict = [
        " and ".join(word for word, true in (("moved" if one.now else "none now", one.moved), ("another unit?", one.slip)) if true)
        for one in codes
    ]
    return pl.DataFrame(
        {
            "code": [one.name for one in codes],
            "training": [f"{one.training:.1%}" for one in codes],
            "now": [f"{one.now:.1%}" for one in codes],
            "PSI": [f"{one.psi:.3f}" for one in codes],
            "size of numbers": ["" if one.factor is None else f"× {one.factor:.3g}" for one in codes],
            "verdict": verdict,
        }
    )
