"""Folders of the benchmarks, subprocesses of one module, and results that are cached in out/ by a digest of the code behind them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.data.atomic_files import replacing

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NEARWARD_DATA", ROOT / "shared" / "data"))  # cohorts: table.parquet with table.json
OUT = ROOT / "out"  # cached results, not under version control
RESULTS = ROOT / "benchmarks" / "results"  # published CSV files
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"


def run_module(module: str, *arguments: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module arguments`` from the root in a process of its own, its output captured."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True, cwd=ROOT, **options)


def source_files(*folders: str) -> list[Path]:
    """Return all Python files below folders of the root, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def digest(files: Iterable[Path], *texts: str) -> str:
    """Return eight hexadecimal digits that change with the contents of files and with texts."""
    content = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    content.update("".join(texts).encode())
    return content.hexdigest()[:8]


def cached_arrays(path: Path, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file; compute and write them first where it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = compute()
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        print(path.stem, flush=True)
    return dict(np.load(path))
