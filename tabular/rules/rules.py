"""The rules of a table, and the rows that violate them.

Shapes: n rows, r rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import require_columns
from nearward.tabular.rules.rule import Rule
from nearward.tabular.typing import Bools


@dataclass(frozen=True)
class Rules:
    """Rules of one table.

    Examples
    --------
    >>> from nearward.tabular.rules.kinds import Order, Range
    >>> rules = Rules((Order("dbp", "sbp"), Range("age", 0, 120)))
    >>> rules.violations(pl.DataFrame({"dbp": [80, 130], "sbp": [120, 90], "age": [50, None]})).tolist()
    [[False, False], [True, False]]
    """

    rules: tuple[Rule, ...] = ()

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __add__(self, other: Rules) -> Rules:
        """Join two sets of rules, the other's first; of equal rules the first is used."""
        return Rules(tuple(dict.fromkeys([*other.rules, *self.rules])))

    @property
    def enforced(self) -> Rules:
        """Those that every synthetic row must satisfy."""
        return Rules(tuple(rule for rule in self.rules if rule.evidence.enforced))

    def violations(self, frame: pl.DataFrame | pl.LazyFrame) -> Bools:
        """Return which row violates which rule.

        Returns
        -------
        (n, r) bool

        Raises
        ------
        MissingColumns
            The frame lacks a column that a rule constrains.
        InputError
            A rule about numbers names a column of text.
        """
        table = to_frame(frame)
        require_columns((name for rule in self.rules for name in rule.columns), table.columns)
        violated = np.zeros((table.height, len(self.rules)), dtype=bool)
        for j, rule in enumerate(self.rules):
            applies, violates = rule.check(table)
            violated[:, j] = applies & violates
        return violated
