"""What is judged: an outcome, one risk or several of the same rows, and whose row each is. Checked once, at the door.

Letters: ``n`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups, validate_target
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.typing import Floats, Ints

FEWEST = 10  # events, and rows without: below this an interval says nothing, and a count may name a patient


@dataclass(frozen=True)
class Sample:
    """Rows to judge risks on.

    Parameters
    ----------
    outcome : (n,), 0.0 or 1.0
    risks : name -> (n,), in [0, 1]
    patient : (n,), patient numbers from 0
    """

    outcome: Floats
    risks: dict[str, Floats]
    patient: Ints

    @property
    def rows(self) -> int:
        """n."""
        return len(self.outcome)

    @property
    def events(self) -> int:
        """Rows with the event."""
        return int(self.outcome.sum())

    @property
    def patients(self) -> int:
        """Different patients."""
        return int(self.patient.max()) + 1

    @property
    def independent(self) -> int:
        """Patients of the rarer outcome: what the width of most intervals hangs on."""
        return min(len(np.unique(self.patient[self.outcome == event])) for event in (0, 1))

    def part(self, chosen: NDArray[np.bool_]) -> Sample:
        """Return the chosen rows, their patients numbered anew."""
        patient = np.unique(self.patient[chosen], return_inverse=True)[1]
        return Sample(self.outcome[chosen], {name: risk[chosen] for name, risk in self.risks.items()}, patient)


def read_sample(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    risks: Sequence[str],
    group: str | None = None,
    positive: Any = None,
    also: Sequence[str] = (),
) -> tuple[Sample, pl.DataFrame]:
    """Check the columns and turn them into numbers.

    Parameters
    ----------
    frame : n rows
    outcome : str
        Column with two values.
    risks : names of columns with probabilities
    group : str, optional
        Column that names the patients; without it every row is a patient of its own.
    positive : value, optional
        Which outcome is the event; by default the greater of the two.
    also : names of further columns that are needed

    Returns
    -------
    sample : Sample
    frame : pl.DataFrame
        The columns ``also``.

    Raises
    ------
    MissingColumns, InputError
        Columns that are not there, an outcome without two values, a risk that is no probability, a row without a patient.
    TooFewEvents
        Fewer than 10 rows with the event, or without.
    """
    table = to_frame(frame)
    needed = [outcome, *risks, *([group] if group is not None else []), *also]
    missing = [name for name in dict.fromkeys(needed) if name not in table.columns]
    if missing:
        raise MissingColumns(missing, table.columns)
    if outcome in risks:
        raise InputError(f"column {outcome!r} is named both as the outcome and as a risk: a risk is said before the outcome is known")
    target = validate_target(table.get_column(outcome), positive=positive, name=f"outcome {outcome!r}")
    target.require_events(FEWEST, "evaluate a risk")
    without = table.height - target.events
    if without < FEWEST:
        raise InputError(
            f"refused: {without} rows without the event are too few to evaluate a risk; at least {FEWEST} are needed. "
            "Is the right value the event (positive=)?"
        )
    read = {name: _read_risk(table.get_column(name)) for name in risks}
    patient = validate_groups(None if group is None else table.get_column(group), table.height, f"group {group!r}")
    return Sample(target.outcome.astype(np.float64), read, patient), table.select(list(dict.fromkeys(also)))


def _read_risk(column: pl.Series) -> Floats:
    name = column.name
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InputError(f"risk {name!r} holds {column.dtype}, not numbers: a risk is a probability from 0 to 1")
    risk = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    lacking = int(np.isnan(risk).sum())
    if lacking:
        raise InputError(f"risk {name!r} is missing (null or NaN) in {lacking} of {len(risk)} rows: score them, or drop them and say so")
    outside = int(((risk < 0) | (risk > 1)).sum())
    if outside:
        raise InputError(
            f"risk {name!r} lies outside [0, 1] in {outside} of {len(risk)} rows: a probability is needed, not a percentage, "
            "a logit or a score. Divide by 100, or calibrate it first."
        )
    return np.array(risk)
