"""Mining of rules that nearly every row satisfies: found on one part of the rows, confirmed on the other.

A rule is *hard* when at most 1 % of the rows it applies to violate it, with 95 % confidence (Clopper–Pearson) on rows that it was not
mined on, and when it is informative: at least 2 % of rows whose columns were shuffled must violate a rule on several columns.
No bound and no category is published that fewer than five patients have.

Shapes: n rows, d columns.

References
----------
Kivinen and Mannila: Approximate inference of functional dependencies from relations (1995), the g3 error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import NamedTuple

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_text
from nearward.tabular.preprocessing.feature_blocks import group_by_first
from nearward.tabular.rules.conditional import mine_exactly_one, mine_missing_where, mine_ranges_where
from nearward.tabular.rules.identities import mine_linear, mine_products
from nearward.tabular.rules.kinds import Depends, Domain, Implies, MissingTogether, Order, Range
from nearward.tabular.rules.rule import Evidence, Rule, read_numbers, read_texts
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class MineConfig:
    """Thresholds of mining.

    Parameters
    ----------
    max_violated : float
        Greatest upper 95 % bound of the share of rows that violate a rule; 1 %: what an attentive clinician would call always.
    min_informative : float
        Least share of shuffled rows that violate a rule on several columns; below it the rule only repeats what the columns say alone.
    min_patients : int
        A bound is the value of the fifth most extreme patient, a category is named if five patients have it: no rule identifies a patient.
    max_categories : int
        Categories, and whole numbers, with more different values are not searched for dependencies.
    max_rows : int
        Rows that are mined, drawn at random; a rule that holds in 99 % of rows is found on these.
    max_each : int
        Rules of each kind, the most informative first.
    """

    max_violated: float = 0.01
    min_informative: float = 0.02
    min_patients: int = 5
    max_categories: int = 60
    max_rows: int = 20_000
    max_each: int = 60


class _Coded(NamedTuple):
    """A category column, or number column with few values, as codes.

    codes : (n,), index into ``categories``; -1 for a rarer value, -2 for a missing one
    categories : values that enough patients have
    """

    codes: Ints
    categories: list[str]


def mine(frame: pl.DataFrame, seed: int, patient_ids: Ints | None = None, config: MineConfig | None = None) -> Rules:
    """Mine the rules of a table.

    Parameters
    ----------
    frame : n rows
        Dates and times count as days since 1970-01-01; other columns that are neither numbers nor text are an error. Leave out names of
        rows and patients.
    seed : int
    patient_ids : (n,), optional
        A patient's rows are all mined on or all confirmed on.
    config : MineConfig, optional

    Returns
    -------
    Rules
        All hard, each with its evidence from the confirming rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> low = rng.normal(80, 10, 2000)
    >>> blood = pl.DataFrame({"dbp": low, "sbp": low + rng.gamma(4, 10, 2000)})
    >>> [str(rule) for rule in mine(blood, seed=0) if rule.kind == "order"]
    ['dbp is at most sbp']
    """
    config = config or MineConfig()
    rng = np.random.default_rng(seed)
    patient_ids = np.arange(frame.height) if patient_ids is None else np.unique(patient_ids, return_inverse=True)[1]
    rows = np.sort(rng.permutation(frame.height)[: config.max_rows])
    half = (rng.permutation(int(patient_ids.max()) + 1) % 2)[patient_ids[rows]]
    table = _conform(frame)
    mined_on, confirmed_on = table[rows[half == 0]], table[rows[half == 1]]
    shuffled = pl.DataFrame([column.gather(rng.permutation(len(column))) for column in mined_on.iter_columns()])
    rules: list[Rule] = []
    for candidates in _candidates(mined_on, patient_ids[rows[half == 0]], config):
        confirmed = [(result, rule) for rule in candidates if (result := _confirm(rule, confirmed_on, shuffled, config)) is not None]
        confirmed.sort(key=lambda pair: -pair[0][0])
        rules += [replace(rule, evidence=evidence) for (_, evidence), rule in confirmed[: config.max_each]]
    return Rules(tuple(rules))


def upper_bound(violations: int, rows: int) -> float:
    """Upper 95 % bound of a share (Clopper–Pearson, one-sided)."""
    from scipy.special import betaincinv

    return 1.0 if violations >= rows else float(betaincinv(violations + 1, rows - violations, 0.95))


def _conform(frame: pl.DataFrame) -> pl.DataFrame:
    columns = []
    for column in frame.iter_columns():
        number = column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Null
        columns.append(pl.Series(column.name, read_numbers(column)).fill_nan(None) if number else read_texts(column))
    return pl.DataFrame(columns)


def _candidates(frame: pl.DataFrame, patient_ids: Ints, config: MineConfig) -> Iterator[list[Rule]]:
    """Yield the candidates of each kind."""
    numbers = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    encoded = {name: _encode(frame.get_column(name), patient_ids, config) for name in frame.columns}
    coded = {name: column for name, column in encoded.items() if column is not None}
    values = frame.select(numbers).to_numpy() if numbers else np.zeros((0, 0))
    yield _ranges(frame, numbers, coded, patient_ids, config)
    yield [Domain(name, tuple(column.categories)) for name, column in coded.items() if frame.schema[name] == pl.String]
    together = _missing_together(frame)
    yield together
    yield _orders(values, numbers)
    dependencies = list(_dependencies(coded, patient_ids, config))
    yield dependencies
    dependent = {rule.columns for rule in dependencies}
    yield list(_implications({pair for pair in permutations(coded, 2) if pair not in dependent}, coded, config))
    linear = mine_linear(values, numbers)
    yield [*linear]
    yield [*mine_products(values, numbers, linear)]
    yield [*mine_exactly_one(frame)]
    yield [*mine_missing_where(frame, coded, [frozenset(rule.columns) for rule in together])]
    yield [*mine_ranges_where(frame, numbers, coded, patient_ids, config.min_patients)]


def _confirm(rule: Rule, frame: pl.DataFrame, shuffled: pl.DataFrame, config: MineConfig) -> tuple[float, Evidence] | None:
    """Return the share of shuffled rows that violate a rule, and its evidence; None where it is not hard."""
    applies, violates = rule.check(frame)
    rows, violations = int(applies.sum()), int((applies & violates).sum())
    if rows == 0 or (bound := upper_bound(violations, rows)) > config.max_violated:
        return None
    applies, violates = rule.check(shuffled)
    informative = float((applies & violates).sum() / max(applies.sum(), 1))
    if len(rule.columns) > 1 and informative < config.min_informative:
        return None
    return informative, Evidence("mined", rows, violations, round(bound, 5))


def _encode(column: pl.Series, patient_ids: Ints, config: MineConfig) -> _Coded | None:
    """Encode a category, or a number with few values; None where it has too few or too many."""
    if column.dtype == pl.Float64:
        numbers = column.drop_nulls()
        if numbers.n_unique() > config.max_categories or bool((numbers != numbers.round()).any()):
            return None
    text = as_text(column, column.name)
    patients = pl.DataFrame([text.alias("value"), pl.Series("patient", patient_ids)]).drop_nulls()
    counts = patients.group_by("value").agg(pl.col("patient").n_unique())
    categories = counts.filter(pl.col("patient") >= config.min_patients).get_column("value").sort().to_list()
    if not 2 <= len(categories) <= config.max_categories:
        return None
    codes = text.replace_strict(categories, list(range(len(categories))), default=-1, return_dtype=pl.Int64)
    return _Coded(np.where(text.is_null().to_numpy(), -2, codes.to_numpy()), categories)


def _ranges(frame: pl.DataFrame, numbers: list[str], coded: dict[str, _Coded], patient_ids: Ints, config: MineConfig) -> list[Rule]:
    """Bound numbers by the values of the fifth most extreme patients; list the values of numbers that have two."""
    rules: list[Rule] = []
    for name in numbers:
        if name in coded and len(coded[name].categories) == 2:
            rules.append(Domain(name, tuple(coded[name].categories)))
            continue
        present = pl.DataFrame([frame.get_column(name).alias("x"), pl.Series("patient", patient_ids)]).drop_nulls()
        extremes = present.group_by("patient").agg(least=pl.col("x").min(), greatest=pl.col("x").max())
        if extremes.height >= 2 * config.min_patients:
            low, high = extremes["least"].sort()[config.min_patients - 1], extremes["greatest"].sort()[-config.min_patients]
            rules.append(Range(name, float(low), float(high)))
    return rules


def _missing_together(frame: pl.DataFrame) -> list[Rule]:
    """Group columns whose missing values nearly coincide."""
    names = [c.name for c in frame.iter_columns() if 0.01 <= c.null_count() / max(len(c), 1) <= 0.99]
    missing = {name: frame.get_column(name).is_null().to_numpy() for name in names}
    groups = group_by_first(names, lambda first, name: bool((missing[first] != missing[name]).mean() <= 0.01))
    return [MissingTogether(tuple(group)) for group in groups]


def _orders(values: Floats, numbers: list[str]) -> list[Rule]:
    rules: list[Rule] = []
    for i, j in permutations(range(len(numbers)), 2):
        both = _present(values, i, j)
        x, y = values[both, i], values[both, j]
        if len(x) and (x > y).mean() <= 0.01 and (x < y).any():
            rules.append(Order(numbers[i], numbers[j]))
    return rules


def _dependencies(coded: dict[str, _Coded], patient_ids: Ints, config: MineConfig) -> Iterator[Rule]:
    """Yield dependencies with a small g3 error: the share of rows to remove until the dependency holds."""
    for given, column in permutations(coded, 2):
        cause, effect = coded[given], coded[column]
        if len(cause.categories) < len(effect.categories):
            continue
        table = _contingency(cause, effect)
        rows = table.sum()
        if (
            rows == 0
            or 1 - table.max(axis=1).sum() / rows > config.max_violated
            or 1 - table.sum(axis=0).max() / rows < config.min_informative
        ):
            continue
        unique = np.unique(np.stack([patient_ids, cause.codes, effect.codes]), axis=1)  # a patient's equal rows count once
        patients = _contingency(cause._replace(codes=unique[1]), effect._replace(codes=unique[2]))
        implied = table.argmax(axis=1)
        common = [a for a in range(len(cause.categories)) if patients[a, implied[a]] >= config.min_patients]
        yield Depends(column, given, tuple((cause.categories[a], effect.categories[int(implied[a])]) for a in common))


def _implications(pairs: set[tuple[str, str]], coded: dict[str, _Coded], config: MineConfig) -> Iterator[Rule]:
    """Yield pairs of values that always, or never, occur together, and would not by chance alone."""
    for where, column in sorted(pairs):
        cause, effect = coded[where], coded[column]
        table = _contingency(cause, effect)
        marginal = table.sum(axis=0) / max(table.sum(), 1)
        for a in np.flatnonzero(table.sum(axis=1) >= 150):  # fewer could not be confirmed
            conditional = table[a] / table[a].sum()
            always = np.flatnonzero((conditional >= 1 - config.max_violated) & (marginal <= 1 - 2 * config.min_informative))
            if len(always):
                yield Implies(where, cause.categories[a], column, effect.categories[always[0]])
                continue
            for b in np.flatnonzero((conditional <= config.max_violated / 4) & (marginal >= 2 * config.min_informative)):
                yield Implies(where, cause.categories[a], column, effect.categories[b], never=True)


def _contingency(cause: _Coded, effect: _Coded) -> Ints:
    """Count the rows with each pair of categories."""
    rows, columns = len(cause.categories), len(effect.categories)
    both = (cause.codes >= 0) & (effect.codes >= 0)
    return np.bincount(cause.codes[both] * columns + effect.codes[both], minlength=rows * columns).reshape(rows, columns)


def _present(values: Floats, i: int, j: int) -> Bools:
    return ~(np.isnan(values[:, i]) | np.isnan(values[:, j]))
