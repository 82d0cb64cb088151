"""Progress: JSON lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
import json
import re

import pytest

from nearward.cli.terminal.progress import show_progress


def test_a_log_gets_json_lines_that_count_up():
    log = io.StringIO()
    with show_progress("score", 30, log) as progress:
        progress("first", 10)
        progress(done=20)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["what"], line["done"], line["of"]) for line in lines] == [("score", 10, 30), ("score", 30, 30)]
    assert lines[0]["step"] == "first"
    assert "step" not in lines[1]
    assert lines[1]["seconds"] >= lines[0]["seconds"] >= 0


def test_a_terminal_shows_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with show_progress("score", 3, screen) as progress:
        for _ in range(3):
            progress("rows")
    assert "score: rows" in screen.getvalue()
    assert "3/3" in screen.getvalue()
    assert "{" not in screen.getvalue()


@pytest.mark.parametrize("columns", [40, 80])
def test_without_colour_and_on_a_narrow_terminal_the_bar_has_no_colour_and_no_line_is_too_wide(monkeypatch, columns: int):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Terminal()
    with show_progress("fit", 3, screen) as progress:
        for _ in range(3):
            progress("encoders of the folds")
    assert not re.search(r"\x1b\[[0-9;]*[34]\d", screen.getvalue())  # a colour
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", screen.getvalue())
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= columns
    assert "3/3" in text
