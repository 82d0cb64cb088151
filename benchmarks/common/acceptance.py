"""What an acceptance run measured: figures, what was wanted of them, and the tables that show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Book:
    """What was measured: a line for each figure; ``wanted`` is empty and ``passed`` None where nothing is asked of it."""

    sha256: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    console: Console = field(default_factory=Console)

    def table(self, check: str, rows: dict[str, dict[str, Any]], digits: int = 3) -> None:
        """Print a table, and note its numbers."""
        self.tables[check] = rows
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        shown = Table("", *names, title=check, title_justify="left")
        for case, row in rows.items():
            cells = [row.get(name, "") for name in names]
            shown.add_row(case, *(cell if isinstance(cell, str) else f"{cell:.{digits}f}" for cell in cells))
            self.lines += [self._line(check, f"{case}: {name}", v, "", None) for name, v in row.items() if not isinstance(v, str)]
        self.console.print(shown)

    def want(self, check: str, case: str, value: float, sign: str, limit: float) -> None:
        """Note a figure and whether it is as wanted; one that is no number fails."""
        passed = value <= limit if sign == "<=" else value >= limit
        self.lines.append(self._line(check, case, value, f"{sign} {limit:.4g}", bool(passed)))

    def _line(self, check: str, case: str, value: float, wanted: str, passed: bool | None) -> dict[str, Any]:
        return {"check": check, "case": case, "value": f"{value:.6g}", "wanted": wanted, "passed": passed, "sha256": self.sha256}

    def close(self) -> list[str]:
        """Print what was wanted; returns what failed."""
        judged = [line for line in self.lines if line["passed"] is not None]
        shown = Table("check", "case", "value", "wanted", "", title="wanted", title_justify="left")
        for line in judged:
            shown.add_row(line["check"], line["case"], line["value"], line["wanted"], "" if line["passed"] else "[red]FAILED")
        self.console.print(shown)
        return [f"{line['check']}, {line['case']}: {line['value']}, wanted {line['wanted']}" for line in judged if not line["passed"]]
