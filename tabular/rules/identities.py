"""Mining of identities: numbers that are weighted sums, or products of powers, of others to within rounding.

Terms are found one at a time by their correlation with what is left of the column (orthogonal matching pursuit), on rows without the
hundredth that fits worst: a few mistyped sums hide no identity. Weights near whole numbers are rounded.

Shapes: n rows, d columns, k terms.

References
----------
Pati, Rezaiifar and Krishnaprasad: Orthogonal matching pursuit (1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearward.tabular.rules.kinds import Linear, Product
from nearward.tabular.typing import Floats, Ints

_MAX_TERMS = 10  # of a sum; a score has six to nine items
_MAX_FACTORS = 3
_MIN_ROWS = 100  # with the column and all of its terms
_SEARCH_ROWS = 4000
_MIN_CORRELATION = 0.05  # of a further term with what is left
_TRIMMED = 0.99  # share of the rows that a fit uses
_MAX_TOLERANCE = 0.02  # in standard deviations of the column
_HALF = 0.52  # of a step: the greatest deviation that rounding causes
_STEPS_PER_SD = 8  # of a column whose values may be rounded by half a step
_MIN_LOG_SD = 0.03  # of a factor: over a narrower range every sum looks like a product
_PRECISION = 1e-6  # in standard deviations: nothing finer is meant by a rule


@dataclass(frozen=True)
class _Fit:
    """A column as constant + Σ weight × column."""

    target: int
    columns: tuple[int, ...]
    weights: tuple[float, ...]
    constant: float
    tolerance: float


def mine_linear(values: Floats, names: Sequence[str]) -> list[Linear]:
    """Find the columns (n, d) that are weighted sums of others; of each set of columns one identity.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> items = rng.integers(1, [5, 6, 7], (1000, 3)).astype(float)
    >>> [str(rule) for rule in mine_linear(np.column_stack([items, items.sum(axis=1)]), ["eye", "verbal", "motor", "gcs"])]
    ['gcs = eye + verbal + motor']
    """
    several = [j for j in range(len(names)) if len(np.unique(values[~np.isnan(values[:, j]), j])) > 2]
    fits = [fit for z in several if (fit := _search(values, z, several, _MAX_TERMS, values)) is not None]
    rules = []
    for fit in _one_of_each_set(fits, values):
        terms = tuple((names[j], weight) for j, weight in sorted(zip(fit.columns, fit.weights, strict=True)))
        rules.append(Linear(names[fit.target], terms, fit.constant, fit.tolerance))
    return rules


def mine_products(values: Floats, names: Sequence[str], linear: Sequence[Linear] = ()) -> list[Product]:
    """Find the columns (n, d) that are products of powers of others, unless the same columns are in a weighted sum.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kg, cm = rng.normal(80, 15, 1000).round(1), rng.normal(170, 10, 1000).round()
    >>> bmi = (kg / (cm / 100) ** 2).round(1)
    >>> [str(rule) for rule in mine_products(np.column_stack([kg, cm, bmi]), ["kg", "cm", "bmi"])]
    ['bmi = 10000 × kg × cm^-2']
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(values > 0, values, np.nan))
    factors = [
        j
        for j in range(len(names))
        if (values[:, j] > 0).sum() >= 0.98 * (~np.isnan(values[:, j])).sum() > 0
        and len(np.unique(values[~np.isnan(values[:, j]), j])) > 4
        and np.nanstd(logs[:, j]) > _MIN_LOG_SD
    ]
    known = {frozenset(rule.columns) for rule in linear}
    fits = [fit for z in factors if (fit := _search(logs, z, factors, _MAX_FACTORS, values)) is not None]
    rules = []
    for fit in _one_of_each_set(fits, values):
        powers = tuple((names[j], weight) for j, weight in sorted(zip(fit.columns, fit.weights, strict=True)))
        rule = Product(names[fit.target], powers, fit.constant, fit.tolerance)
        if frozenset(rule.columns) not in known:
            rules.append(rule)
    return rules


def _search(x: Floats, target: int, candidates: Sequence[int], most: int, values: Floats) -> _Fit | None:
    """Add terms of a column until they explain it; ``x`` (n, d) are the values, or their logarithms."""
    rows = np.flatnonzero(~np.isnan(x[:, target]))[:_SEARCH_ROWS]
    columns = np.array([j for j in candidates if j != target])
    if len(rows) < _MIN_ROWS or len(columns) == 0:
        return None
    others = x[np.ix_(rows, columns)]
    centred = np.nan_to_num(others - np.nanmean(np.where(np.isnan(others).all(axis=0), 0, others), axis=0))
    present = ~np.isnan(others)
    z = x[rows, target]
    residual = z - z.mean()
    if residual.std() == 0:
        return None
    selected: list[int] = []
    usable = np.ones(len(rows), dtype=bool)
    for _ in range(min(most + 2, len(columns))):  # two more, in place of those that turn out to have no weight
        overlap = present & usable[:, None]
        r = np.where(usable, residual, 0.0)
        size = np.sqrt((overlap * r[:, None] ** 2).sum(axis=0) * (overlap * centred**2).sum(axis=0))
        correlation = np.abs(r @ (centred * overlap)) / np.maximum(size, 1e-300)
        correlation[(overlap.sum(axis=0) < _MIN_ROWS) | (size == 0)] = 0
        correlation[selected] = 0
        best = int(correlation.argmax())
        if correlation[best] < _MIN_CORRELATION:
            return None
        selected.append(best)
        usable &= present[:, best]
        weights, constant = _trimmed_fit(others[usable][:, selected], z[usable])
        residual = np.where(usable, z - constant - np.nan_to_num(others[:, selected]) @ weights, 0.0)
        spread = float(z[usable].std())
        if np.quantile(np.abs(residual[usable]), _TRIMMED) > 0.5 * spread:
            continue
        material = np.abs(weights) * np.nanstd(others[:, selected], axis=0) > 1e-4 * spread
        if not 0 < material.sum() <= most:
            continue
        fit = _finish(x, target, columns[np.array(selected)[material]], values)
        if fit is not None:
            return fit
    return None


