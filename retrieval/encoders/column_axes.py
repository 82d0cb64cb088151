"""Standardised columns beside a learned embedding, for outcomes of which few rows have the event.

Few events teach an encoder little, and rows that are alike in all columns are then a better guess than the network's. So its embedding gets
further axes: the principal axes of the columns in standard units. Their share of the squared distance falls with the number of events,
as if the columns were worth ten events. That number was chosen on nine cohorts and confirmed on fourteen others (docs/log/2026-11.md).

Shapes: n rows, p encoded columns, a axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.retrieval.encoders.linear_metric import neighbourhood_temperature, principal, weighted_variance
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.typing import Floats

_WORTH_EVENTS = 10
_SMALLEST_SHARE = 0.02  # less, above 490 events, changes no vote
_AXES = 32


@dataclass(frozen=True)
class ColumnAxes:
    """Axes of the standardised columns.

    Parameters
    ----------
    matrix : (p, a), ``x @ matrix`` are a row's coordinates, in units in which rows of a neighbourhood lie about 1 apart
    share : float, of the squared distance
    """

    matrix: Floats
    share: float


def fit_column_axes(x: Floats, layout: FeatureLayout, data: TrainingData, seed: int) -> ColumnAxes | None:
    """Fit the axes on all stored rows, without their outcomes; None where the events are many, or no column varies.

    Number columns and missing flags get unit variance; categories stay 0 and 1, and ranks, which repeat the numbers, are left out.

    Parameters
    ----------
    x : (n, p), the dense encoding
    layout : FeatureLayout of the p columns
    data : TrainingData, n rows; its events are the rows outside the commonest class
    seed : int
    """
    share = _WORTH_EVENTS / (_WORTH_EVENTS + len(data) - int(np.bincount(data.outcome).max()))
    if share < _SMALLEST_SHARE:
        return None
    deviation = np.sqrt(weighted_variance(x, data.weight))
    if not deviation.any():
        return None
    standardised = layout.missing_value == 1
    standardised[[feature for _, feature in layout.numeric]] = True
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=standardised & (deviation > 0)) + ~standardised
    scale[list(layout.rank)] = 0
    matrix = principal(np.diag(scale), x, data.weight, _AXES)
    return ColumnAxes(matrix / neighbourhood_temperature(matrix, x, seed, data.weight) ** 0.5, share)
