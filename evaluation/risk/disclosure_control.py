"""Small-count suppression, primary and secondary: a count under 10 can identify a patient.

A subgroup with fewer than 10 rows, events or rows without the event, or with fewer than 10 patients behind them, is suppressed. Where the
counts shown would reveal it by subtraction from the total, the next smallest subgroup is suppressed as well, and both look the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.risk.inputs import MIN_COUNT
from nearward.tabular.typing import Ints

SUPPRESSED = "<10*"
SUPPRESSION_NOTE = (
    f"{SUPPRESSED}: fewer than {MIN_COUNT} patients, events or rows without the event here, or in a neighbour which this number would give "
    "away; nothing is computed there."
)


def show_count(count: int | None) -> str:
    """Return a count as it is shown, ``<10*`` where it is suppressed."""
    return SUPPRESSED if count is None else str(count)


def suppress_small_counts(rows: Ints, events: Ints, patients: Sequence[Ints] = ()) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return of which subgroups the number of rows, and of which all results, are suppressed.

    Parameters
    ----------
    rows, events : (subgroups,)
    patients : (subgroups,) each
        Numbers of patients behind the rows, the events …: ten visits may be one patient's.

    Returns
    -------
    rows_suppressed, suppressed : (subgroups,)
        The first implies the second. Never one subgroup alone, and never fewer than 10 rows, events or rows without in total.

    Examples
    --------
    >>> import numpy as np
    >>> suppress_small_counts(np.array([500, 300, 60]), np.array([50, 30, 3]))[1].tolist()
    [False, True, True]
    """
    non_events = rows - events
    suppressed = np.any([count < MIN_COUNT for count in (rows, events, non_events, *patients)], axis=0)
    suppressed = secondary_suppression(suppressed, np.minimum(events, non_events), [rows, events, non_events])
    few_rows = np.any([count < MIN_COUNT for count in (rows, *patients[:1])], axis=0)
    rows_suppressed = secondary_suppression(few_rows, rows, [rows])
    return rows_suppressed, suppressed | rows_suppressed


def secondary_suppression(suppressed: NDArray[np.bool_], size: Ints, counts: Sequence[Ints]) -> NDArray[np.bool_]:
    """Suppress the next smallest until several are suppressed, and their total is not small either."""
    suppressed = suppressed.copy()
    while suppressed.any() and not suppressed.all() and (suppressed.sum() < 2 or any(c[suppressed].sum() < MIN_COUNT for c in counts)):
        suppressed[min(np.flatnonzero(~suppressed), key=lambda index: (int(size[index]), index))] = True
    return suppressed
