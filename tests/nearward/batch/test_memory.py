"""Tests of nearward/batch/memory.py that need a process of their own; its plans are tested in test_batch.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ASKED = "from nearward.batch.memory import resident; print(resident())"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep one account for the process, whatever it runs")
def test_a_small_program_is_not_charged_with_what_its_parent_held() -> None:
    held = b"\1" * 600_000_000  # every page touched: the parent is large when the child starts
    told = subprocess.run([sys.executable, "-c", _ASKED], capture_output=True, text=True, check=True)
    assert len(held) == 600_000_000
    assert 10e6 < float(told.stdout) < 400e6
