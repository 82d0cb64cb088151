"""Whether somebody answers for a stamped table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nearward.release.stamp_check import verify_release
from nearward.synth.provenance import write_stamped
from nearward.tabular.errors import ArtifactError, NoStamp, NotReleased

PASSED = {"components": {"F": {"name": "Fidelity", "status": "passed"}}}
FAILED = {"components": {"F": {"name": "Fidelity", "status": "failed"}}}
REASON = {"reason": "reviewed by the data board", "missed": ["x"]}


def stamped(folder: Path, **changes: Any) -> Path:
    stamp = {
        "package_version": "0",
        "rows": 1,
        "generator": {},
        "audit": PASSED,
        "passed": True,
        "missed": [],
        "accepted_risk": None,
        "sampled_prior": None,
        "privacy": {},
    } | changes
    path = folder / "table.parquet"
    write_stamped(pl.DataFrame({"x": [1]}), path, {key: value for key, value in stamp.items() if value != "absent"})
    return path


def test_a_table_that_passed_or_whose_risk_was_accepted_is_released(tmp_path: Path) -> None:
    assert verify_release(stamped(tmp_path))["passed"]
    accepted = stamped(tmp_path, passed=False, missed=["Fidelity failed"], audit=FAILED, accepted_risk=REASON)
    assert not verify_release(accepted)["passed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"passed": False},
        {"passed": False, "missed": ["Fidelity failed"]},
        {"passed": True, "missed": ["Fidelity failed"]},
        {"audit": None},
        {"audit": FAILED},
        {"audit": {}},
        {"passed": False, "accepted_risk": {"reason": "ok", "missed": []}},
        {"passed": False, "accepted_risk": {"reason": None}},
    ],
)
def test_nobody_answers_for_a_table_that_did_not_pass_and_has_no_reason(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(NotReleased, match="nobody answers for"):
        verify_release(stamped(tmp_path, **changes))
    assert issubclass(NotReleased, ArtifactError)  # exit code 3


@pytest.mark.parametrize("changes", [{"passed": "yes"}, {"missed": "absent"}, {"rows": None}, {"audit": "absent"}, {"accepted_risk": "ok"}])
def test_a_stamp_that_no_export_wrote_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(NoStamp, match="written by no export"):
        verify_release(stamped(tmp_path, **changes))
