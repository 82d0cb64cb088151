"""Labels from a rule: a moment in each stay, an outcome, a horizon; censoring told apart from absence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from nearward.tabular.events.reading import Events


def labels(
    events: Events | pl.DataFrame | pl.LazyFrame | str | Path,
    *,
    at: str,
    outcome: str | Sequence[str],
    within: str | None = None,
    until: str | Sequence[str] | None = None,
    followed_until: datetime | None = None,
    recurrent: bool = False,
) -> pl.DataFrame:
    """Return ``subject_id``, ``prediction_time``, ``boolean_value`` (null where censored) and ``censored``."""
    raise NotImplementedError
