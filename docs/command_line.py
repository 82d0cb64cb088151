"""Writes docs/reference/command-line.md: the help of every command, as a terminal of 80 columns shows it.

Usage: .venv/bin/python docs/command_line.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from typer.main import get_command
from typer.testing import CliRunner

from nearward.cli.main import app

PAGE = Path(__file__).parent / "reference" / "command-line.md"
_INTRODUCTION = """# The command line

The help of every command. `docs/command_line.py` writes this page.

- An option has one meaning in all commands. `--quiet` silences progress and text; `--verbose` prints the library's log.
- `-` as a table reads standard input (Parquet, Arrow or CSV, recognized by the first bytes). `--out -` prints a table
  as CSV, `--json -` prints results as JSON; text for readers then goes to standard error.
- On a terminal long work shows a bar with an estimate of what is left; elsewhere it writes JSON lines to standard
  error.
- `nearward --install-completion` completes commands and options in bash, zsh, fish and PowerShell.
- `NO_COLOR=1` and terminals without colour show the same text.
"""


def leaves(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield each command that does something, with its words after ``nearward``."""
    parts = getattr(command, "commands", None)
    if parts is None:
        yield words, command
    else:
        for name, part in parts.items():
            yield from leaves(part, (*words, name))


def render() -> str:
    """Return the page."""
    runner = CliRunner()
    parts = [_INTRODUCTION]
    for words in [(), *(words for words, _ in leaves(get_command(app)))]:
        with mock.patch.dict("os.environ", {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}):
            done = runner.invoke(app, [*words, "--help"], prog_name="nearward")
        if done.exit_code:
            raise RuntimeError(f"nearward {' '.join(words)} --help ended with {done.exit_code}: {done.output}")
        help_text = "\n".join(line.rstrip() for line in done.output.strip("\n").splitlines())
        parts.append(f"## {' '.join(('nearward', *words))}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{PAGE} written\n")
