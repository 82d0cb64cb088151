"""Messages reach the caller and the log; the library is silent by itself."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from nearward.tabular.progress import logged


def test_messages_reach_the_caller_and_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[str] = []
    with caplog.at_level(logging.INFO, "nearward"):
        logged(steps.append, "nearward.test")("stack")
        logged(1, "nearward.test")("calibration")
        logged(0, "nearward.test")("silent")
    assert steps == ["stack"]
    assert capsys.readouterr().out == "calibration\n"
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("nearward.test", "stack"),
        ("nearward.test", "calibration"),
        ("nearward.test", "silent"),
    ]


def test_the_library_is_silent_unless_logging_is_configured() -> None:
    code = "import logging, nearward; logging.getLogger('nearward.tabular').warning('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