def _trimmed_fit(x: Floats, z: Floats) -> tuple[Floats, float]:
    """Fit weights (k,) and a constant by least squares, then twice more to the rows (n, k) that fit best."""
    design = np.column_stack([x, np.ones(len(z))])
    rows = np.ones(len(z), dtype=bool)
    for _ in range(3):
        solution = np.linalg.lstsq(design[rows], z[rows], rcond=None)[0]
        deviation = np.abs(z - design @ solution)
        rows = deviation <= np.quantile(deviation, _TRIMMED)
    return np.asarray(solution[:-1], dtype=np.float64), float(solution[-1])


def _finish(x: Floats, target: int, columns: Ints, values: Floats) -> _Fit | None:
    """Return the identity of these columns with rounded weights, on all rows; None where it does not hold to within rounding."""
    rows = ~np.isnan(x[:, [target, *columns]]).any(axis=1)
    if rows.sum() < _MIN_ROWS:
        return None
    terms, z = x[np.ix_(rows, columns)], x[rows, target]
    weights, _ = _trimmed_fit(terms, z)
    observed, is_product = values[rows, target], x is not values
    sd = float(observed.std())
    nearest = np.round(weights)
    whole = (np.abs(weights - nearest) < 0.02) & (nearest != 0)
    for candidate in (np.where(whole, nearest, weights), weights):
        rounded = np.array([float(f"{weight:.6g}") for weight in candidate])
        constant = float(np.median(z - terms @ rounded))
        if is_product:
            constant = _plain_factor(float(np.exp(constant)))
            deviation = np.abs(observed - constant * np.exp(terms @ rounded))
        else:
            constant = float(f"{np.round(constant / (_PRECISION * sd)) * _PRECISION * sd:.6g}")
            deviation = np.abs(observed - constant - terms @ rounded)
        exact = _PRECISION * sd
        if not is_product and (deviation > exact).mean() <= 1 - _TRIMMED:
            return _Fit(target, tuple(columns.tolist()), tuple(rounded.tolist()), constant, float(f"{exact:.3g}"))
        tolerance = float(f"{max(exact, np.quantile(deviation, 0.999) * 1.01):.3g}")
        if tolerance <= _greatest_tolerance(observed):
            return _Fit(target, tuple(columns.tolist()), tuple(rounded.tolist()), constant, tolerance)
    return None


def _greatest_tolerance(observed: Floats) -> float:
    """Return the greatest deviation that rounding explains: two hundredths of the spread, or half a step of a column with many steps."""
    sd, step = float(observed.std()), _step(observed)
    return max(_MAX_TOLERANCE * sd, _HALF * step if sd >= _STEPS_PER_SD * step else 0.0)


def _step(observed: Floats) -> float:
    """Return the least difference of two values (n,)."""
    return float(np.diff(np.unique(observed[~np.isnan(observed)])).min(initial=np.inf))


def _plain_factor(factor: float) -> float:
    """Return a factor as people write it: 10,000 for 9,999.7."""
    for digits in (1, 2, 3):
        plain = float(f"{factor:.{digits}g}")
        if abs(plain - factor) <= 5e-4 * abs(factor):
            return plain
    return float(f"{factor:.6g}")


def _one_of_each_set(fits: Sequence[_Fit], values: Floats) -> list[_Fit]:
    """Return one identity of each set of columns.

    It is about the column whose own rounding explains the deviation (an index before a weight), then about one with whole weights, then
    about a sum of positive terms, then about the column that varies most.
    """

    def rank(fit: _Fit) -> tuple[bool, bool, bool, float, int]:
        rounded = fit.tolerance <= _HALF * _step(values[:, fit.target])
        whole = all(weight.is_integer() for weight in fit.weights)
        return rounded, whole, min(fit.weights) > 0, _spread(fit, values), fit.target

    best = {frozenset((fit.target, *fit.columns)): fit for fit in sorted(fits, key=rank)}
    return sorted(best.values(), key=lambda fit: fit.target)


def _spread(fit: _Fit, values: Floats) -> float:
    return float(np.nanstd(values[:, fit.target])) if len(fit.columns) > 1 else 0.0
