"""Which counts may be shown: one under 10 can name a patient.

A part with fewer than 10 rows, events or rows without the event, or with fewer than 10 patients behind them, is withheld. Where the
counts shown would give it away by subtraction from the total, the next smallest part is withheld as well, and both look the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearward.evaluation.risk.inputs import FEWEST
from nearward.tabular.typing import Ints

WITHHELD = "<10*"
WHY_WITHHELD = (
    f"{WITHHELD}: fewer than {FEWEST} patients, events or rows without the event here, or in a neighbour which this number would give "
    "away; nothing is computed there."
)


def withheld(rows: Ints, events: Ints, whose: Sequence[Ints] = ()) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return of which parts the number of rows, and of which everything else, is withheld.

    Parameters
    ----------
    rows, events : (parts,)
    whose : (parts,) each
        How many patients they are: ten visits may be one patient's.

    Returns
    -------
    rows_hidden, hidden : (parts,)
        The first within the second. What is withheld is never one part alone, and never fewer than 10 rows, events or rows without.

    Examples
    --------
    >>> import numpy as np
    >>> withheld(np.array([500, 300, 60]), np.array([50, 30, 3]))[1].tolist()
    [False, True, True]
    """
    free = rows - events
    hidden = np.any([count < FEWEST for count in (rows, events, free, *whose)], axis=0)
    hidden = covered(hidden, np.minimum(events, free), [rows, events, free])
    few = np.any([count < FEWEST for count in (rows, *whose[:1])], axis=0)
    rows_hidden = covered(few, rows, [rows])
    return rows_hidden, hidden | rows_hidden


def covered(hidden: NDArray[np.bool_], size: Ints, counts: Sequence[Ints]) -> NDArray[np.bool_]:
    """Withhold the next smallest until what is withheld is several, and together not small itself."""
    hidden = hidden.copy()
    while hidden.any() and not hidden.all() and (hidden.sum() < 2 or any(count[hidden].sum() < FEWEST for count in counts)):
        hidden[min(np.flatnonzero(~hidden), key=lambda at: (int(size[at]), at))] = True
    return hidden
