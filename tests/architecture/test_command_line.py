"""The command line as a whole: help of every command, one meaning for each option, text by one function."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import nearward
from nearward.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "command_line.py"
_spec = importlib.util.spec_from_file_location("command_line", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
command_line = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(command_line)
LEAVES: dict[str, Any] = {" ".join(words): command for words, command in command_line.leaves(get_command(app))}
# What an option is for is worded by the command where its file or number has another place there.
WORDED = {"--out", "--train", "--holdout", "--rules", "--seed", "--site", "--time", "--threshold", "--positive"}


def test_the_reference_shows_the_help_of_every_command() -> None:
    assert command_line.PAGE.read_text(encoding="utf-8") == command_line.render(), "run .venv/bin/python docs/command_line.py"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_and_the_common_options(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "-h"], prog_name="nearward")
    assert result.exit_code == 0
    assert re.search(rf"Examples:\n\s+nearward {name}\b", result.output), "add \\b and Examples: to its docstring"
    assert "-q, --quiet" in result.output
    assert "-v, --verbose" in result.output


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("name", ["", *LEAVES])
def test_help_fits_the_terminal(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what keeps its lines on a narrow one: the examples, which are to be copied, and lists."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = CliRunner().invoke(app, [*name.split(), "-h"], prog_name="nearward").output
    assert "\x1b" not in text
    free = re.sub(r"(?s)(Examples|Exit codes|Begin with):.*?\n\n", "", text) if columns == 40 else text
    wide = [line for line in free.splitlines() if len(line) > columns]
    assert [line for line in wide if not re.fullmatch(r" *(--[\w-]+ )?\S+", line)] == []


def test_an_option_has_one_meaning_in_all_commands() -> None:
    values, helps = defaultdict(set), defaultdict(set)
    for option, value in re.findall(r"^  (?:-\w, )?(--?\w[\w-]*)(?: (\S+))?", command_line.PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        values[option].add(re.sub("TABLE|FOLDER|FILE", "PATH", value))
    for command in LEAVES.values():
        for parameter in command.params:
            for option in parameter.opts:
                helps[option].add(parameter.help)
    assert "--outcome" in values
    assert {option: found for option, found in values.items() if len(found) > 1} == {}
    several = {option: found for option, found in helps.items() if option.startswith("-") and len(found) > 1 and option not in WORDED}
    assert several == {}, "declare the option once, in nearward/cli/terminal/console.py"


def test_commands_print_for_the_reader_by_say_and_show() -> None:
    """Only errors go past them: otherwise --quiet and --json - would mix text with data."""
    for path in (path for folder in ("cli", "cli/scoring") for path in (ROOT / "nearward" / folder).glob("*.py")):
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]:
            if ast.unparse(call.func) in ("typer.echo", "print"):
                to_stderr = any(keyword.arg == "err" for keyword in call.keywords)
                assert to_stderr or ((path.stem, "__version__") == ("main", "__version__") and "__version__" in ast.unparse(call)), path


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"nearward {nearward.__version__}\n"


def test_markup_is_shown_as_it_is_written() -> None:
    assert "nearward[distributed]" in CliRunner().invoke(app, ["score", "--help"]).output
