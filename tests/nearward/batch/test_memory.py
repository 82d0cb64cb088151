"""Peak memory of a process; the plans of nearward/batch/memory.py are tested in test_job.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PRINT_PEAK = "from nearward.batch.memory import peak_memory; print(peak_memory())"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report the peak of the process, whatever program it runs")
def test_the_peak_of_a_small_program_is_not_that_of_its_large_parent() -> None:
    large = b"\1" * 600_000_000  # every page touched: the parent is large when the child starts
    done = subprocess.run([sys.executable, "-c", _PRINT_PEAK], capture_output=True, text=True, check=True)
    assert len(large) == 600_000_000
    assert 10e6 < float(done.stdout) < 400e6
