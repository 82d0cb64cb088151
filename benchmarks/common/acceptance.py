"""Results of an acceptance run: metrics, their limits, and the tables that show them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = dict[str, dict[str, Any]]  # case -> metric -> number, or text


@dataclass(frozen=True)
class Check:
    """One metric; ``limit`` is empty and ``passed`` None where there is no limit."""

    check: str
    case: str
    value: str
    limit: str
    passed: bool | None
    sha256: str


@dataclass
class AcceptanceChecks:
    """Metrics of the weights with this hash, and which of them pass their limits."""

    sha256: str
    checks: list[Check] = field(default_factory=list)
    tables: dict[str, Rows] = field(default_factory=dict)
    console: Console = field(default_factory=Console)

    def add_table(self, check: str, rows: Rows, digits: int = 3) -> None:
        """Print a table, and record its numbers without limits."""
        self.tables[check] = rows
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        table = Table("", *names, title=check, title_justify="left")
        for case, row in rows.items():
            cells = [row.get(name, "") for name in names]
            table.add_row(case, *(cell if isinstance(cell, str) else f"{cell:.{digits}f}" for cell in cells))
            self.checks += [self._check(check, f"{case}: {name}", v, "", None) for name, v in row.items() if not isinstance(v, str)]
        self.console.print(table)

    def require(self, check: str, case: str, value: float, sign: str, limit: float) -> None:
        """Record a metric and whether it is within its limit; NaN fails."""
        passed = value <= limit if sign == "<=" else value >= limit
        self.checks.append(self._check(check, case, value, f"{sign} {limit:.4g}", bool(passed)))

    def _check(self, check: str, case: str, value: float, limit: str, passed: bool | None) -> Check:
        return Check(check, case, f"{value:.6g}", limit, passed, self.sha256)

    @property
    def limited(self) -> list[Check]:
        """The checks that have a limit."""
        return [check for check in self.checks if check.passed is not None]

    def report(self) -> list[str]:
        """Print the checks that have a limit, and return those that failed."""
        table = Table("check", "case", "value", "limit", "", title="limits", title_justify="left")
        for one in self.limited:
            table.add_row(one.check, one.case, one.value, one.limit, "" if one.passed else "[red]FAILED")
        self.console.print(table)
        return [f"{one.check}, {one.case}: {one.value}, required {one.limit}" for one in self.limited if not one.passed]

    def records(self) -> list[dict[str, Any]]:
        """Return the checks as rows of a CSV file."""
        return [asdict(check) for check in self.checks]
