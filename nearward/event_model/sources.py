"""Events in one place or several, of one model: the files that are read, and all of them as one source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from nearward.tabular.errors import InputError
from nearward.tabular.events.reading import CODE, Events, read_events

KIND = "EventRisk"  # of the manifest of a model of events


def event_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the files and folders that are read of some paths: of a MEDS folder, its ``data`` and ``metadata``."""
    folders = []
    for path in paths:
        parts = [path / "data", path / "metadata"] if (path / "data").is_dir() else [path]
        folders += [part for part in parts if part.name != "metadata" or any(part.glob("*.parquet"))]
    return folders


def read_sources(paths: Sequence[str | Path], columns: Mapping[str, str] | None) -> Events:
    """Read events from one path or several; a subject may have events in all of them.

    Raises
    ------
    InputError
        They do not go together: times with a zone in some, subjects as text in some.
    """
    every = [read_events(path, columns) for path in paths]
    first = every[0]
    if len(every) == 1:
        return first
    subjects = {one.frame.collect_schema()["subject_id"] for one in every}
    if len({one.zoned for one in every}) > 1 or len(subjects) > 1:
        raise InputError(f"the {len(every)} sources of events differ in the time zone or in the dtype of subject_id: make them alike")
    codes = pl.concat([one.codes for one in every]).unique("code", keep="first", maintain_order=True)
    parts, names = (tuple(item for one in every for item in getattr(one, field)) for field in ("parts", "names"))
    return dataclasses.replace(first, parts=parts, codes=codes, names=names)


def rename_codes(events: Events, codes: Mapping[str, str]) -> Events:
    """Return events whose codes have other names.

    Parameters
    ----------
    events : Events
    codes : mapping
        The source's name of a code -> the one that is used here.
    """
    if not codes:
        return events
    parts = tuple(part.with_columns(pl.col(CODE).replace(dict(codes))) for part in events.parts)
    metadata = events.codes.with_columns(pl.col(CODE).replace(dict(codes))).unique(CODE, keep="first", maintain_order=True)
    return dataclasses.replace(events, parts=parts, codes=metadata)
