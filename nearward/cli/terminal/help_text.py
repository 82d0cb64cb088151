"""Help of a command on a terminal that is narrower than its usual layout, which would break words at the edge."""

from __future__ import annotations

import shutil
from typing import Any

from typer.core import TyperCommand, TyperGroup

_USUAL_WIDTH = 52  # columns from which on the usual layout fits
_LEAST_WIDTH = 24


class _AdaptsToWidth:
    """Lays the help out for the terminal's width."""

    def get_help(self, ctx: Any) -> str:
        columns = shutil.get_terminal_size().columns
        if columns < _USUAL_WIDTH:
            ctx.terminal_width = max(columns, _LEAST_WIDTH) - 2
            ctx.formatter_class = _narrow(ctx.formatter_class)
        return str(super().get_help(ctx))  # type: ignore[misc]


class Command(_AdaptsToWidth, TyperCommand):
    """A command whose help adapts to the width."""


class CommandGroup(_AdaptsToWidth, TyperGroup):
    """A group of commands whose help adapts to the width."""


def _narrow(formatter: type[Any]) -> type[Any]:
    class Narrow(formatter):  # type: ignore[misc]
        def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
            super().write_dl(rows, min(col_max, self.width // 8), col_spacing)

    return Narrow
