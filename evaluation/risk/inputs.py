"""Validated inputs of a risk evaluation: the outcome, one or several risks of the same rows, and the patient of each row.

Shapes: ``n`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import describe_event, validate_groups, validate_target
from nearward.tabular.errors import InputError, require_columns
from nearward.tabular.typing import Bools, Floats, Ints

MIN_COUNT = 10  # events, and rows without: below this an interval says nothing, and a count may identify a patient


@dataclass(frozen=True)
class RiskSample:
    """Rows on which risks are evaluated.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risks : name -> (n,), in [0, 1]
    patient_ids : (n,), numbers from 0
    event : str, optional
        The outcome value that is the event.
    """

    outcome: Floats
    risks: dict[str, Floats]
    patient_ids: Ints
    event: str | None = None

    @property
    def rows(self) -> int:
        """n."""
        return len(self.outcome)

    @property
    def events(self) -> int:
        """Rows with the event."""
        return int(self.outcome.sum())

    @property
    def event_rate(self) -> float:
        """Share of rows with the event."""
        return self.events / self.rows

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.patient_ids.max()) + 1

    @property
    def independent(self) -> int:
        """Patients of the rarer outcome, which limit the width of most intervals."""
        return min(len(np.unique(self.patient_ids[self.outcome == event])) for event in (0, 1))

    def subset(self, mask: Bools) -> RiskSample:
        """Return the rows of a mask (n,), their patients renumbered."""
        patient_ids = np.unique(self.patient_ids[mask], return_inverse=True)[1]
        return RiskSample(self.outcome[mask], {name: risk[mask] for name, risk in self.risks.items()}, patient_ids, self.event)


def read_risk_sample(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    risks: Sequence[str],
    group: str | None = None,
    positive: Any = None,
    also: Sequence[str] = (),
) -> tuple[RiskSample, pl.DataFrame]:
    """Check the columns and convert them to arrays.

    Parameters
    ----------
    frame : n rows
    outcome : str
        Column with two values.
    risks : names of columns with probabilities
    group : str, optional
        Column of patient identifiers; without it every row is a patient of its own.
    positive : value or list of values, optional
        The outcome's value that is the event; by default the greater of the two.
    also : names of further columns that are needed

    Returns
    -------
    sample : RiskSample
    frame : pl.DataFrame
        The columns ``also``.

    Raises
    ------
    MissingColumns, InputError
        Missing columns, an outcome without two values, a risk that is no probability, a row without a patient.
    TooFewEvents
        Fewer than 10 rows with the event, or without.
    """
    table = to_frame(frame)
    require_columns([outcome, *risks, group, *also], table.columns)
    if outcome in risks:
        raise InputError(f"column {outcome!r} is named both as the outcome and as a risk: name the column of predicted probabilities")
    target = validate_target(table.get_column(outcome), positive=positive, name=f"outcome {outcome!r}")
    target.require_events(MIN_COUNT, "evaluate a risk")
    non_events = table.height - target.events
    if non_events < MIN_COUNT:
        raise InputError(
            f"refused: {non_events} rows without the event are too few to evaluate a risk; at least {MIN_COUNT} are needed. "
            "Is the right value the event (positive=)?"
        )
    patient_ids = validate_groups(None if group is None else table.get_column(group), table.height, f"group {group!r}")
    by_name = {name: _read_risk(table.get_column(name)) for name in risks}
    sample = RiskSample(target.outcome.astype(np.float64), by_name, patient_ids, describe_event(target.event))
    return sample, table.select(list(dict.fromkeys(also)))


def _read_risk(column: pl.Series) -> Floats:
    name = column.name
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InputError(f"risk {name!r} holds {dtype_name(column.dtype)}, not numbers: a risk is a probability from 0 to 1")
    risk = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    missing = int(np.isnan(risk).sum())
    if missing:
        raise InputError(f"risk {name!r} is missing (null or NaN) in {missing} of {len(risk)} rows: score these rows, or drop them")
    outside = int(((risk < 0) | (risk > 1)).sum())
    if outside:
        raise InputError(
            f"risk {name!r} lies outside [0, 1] in {outside} of {len(risk)} rows: a probability is needed, not a percentage, "
            "a logit or a score. Divide by 100, or calibrate it first."
        )
    return np.array(risk)
