"""A process that is watched while it runs: seconds, and the peak of its memory with and without pages of files."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.paths import ROOT

_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class Watched:
    """A run of a module in a process of its own.

    Parameters
    ----------
    result : dict, the JSON in the last line that it printed
    seconds : float
    memory : float, bytes
        Peak of the pages that belong to the process alone (``RssAnon`` in /proc), children included. Pages of mapped files, which the
        system takes back where it needs them, are not counted.
    resident : float, bytes
        Peak of all its resident pages, those of mapped files among them.
    """

    result: dict[str, Any]
    seconds: float
    memory: float
    resident: float


def watch(module: str, *arguments: object) -> Watched:
    """Run ``python -m module arguments`` from the root, and watch it.

    Raises
    ------
    RuntimeError
        It ended with an error.
    """
    began, memory, resident = time.monotonic(), 0.0, 0.0
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while process.poll() is None:
            pages = [_memory(pid) for pid in _family(process.pid)]
            memory, resident = max(memory, sum(own for own, _ in pages)), max(resident, sum(both for _, both in pages))
            time.sleep(_EVERY)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Watched(json.loads(output.splitlines()[-1]), time.monotonic() - began, memory, resident)


def _memory(pid: int) -> tuple[float, float]:
    """Return a process's resident bytes without and with pages of files; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0, 0.0
    kilobytes = {name: float(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if value.endswith(" kB")}
    own = kilobytes.get("RssAnon", 0.0) + kilobytes.get("RssShmem", 0.0)
    return 1024 * own, 1024 * kilobytes.get("VmRSS", 0.0)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]
