"""Differences of dates as further columns of the tokenizer: a stay is learned as a stay, not as two dates of which each has a wide bin.

Dates of one patient lie days apart and the dates of a table years apart. Bins of a date are weeks wide, so that two dates that are each
generated from their bin differ by any number of days. Where rules say that one date is at most another, the policy learns their difference
beside them, and one of both dates is computed. The differences are not in the generated table.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.tabular.rules.kinds import Linear, Order
from nearward.tabular.rules.rule import read_numbers
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools

_MIN_ROWS = 100  # with both dates


@dataclass(frozen=True)
class Difference:
    """A column that is a later minus an earlier date.

    Parameters
    ----------
    later, earlier : str
    computed : str, the one of both that is computed from the other and the difference
    """

    later: str
    earlier: str
    computed: str

    @property
    def name(self) -> str:
        """Name of the column."""
        return f"{self.later} − {self.earlier}"

    @property
    def other(self) -> str:
        """The date that is generated."""
        return self.earlier if self.computed == self.later else self.later

    def column(self, frame: pl.DataFrame) -> pl.Series:
        """Return the difference as a column of durations (n,)."""
        both = [_microseconds(frame.get_column(name)) for name in (self.later, self.earlier)]
        return (both[0] - both[1]).cast(pl.Duration("us")).alias(self.name)

    @property
    def identity(self) -> Linear:
        """The computed date as a weighted sum, in days."""
        return Linear(self.computed, ((self.other, 1.0), (self.name, 1.0 if self.computed == self.later else -1.0)))


def find_differences(frame: pl.DataFrame, rules: Rules) -> tuple[Difference, ...]:
    """Find the differences to learn: a tree of ordered dates, in which each is computed from the one that it differs least from.

    The root is the date that is missing least often and varies least: stays are counted from an admission, not from a birth.

    Parameters
    ----------
    frame : n rows
    rules : Rules
        Their orders say which dates are ordered. Dates of a linear identity are left to it.

    Examples
    --------
    >>> from datetime import date, timedelta
    >>> rng = np.random.default_rng(0)
    >>> admitted = [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 700, 300)]
    >>> frame = pl.DataFrame({"discharged": [day + timedelta(days=int(stay)) for day, stay in zip(admitted, rng.integers(1, 9, 300))]})
    >>> [one.name for one in find_differences(frame.with_columns(admitted=pl.Series(admitted)), Rules((Order("admitted", "discharged"),)))]
    ['discharged − admitted']
    """
    identities = [set(rule.columns) for rule in rules if isinstance(rule, Linear)]
    edges: list[tuple[float, str, str]] = []
    for rule in rules:
        if not isinstance(rule, Order) or not all(_is_date(frame, name) for name in rule.columns):
            continue
        difference = Difference(rule.greater, rule.lesser, rule.greater)
        days = read_numbers(difference.column(frame))
        known = any({rule.lesser, rule.greater} <= identity for identity in identities)
        if not known and difference.name not in frame.columns and (~np.isnan(days)).sum() >= _MIN_ROWS:
            edges.append((float(np.nanstd(days)), rule.lesser, rule.greater))
    return tuple(_rooted(_spanning_forest(sorted(edges)), frame))


def _spanning_forest(edges: list[tuple[float, str, str]]) -> list[tuple[str, str]]:
    """Return the edges (earlier, later) of the smallest spanning forest."""
    component: dict[str, str] = {}

    def find(name: str) -> str:
        while component.get(name, name) != name:
            name = component[name]
        return name

    chosen = []
    for _, earlier, later in edges:
        one, other = find(earlier), find(later)
        if one != other:
            component[one] = other
            chosen.append((earlier, later))
    return chosen


def _rooted(edges: list[tuple[str, str]], frame: pl.DataFrame) -> list[Difference]:
    """Return the differences of a forest, each tree from its root outwards."""

    def rank(name: str) -> tuple[int, float]:
        return frame.get_column(name).null_count(), float(np.nanstd(read_numbers(frame.get_column(name))))

    differences: list[Difference] = []
    reached: set[str] = set()
    for root in sorted({name for edge in edges for name in edge}, key=rank):
        frontier = [] if root in reached else [root]
        reached.add(root)
        for parent in frontier:
            for earlier, later in edges:
                child = later if parent == earlier else earlier if parent == later else parent
                if child not in reached:
                    differences.append(Difference(later, earlier, child))
                    reached.add(child)
                    frontier.append(child)
    return differences


def learned_lower_bounds(differences: Collection[Difference], rules: Rules) -> dict[str, float]:
    """Return 0 for each difference whose order is a rule."""
    orders = {(rule.lesser, rule.greater) for rule in rules if isinstance(rule, Order)}
    return {one.name: 0.0 for one in differences if (one.earlier, one.later) in orders}


def presence_tables(difference: Difference, present: dict[str, Bools]) -> list[tuple[str, str, Bools]]:
    """Return the pairs of tokens that the difference allows: it is present only where both dates are.

    Parameters
    ----------
    difference : Difference
    present : dict of column -> tokens (size,) that some training row has, False for missing where it is not among them;
        ``present[name][0]`` says whether the column may be missing
    """
    tables = []
    for name in (difference.computed, difference.other):
        own, date = np.arange(len(present[difference.name])) > 0, np.arange(len(present[name])) > 0
        always = name == difference.computed and not present[difference.other][0]
        table = own[:, None] == date[None] if always else ~own[:, None] | date[None]
        tables.append((difference.name, name, np.asarray(table)))
    return tables


def _is_date(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and isinstance(frame.schema[name], pl.Date | pl.Datetime)


def _microseconds(column: pl.Series) -> pl.Series:
    times = column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column.dt.cast_time_unit("us")
    return times.to_physical()
