"""How unusual the measurements of all codes are together, as an early-warning score adds up single ones: columns over all codes.

The distance of a number is that to its code's usual value, the median of the training data, in interquartile ranges; at most 5, since one
that is farther away is likelier a slip. A number is unusual where its distance is above 1, as 18 % of normally distributed numbers are.

Shapes: p values, g groups (a label and a code with at least one value), b labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearward.tabular.data.schema import Column
from nearward.tabular.events.aggregates import SortedValues
from nearward.tabular.typing import Bools, Floats, Ints

NAME = "All measurements"
_FARTHEST, _UNUSUAL = 5.0, 1.0  # interquartile ranges
_OF_LAST = ("last from usual", "codes with an unusual last number", "farthest from usual")
_OF_SPAN = ("from usual", "unusual share")


def columns(spans: Sequence[str | None]) -> list[Column]:
    """Return the columns, in the order of ``summarize``.

    Parameters
    ----------
    spans : the shortest first
    """
    suffixes = ["" if span is None else f", {span}" for span in spans]
    names = [*_OF_LAST, *(name + suffix for suffix in suffixes for name in _OF_SPAN)]
    return [Column(f"{NAME}: {name}", block=NAME.lower()) for name in names]


def summarize(values: SortedValues, centre: Floats, spread: Floats, hours: Sequence[float], n_labels: int) -> Floats:
    """Return the columns of all labels (columns, b), NaN where a label has no number.

    Each code of a label counts alike, however often it was measured, but for ``unusual share``, which is of all numbers.

    Parameters
    ----------
    values : SortedValues, of numbers alone
    centre, spread : (codes,)
    hours : lengths of the spans, infinite for all values
    n_labels : int, b
    """
    result = np.full((len(_OF_LAST) + len(_OF_SPAN) * len(hours), n_labels), np.nan)
    if len(values.row) == 0:
        return result
    distance = np.minimum(np.abs(values.value - centre[values.code]) / spread[values.code], _FARTHEST)  # (p,)
    unusual = distance > _UNUSUAL
    last = np.minimum(values.from_usual(centre, spread), _FARTHEST)  # (g,)
    row = values.row[values.begin]
    rows, sums = _sum_by_label(row, last, last > _UNUSUAL, np.maximum.reduceat(distance, values.begin), np.ones(len(row)))
    result[:3, rows] = sums[0] / sums[3], sums[1], sums[2] / sums[3]
    for i, span in enumerate(hours):
        begin = values.window_begin(span)
        groups = np.flatnonzero(begin < values.end)
        if len(groups) == 0:
            continue
        inside, starts = values.inside(begin)
        count = values.end[groups] - begin[groups]
        mean = np.add.reduceat(distance[inside], starts) / count
        rows, sums = _sum_by_label(row[groups], mean, np.ones(len(groups)), np.add.reduceat(unusual[inside].astype(float), starts), count)
        at = len(_OF_LAST) + len(_OF_SPAN) * i
        result[at : at + 2, rows] = sums[0] / sums[1], sums[2] / sums[3]
    return result


def _sum_by_label(row: Ints, *terms: Floats | Ints | Bools) -> tuple[Ints, list[Floats]]:
    """Return the labels of some groups, and the sums of each of the terms over a label's groups."""
    starts = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    return row[starts], [np.add.reduceat(term.astype(np.float64), starts) for term in terms]
