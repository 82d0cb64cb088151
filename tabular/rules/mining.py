"""Finds rules that nearly every row keeps: mined on one part of the rows, kept only if confirmed on the other.

A rule is *hard* when at most 1 % of the rows it speaks of break it, with 95 % confidence (Clopper–Pearson) on rows that it was not
mined on, and when it says something: a rule on several columns must be broken by at least 2 % of rows whose columns were shuffled.
No bound and no level is published that fewer than five patients have.

Letters: n rows, d columns.

References
----------
Kivinen and Mannila: Approximate inference of functional dependencies from relations (1995), the g3 error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.rules.rules import Depends, Domain, Evidence, Implies, Linear, MissingTogether, Order, Range, Rule, Rules
from nearward.tabular.typing import Ints


@dataclass(frozen=True)
class MineConfig:
    """What counts as a rule.

    Parameters
    ----------
    most_broken : float
        Greatest upper 95 % bound of the share of rows that break it; 1 %: what an attentive clinician would call always.
    least_said : float
        Least share of shuffled rows that break a rule on several columns; below it the rule only repeats what the columns say alone.
    fewest : int
        A bound is the value of the fifth most extreme patient, a level is named if five patients have it: nobody is singled out by a rule.
    most_levels : int
        Categories, and whole numbers, with more different values are not searched for dependencies.
    most_rows : int
        Rows that are looked at, drawn at random; a rule that holds in 99 % of rows is found on these.
    most_each : int
        Rules kept of each kind, those that say most first.
    """

    most_broken: float = 0.01
    least_said: float = 0.02
    fewest: int = 5
    most_levels: int = 60
    most_rows: int = 20_000
    most_each: int = 60


def mine(frame: pl.DataFrame, seed: int, patient: Ints | None = None, config: MineConfig | None = None) -> Rules:
    """Mine the rules of a table.

    Parameters
    ----------
    frame : n rows
        Columns that are neither numbers nor text are an error; leave out names of rows and patients.
    seed : int
    patient : (n,), optional
        Patient numbers; a patient's rows are all mined on or all confirmed on.

    Returns
    -------
    Rules
        All hard, each with its evidence from the confirming rows.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> low = draw.normal(80, 10, 2000)
    >>> blood = pl.DataFrame({"dbp": low, "sbp": low + draw.gamma(4, 10, 2000)})
    >>> [str(rule) for rule in mine(blood, seed=0) if rule.kind == "order"]
    ['dbp is at most sbp']
    """
    config = config or MineConfig()
    draw = np.random.default_rng(seed)
    who = np.arange(frame.height) if patient is None else np.unique(patient, return_inverse=True)[1]
    rows = np.sort(draw.permutation(frame.height)[: config.most_rows])
    side = (draw.permutation(int(who.max()) + 1) % 2)[who[rows]]
    table = _canonical(frame)
    mined_on, confirmed_on = table[rows[side == 0]], table[rows[side == 1]]
    shuffled = pl.DataFrame([column.gather(draw.permutation(len(column))) for column in mined_on.iter_columns()])
    kept: list[Rule] = []
    for candidates in _families(mined_on, who[rows[side == 0]], config):
        hard = [(said, rule) for rule in candidates if (said := _confirmed(rule, confirmed_on, shuffled, config)) is not None]
        hard.sort(key=lambda pair: -pair[0][0])
        kept += [_with(rule, evidence) for (_, evidence), rule in hard[: config.most_each]]
    return Rules(tuple(kept))


def upper_bound(broken: int, rows: int) -> float:
    """Upper 95 % bound of a share (Clopper–Pearson, one-sided)."""
    from scipy import stats

    return 1.0 if broken >= rows else float(stats.beta.ppf(0.95, broken + 1, rows - broken))


def _canonical(frame: pl.DataFrame) -> pl.DataFrame:
    columns = []
    for column in frame.iter_columns():
        number = column.dtype.is_numeric() or column.dtype == pl.Null
        columns.append(as_number(column, column.name) if number else as_text(column, column.name))
    return pl.DataFrame(columns)


def _families(frame: pl.DataFrame, who: Ints, config: MineConfig) -> Iterator[list[Rule]]:
    numbers = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    coded = {name: found for name in frame.columns if (found := _levels(frame.get_column(name), who, config)) is not None}
    yield _ranges(frame, numbers, coded, who, config)
    yield _domains(frame, coded)
    yield _missing(frame)
    yield _orders(frame, numbers)
    dependencies = list(_dependencies(coded, who, config))
    yield dependencies
    told = {rule.columns for rule in dependencies}
    yield list(_implications({pair for pair in permutations(coded, 2) if pair not in told}, coded, config))
    yield _linear(frame, numbers)


def _confirmed(rule: Rule, frame: pl.DataFrame, shuffled: pl.DataFrame, config: MineConfig) -> tuple[float, Evidence] | None:
    speaks, breaks = rule.judged(frame)
    rows, broken = int(speaks.sum()), int((speaks & breaks).sum())
    if rows == 0 or (bound := upper_bound(broken, rows)) > config.most_broken:
        return None
    speaks_then, breaks_then = rule.judged(shuffled)
    said = float((speaks_then & breaks_then).sum() / max(speaks_then.sum(), 1))
    if len(rule.columns) > 1 and said < config.least_said:
        return None
    return said, Evidence("mined", rows, broken, round(bound, 5))


def _with(rule: Rule, evidence: Evidence) -> Rule:
    return replace(rule, evidence=evidence)


def _levels(column: pl.Series, who: Ints, config: MineConfig) -> tuple[Ints, list[str]] | None:
    """Code a category, or a number with few values: levels that five patients have; -1 for rarer ones, -2 for missing."""
    if column.dtype == pl.Float64:
        seen = column.drop_nulls()
        if seen.n_unique() > config.most_levels or bool((seen != seen.round()).any()):
            return None
    text = as_text(column, column.name)
    counted = pl.DataFrame([text.alias("level"), pl.Series("who", who)]).drop_nulls().group_by("level").agg(pl.col("who").n_unique())
    levels = counted.filter(pl.col("who") >= config.fewest).get_column("level").sort().to_list()
    if not 2 <= len(levels) <= config.most_levels:
        return None
    code = text.replace_strict(levels, list(range(len(levels))), default=-1, return_dtype=pl.Int64)
    return np.where(text.is_null().to_numpy(), -2, code.to_numpy()), levels


def _ranges(frame: pl.DataFrame, numbers: list[str], coded: dict[str, tuple[Ints, list[str]]], who: Ints, config: MineConfig) -> list[Rule]:
    rules: list[Rule] = []
    for name in numbers:
        there = pl.DataFrame([frame.get_column(name).alias("x"), pl.Series("who", who)]).drop_nulls()
        own = there.group_by("who").agg(least=pl.col("x").min(), greatest=pl.col("x").max())  # of each patient
        if name in coded and len(coded[name][1]) == 2:
            rules.append(Domain(name, tuple(coded[name][1])))
        elif own.height >= 2 * config.fewest:
            low, high = own["least"].sort()[config.fewest - 1], own["greatest"].sort()[-config.fewest]
            rules.append(Range(name, float(low), float(high)))
    return rules


def _domains(frame: pl.DataFrame, coded: dict[str, tuple[Ints, list[str]]]) -> list[Rule]:
    return [Domain(name, tuple(levels)) for name, (_, levels) in coded.items() if frame.schema[name] == pl.String]


def _missing(frame: pl.DataFrame) -> list[Rule]:
    """Join columns whose missing cells nearly coincide into groups."""
    names = [c.name for c in frame.iter_columns() if 0.01 <= c.null_count() / max(len(c), 1) <= 0.99]
    mask = np.stack([frame.get_column(name).is_null().to_numpy() for name in names]) if names else np.zeros((0, frame.height), dtype=bool)
    groups: list[list[int]] = []
    for j in range(len(names)):
        home = next((group for group in groups if (mask[group[0]] != mask[j]).mean() <= 0.01), None)
        if home is None:
            groups.append([j])
        else:
            home.append(j)
    return [MissingTogether(tuple(names[j] for j in group)) for group in groups if len(group) > 1]


def _orders(frame: pl.DataFrame, numbers: list[str]) -> list[Rule]:
    values = frame.select(numbers).to_numpy() if numbers else np.zeros((0, 0))
    rules: list[Rule] = []
    for i, j in permutations(range(len(numbers)), 2):
        both = ~(np.isnan(values[:, i]) | np.isnan(values[:, j]))
        x, y = values[both, i], values[both, j]
        if len(x) and (x > y).mean() <= 0.01 and (x < y).any():
            rules.append(Order(numbers[i], numbers[j]))
    return rules


def _dependencies(coded: dict[str, tuple[Ints, list[str]]], who: Ints, config: MineConfig) -> Iterator[Rule]:
    """Yield dependencies whose g3 error, the share of rows to leave out until it holds, is small."""
    for on, column in permutations(coded, 2):
        (cause, causes), (effect, effects) = coded[on], coded[column]
        if len(causes) < len(effects):
            continue
        table = _crossed(cause, len(causes), effect, len(effects))
        rows = table.sum()
        if rows == 0 or 1 - table.max(axis=1).sum() / rows > config.most_broken or 1 - table.sum(axis=0).max() / rows < config.least_said:
            continue
        each = np.unique(np.stack([who, cause, effect]), axis=1)  # a patient's rows that say the same count once
        patients = _crossed(each[1], len(causes), each[2], len(effects))
        common = [a for a in range(len(causes)) if patients[a, table[a].argmax()] >= config.fewest]
        yield Depends(column, on, tuple((causes[a], effects[int(table[a].argmax())]) for a in common))


def _implications(pairs: set[tuple[str, str]], coded: dict[str, tuple[Ints, list[str]]], config: MineConfig) -> Iterator[Rule]:
    """Yield level pairs that always, or never, go together, where chance alone would have mixed them."""
    for where, column in sorted(pairs):
        (cause, causes), (effect, effects) = coded[where], coded[column]
        table = _crossed(cause, len(causes), effect, len(effects))
        base = table.sum(axis=0) / max(table.sum(), 1)
        for a in np.flatnonzero(table.sum(axis=1) >= 150):  # fewer could not be confirmed
            share = table[a] / table[a].sum()
            always = np.flatnonzero((share >= 1 - config.most_broken) & (base <= 1 - 2 * config.least_said))
            if len(always):
                yield Implies(where, causes[a], column, effects[always[0]])
                continue
            for b in np.flatnonzero((share <= config.most_broken / 4) & (base >= 2 * config.least_said)):
                yield Implies(where, causes[a], column, effects[b], never=True)


def _crossed(cause: Ints, causes: int, effect: Ints, effects: int) -> Ints:
    both = (cause >= 0) & (effect >= 0)
    return np.bincount(cause[both] * effects + effect[both], minlength=causes * effects).reshape(causes, effects)


def _linear(frame: pl.DataFrame, numbers: list[str]) -> list[Rule]:
    """Find z = x + y to within rounding, and z = weight × x + constant."""
    values = frame.select(numbers).to_numpy() if numbers else np.zeros((0, 0))
    several = [j for j in range(len(numbers)) if len(np.unique(values[~np.isnan(values[:, j]), j])) > 4]
    rules: list[Rule] = []
    tied: set[tuple[int, int]] = set()
    for i, j in combinations(several, 2):
        both = ~(np.isnan(values[:, i]) | np.isnan(values[:, j]))
        x, z = values[both, i], values[both, j]
        if len(x) < 30 or x.std() == 0 or z.std() == 0 or abs(np.corrcoef(x, z)[0, 1]) < 0.9999:
            continue
        fine = 1e-6 * float(z.std())  # nothing finer is meant by a rule: two equal columns fit with a constant of 1e-16
        weight, constant = np.polyfit(x, z, 1)
        weight, constant = float(f"{weight:.6g}"), float(f"{np.round(constant / fine) * fine:.6g}")
        tolerance = float(f"{max(fine, np.quantile(np.abs(z - weight * x - constant), 0.999) * 1.01):.3g}")
        if tolerance <= 0.02 * z.std():
            rules.append(Linear(numbers[j], ((numbers[i], weight),), constant, tolerance))
            tied.add((i, j))
    near = {z: 1e-6 * max(float(np.nanstd(values[:, z])), 1e-12) for z in several}
    for i, j in combinations(several, 2):
        if (i, j) in tied:
            continue
        total = values[:, i] + values[:, j]
        for z in several:
            if z in (i, j):
                continue
            there = ~(np.isnan(total) | np.isnan(values[:, z]))
            few, scale = np.flatnonzero(there)[:20], near[z]  # most candidates are out after these
            if len(few) == 0 or (np.abs(total[few] - values[few, z]) > scale).sum() > 1 or there.sum() < 30:
                continue
            if (np.abs(total - values[:, z])[there] > scale).mean() <= 0.01:
                rules.append(Linear(numbers[z], ((numbers[i], 1.0), (numbers[j], 1.0)), 0.0, float(f"{scale:.3g}")))
    return rules
