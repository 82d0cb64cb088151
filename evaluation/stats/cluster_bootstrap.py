"""Patients drawn with replacement, many draws at a time, and intervals from what the draws show.

A patient's rows come together or not at all: rows of one patient resemble each other, and intervals that drew rows would be too narrow.

Letters: ``n`` rows, ``c`` draws at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from nearward.evaluation.stats.confidence import LEVEL, Estimate
from nearward.tabular.parallel import cores
from nearward.tabular.typing import Floats, Ints

Scale = Literal["share", "odds", "skewed", "positive", "plain"]

_CELLS = 100_000  # weights held at a time by a worker: what stays in a core's cache is fast
_UNDEFINED = 0.05  # share of draws without a value above which no interval is given


class _Transform(NamedTuple):
    """A scale: the way there, how steep it is, and the way back."""

    there: Callable[[float], float]
    steep: Callable[[float], float]
    back: Callable[[float], float]


_SCALES: dict[str, _Transform] = {
    "share": _Transform(
        lambda v: math.asin(math.sqrt(v)),
        lambda v: 0.5 / math.sqrt(v * (1 - v)),
        lambda x: math.sin(min(max(x, 0.0), math.pi / 2)) ** 2,
    ),
    "odds": _Transform(
        lambda v: math.log(v / (1 - v)), lambda v: 1 / (v * (1 - v)), lambda x: 1 / (1 + math.exp(-min(max(x, -700.0), 700.0)))
    ),
    "positive": _Transform(math.log, lambda v: 1 / v, lambda x: math.exp(min(x, 700.0))),
    "plain": _Transform(lambda v: v, lambda _: 1.0, lambda x: x),
}


class Undefined(NamedTuple):
    """Why a number does not exist, in words."""

    why: str


def resample(patient: Ints, measure: Callable[[NDArray[np.uint16]], Floats], resamples: int, seed: int) -> Floats:
    """Measure on even weights drawn by resampling patients.

    Parameters
    ----------
    patient : (n,), numbers from 0
    measure : row weights (c, n), whole numbers -> (c, ...)
    resamples, seed : int
        The same seed gives the same draws, on however many cores.

    Returns
    -------
    (resamples, ...)
    """
    n, patients = len(patient), int(patient.max()) + 1
    alone = patients == n and bool((patient == np.arange(n)).all())
    size = max(1, min(resamples, _CELLS // n))
    starts = range(0, resamples, size)
    seeds = np.random.SeedSequence(seed).spawn(len(starts))

    def part(at: int) -> Floats:
        draw = np.random.default_rng(seeds[at])
        count = min(size, resamples - starts[at])
        drawn = draw.integers(0, patients, (count, patients), dtype=np.int32)
        times = np.stack([np.bincount(row, minlength=patients) for row in drawn]).astype(np.uint16)
        return measure(times if alone else times[:, patient])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:  # threads of threads would wait for each other
        return np.concatenate(list(pool.map(part, range(len(starts)))))


def interval(value: float, draws: Floats, scale: Scale, independent: int, n: int) -> Estimate | Undefined:
    """Interval around a value, as wide as the draws are spread, on the scale where such numbers are spread evenly.

    On a scale where such numbers are spread evenly no interval leaves the possible, and a skewed number gets a skewed interval. Only the
    spread of the draws is used, not their place: drawing with replacement repeats rows, and a repeated event ranks beside itself, which
    flatters average precision. Student's t for as many independent events as there are. docs/guide/judge-a-risk.md says how often such intervals
    hold the truth, and what else was tried.

    Parameters
    ----------
    value : float
    draws : (resamples,), NaN where a draw has no value
    scale : str
        "share" (of [0, 1], on the arcsine of its root), "odds" (of [0, 1], on the log-odds), "skewed" (at each end the farther of
        these two), "positive" (on the logarithm), "plain".
    independent : int
        Patients of the rarer outcome.
    n : int
        Rows that the value rests on.

    Returns
    -------
    Estimate, or the reason why there is none
    """
    if not np.isfinite(value):
        return Undefined("it has no finite value on these rows")
    there = draws[np.isfinite(draws)]
    if len(there) < (1 - _UNDEFINED) * len(draws):
        lacking = len(draws) - len(there)
        return Undefined(f"no finite value in {lacking} of {len(draws)} resamples: too few events to say how well it is known")
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, max(independent - 1, 1)) * np.std(there, ddof=1))
    if scale in ("share", "odds", "skewed") and value in (0.0, 1.0):
        return at_edge(value, independent, n)
    limits = []
    for one in ("plain",) if value <= 0 else ("share", "odds") if scale == "skewed" else (scale,):
        transform = _SCALES[one]
        middle, step = transform.there(value), reach * transform.steep(value)
        limits += [transform.back(middle - step), transform.back(middle + step)]
    return Estimate(value, min(limits), max(limits), n)


def at_edge(value: float, independent: int, n: int) -> Estimate:
    """Interval of a share of exactly 0 or 1, where no draw differs: as if ``independent`` trials had all gone one way (Clopper–Pearson).

    For the AUROC this is no approximation but a safe bound: pairs of an event and a row without, no patient in two of them, are independent
    trials that each go right with a chance equal to the AUROC.
    """
    reach = ((1 - LEVEL) / 2) ** (1 / max(independent, 1))
    return Estimate(value, 0.0, 1 - reach, n) if value == 0 else Estimate(value, reach, 1.0, n)
