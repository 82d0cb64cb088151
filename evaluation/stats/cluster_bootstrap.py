"""The cluster bootstrap: patients are drawn with replacement, many resamples at a time, and intervals follow from their spread.

A patient's rows are drawn together: rows of one patient are correlated, and intervals that resample rows would be too narrow.

Shapes: ``n`` rows, ``c`` resamples at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from nearward.evaluation.stats.confidence import LEVEL, Estimate, PointEstimate, Result, Undefined, clopper_pearson
from nearward.tabular.parallel import parallel_map
from nearward.tabular.typing import Floats, Ints

Scale = Literal["share", "odds", "skewed", "positive", "plain"]

_WEIGHTS_AT_A_TIME = 100_000  # per worker: fast as long as they stay in a core's cache
_MAX_UNDEFINED = 0.05  # share of resamples without a value above which no interval is given


class Support(NamedTuple):
    """Patients and rows behind a share: for the positive predictive value those with an alert."""

    patients: int
    rows: int

    @classmethod
    def of(cls, patient_ids: Ints) -> Support:
        """Count the patients and rows of these rows (q,)."""
        return cls(len(np.unique(patient_ids)), len(patient_ids))


class Transform(NamedTuple):
    """A scale on which an interval is made: the function, its derivative, and its inverse."""

    forward: Callable[[float], float]
    derivative: Callable[[float], float]
    inverse: Callable[[float], float]


TRANSFORMS: dict[str, Transform] = {
    "share": Transform(
        lambda v: math.asin(math.sqrt(v)),
        lambda v: 0.5 / math.sqrt(v * (1 - v)),
        lambda x: math.sin(min(max(x, 0.0), math.pi / 2)) ** 2,
    ),
    "odds": Transform(lambda v: float(special.logit(v)), lambda v: 1 / (v * (1 - v)), lambda x: float(special.expit(x))),
    "positive": Transform(math.log, lambda v: 1 / v, lambda x: math.exp(min(x, 700.0))),
    "plain": Transform(lambda v: v, lambda _: 1.0, lambda x: x),
}


def cluster_bootstrap(patient_ids: Ints, statistic: Callable[[NDArray[np.uint16]], Floats], resamples: int, seed: int) -> Floats:
    """Compute a statistic over resamples of patients.

    Parameters
    ----------
    patient_ids : (n,), numbers from 0
    statistic : row weights (c, n), whole numbers -> (c, ...)
    resamples, seed : int
        The same seed gives the same resamples, on any number of cores.

    Returns
    -------
    (resamples, ...)
    """
    n, patients = len(patient_ids), int(patient_ids.max()) + 1
    one_row_each = patients == n and bool((patient_ids == np.arange(n)).all())
    size = max(1, min(resamples, _WEIGHTS_AT_A_TIME // n))
    starts = range(0, resamples, size)
    seeds = np.random.SeedSequence(seed).spawn(len(starts))

    def chunk(index: int) -> Floats:
        rng = np.random.default_rng(seeds[index])
        count = min(size, resamples - starts[index])
        drawn = rng.integers(0, patients, (count, patients), dtype=np.int32)
        weight = np.stack([np.bincount(row, minlength=patients) for row in drawn]).astype(np.uint16)
        return statistic(weight if one_row_each else weight[:, patient_ids])

    return np.concatenate(list(parallel_map(chunk, range(len(starts)))))


def bootstrap_interval(value: float, resampled: Floats, scale: Scale, independent: int, n: int) -> Result:
    """Return a value with an interval as wide as its resamples are spread, made on a variance-stabilising scale.

    On that scale no interval leaves the statistic's range, and a skewed statistic gets a skewed interval. Only the spread of the
    resamples is used, not their centre: drawing with replacement repeats rows, and a repeated event ranks beside itself, which
    biases average precision upwards. Student's t with as many degrees of freedom as there are independent events, less one.
    docs/guide/judge-a-risk.md gives the coverage of these intervals, and the alternatives that were tried.

    Parameters
    ----------
    value : float
    resampled : (resamples,), NaN where a resample has no value
    scale : str
        "share" (of [0, 1], arcsine of the root), "odds" (of [0, 1], log-odds), "skewed" (at each end the wider of these two),
        "positive" (logarithm), "plain".
    independent : int
        Patients of the rarer outcome.
    n : int
        Rows that the value rests on.
    """
    finite = _finite(value, resampled, n)
    if not isinstance(finite, np.ndarray):
        return finite
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, max(independent - 1, 1)) * np.std(finite, ddof=1))
    if scale in ("share", "odds", "skewed") and value in (0.0, 1.0):
        return boundary_interval(value, independent, n)
    limits = []
    for name in ("plain",) if value <= 0 else ("share", "odds") if scale == "skewed" else (scale,):
        transform = TRANSFORMS[name]
        centre, step = transform.forward(value), reach * transform.derivative(value)
        limits += [transform.inverse(centre - step), transform.inverse(centre + step)]
    return Estimate(value, min(limits), max(limits), n)


def with_standard_error(value: float, resampled: Floats, scale: Scale) -> tuple[float, float] | None:
    """Return a value and its standard error on a scale; None where either is not finite, or the resamples do not vary."""
    finite = _finite(value, resampled, 0)
    transform = TRANSFORMS[scale]
    if not isinstance(finite, np.ndarray) or (scale == "odds" and value in (0.0, 1.0)) or (scale == "positive" and value <= 0):
        return None
    error = float(np.std(finite, ddof=1)) * transform.derivative(value)
    return (transform.forward(value), error) if error > 0 else None


def share_interval(value: float, resampled: Floats, support: Support, n: int) -> Result:
    """Return a share with the Clopper–Pearson interval of as many independent trials as its resamples vary like.

    The resamples of 10 right alerts of 10 are all alike, and those of 9 of 10 nearly so: their spread alone says too little. The trials
    are never more than the rows behind the share, and as many as the patients where all resamples are alike.

    Parameters
    ----------
    value : float
    resampled : (resamples,), NaN where a resample has no value
    support : Support
    n : int
        Rows that the value rests on.

    References
    ----------
    Korn and Graubard: Confidence intervals for proportions with small expected number of positive counts estimated from survey data (1998).
    """
    finite = _finite(value, resampled, n)
    if not isinstance(finite, np.ndarray):
        return finite
    variance = float(np.var(finite, ddof=1))
    effective = float(max(support.patients, 1))
    if 0 < value < 1 and variance > 0:
        effective = min(float(support.rows), max(value * (1 - value) / variance, 1.0))
    return replace(clopper_pearson(effective * value, effective, n), value=value)


def _finite(value: float, resampled: Floats, n: int) -> Floats | PointEstimate | Undefined:
    """Resamples with a value; where the statistic or too many of them have none, the result without an interval."""
    if not np.isfinite(value):
        return Undefined("it has no finite value on these rows")
    finite = resampled[np.isfinite(resampled)]
    if len(finite) >= (1 - _MAX_UNDEFINED) * len(resampled):
        return finite
    undefined = len(resampled) - len(finite)
    return PointEstimate(value, f"no finite value in {undefined} of {len(resampled)} resamples: too few events for an interval", n)


def boundary_interval(value: float, independent: int, n: int) -> Estimate:
    """Return the interval of a share of exactly 0 or 1, where all resamples agree: Clopper–Pearson with ``independent`` trials.

    For the AUROC this is no approximation but a conservative bound: pairs of an event and a row without, no patient in two of them, are
    independent trials, each a success with a probability equal to the AUROC.
    """
    trials = max(independent, 1)
    return clopper_pearson(trials if value else 0, trials, n)
