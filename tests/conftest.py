"""Fixtures that several test files ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cohort_folder() -> Path:
    """The folder of public cohorts (Parquet tables with JSON sidecars); without it the test is skipped."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NEARWARD_DATA", beside))
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"no public cohorts (*.parquet) in {folder}: set NEARWARD_DATA")
    return folder
