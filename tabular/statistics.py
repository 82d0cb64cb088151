"""Statistics that several packages share: Wilson's interval, an AUROC's placement values, average precision of many weightings,
and the mean, deviation and quantiles of a sample whose rows stand for several rows each.

References
----------
Wilson: Probable inference, the law of succession, and statistical inference (1927).
DeLong, DeLong and Clarke-Pearson: Comparing the areas under two or more correlated receiver operating characteristic curves (1988).
Obuchowski: Nonparametric analysis of clustered ROC curve data (1997), for patients with several rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.typing import Floats, Ints

EXTREME = 5  # patients: a published range is that of the fifth most extreme ones, so that it identifies none


def wilson_interval(share: Any, n: Any, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return Wilson's score interval of a share.

    Parameters
    ----------
    share : float or array, successes / n
    n : int or array, above 0
    level : float

    Examples
    --------
    >>> low, high = wilson_interval(0.1, 10)
    >>> print(f"{low:.3f} to {high:.3f}")
    0.018 to 0.404
    """
    from scipy.special import ndtri

    share, n = np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = float(ndtri(0.5 + level / 2))
    width = 2 * (n + z**2)
    centre = (2 * n * share + z**2) / width
    reach = z / width * np.sqrt(4 * n * share * (1 - share) + z**2)
    return np.where(share == 0, 0.0, centre - reach), np.where(share == 1, 1.0, centre + reach)


def placement_values(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return the share of the other group that each row outranks, ties counting half; the mean of either is the AUC.

    Parameters
    ----------
    positive : (m,), scores of the group that should score higher
    negative : (w,)

    Returns
    -------
    of_positive : (m,)
        Share of ``negative`` below each score.
    of_negative : (w,)
        Share of ``positive`` above each score.

    Examples
    --------
    >>> [values.tolist() for values in placement_values(np.array([3.0, 1.0]), np.array([2.0, 0.0]))]
    [[1.0, 0.5], [0.5, 1.0]]
    """
    sorted_positive, sorted_negative = np.sort(positive), np.sort(negative)
    below = np.searchsorted(sorted_negative, positive, "left") + np.searchsorted(sorted_negative, positive, "right")
    not_above = np.searchsorted(sorted_positive, negative, "left") + np.searchsorted(sorted_positive, negative, "right")
    return below / (2 * len(negative)), 1 - not_above / (2 * len(positive))


def weighted_average_precision(outcome: Ints, score: Floats) -> Callable[[Floats], float]:
    """Return the average precision of a score as a function of the weights of its rows (n,): they are sorted once for all weightings.

    Parameters
    ----------
    outcome : (n,), 0 or 1, at least one event
    score : (n,)

    Examples
    --------
    >>> auprc = weighted_average_precision(np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0]))
    >>> print(f"{auprc(np.ones(3)):.3f} {auprc(np.array([1.0, 0.0, 1.0])):.3f}")
    0.833 1.000
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of each run of tied scores

    def auprc(weight: Floats) -> float:
        ranked = weight[order]
        hits, rows = np.cumsum(ranked * outcome[order])[ends], np.cumsum(ranked)[ends]
        precision = np.divide(hits, rows, out=np.zeros(len(ends)), where=rows > 0)
        return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])

    return auprc


def weighted_auroc(outcome: Ints, score: Floats) -> Callable[[Floats], float]:
    """Return the AUROC of a score as a function of the weights of its rows (n,); arguments as ``weighted_average_precision``.

    Examples
    --------
    >>> auroc = weighted_auroc(np.array([1, 0, 0]), np.array([2.0, 2.0, 1.0]))
    >>> auroc(np.ones(3)), auroc(np.array([1.0, 3.0, 1.0]))
    (0.75, 0.625)
    """
    order = np.argsort(score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of each run of tied scores
    is_event = outcome[order] == 1

    def auroc(weight: Floats) -> float:
        ranked = weight[order]
        events, others = (np.diff(np.cumsum(np.where(part, ranked, 0.0))[ends], prepend=0.0) for part in (is_event, ~is_event))
        below = np.cumsum(others) - others / 2
        return float(events @ below / (events.sum() * others.sum()))

    return auroc


def row_weights(n: int, weight: Floats | None) -> Floats:
    """Return weights (n,), ones where there are none."""
    return np.ones(n) if weight is None else weight


def mean_and_deviation(values: Floats, weight: Floats | None = None) -> tuple[float, float]:
    """Return mean and standard deviation of values (n,), each counted ``weight`` (n,) times."""
    mean = float(np.average(values, weights=weight))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))


def weighted_quantile(values: Floats, shares: Any, weight: Floats | None = None) -> Floats:
    """Return quantiles of values (n,) of which each stands for ``weight`` (n,) equal ones, as ``numpy.quantile`` does without weights.

    Examples
    --------
    >>> weighted_quantile(np.array([1.0, 5.0]), [0.5, 0.8], np.array([2.0, 1.0])).round(3).tolist()  # of 1, 1, 5
    [1.0, 3.4]
    """
    if weight is None:
        return np.asarray(np.quantile(values, shares))
    order = np.argsort(values, kind="stable")
    rows_up_to = np.cumsum(weight[order])
    position = np.asarray(shares) * max(rows_up_to[-1] - 1, 0.0)
    whole = np.floor(position)
    lower, upper = (values[order[np.searchsorted(rows_up_to, at, side="right").clip(0, len(order) - 1)]] for at in (whole, whole + 1))
    return np.asarray(lower + (position - whole) * (upper - lower))


def sum_by_patient(values: Floats, patient_ids: Ints | None) -> Floats:
    """Sum values (n,) within patients; without patients every row is one of its own."""
    if patient_ids is None:
        return values
    return np.bincount(np.unique(patient_ids, return_inverse=True)[1], weights=values).astype(np.float64, copy=False)


def patient_range(values: pl.Series, groups: pl.Series | None) -> tuple[float, float] | tuple[None, None]:
    """Return the values of the fifth most extreme patients, or none where a range of so few would identify them.

    Parameters
    ----------
    values : (n,), numbers, null where missing
    groups : (n,) or None, the patient of each row
    """
    rows = pl.DataFrame({"x": values, "patient": pl.int_range(len(values), eager=True) if groups is None else groups}).drop_nulls("x")
    patients = rows.group_by("patient").agg(least=pl.col("x").min(), greatest=pl.col("x").max())
    if patients.height < 2 * EXTREME:
        return None, None
    return patients["least"].sort()[EXTREME - 1], patients["greatest"].sort()[-EXTREME]
