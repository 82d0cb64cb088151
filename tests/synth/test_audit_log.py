"""The count of audited tables: kept with the generator, across processes, and never in the way of reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearward.synth.audit_log import FILE, AuditedTable, AuditLog
from nearward.tabular.errors import ArtifactError, DataWarning


def table(name: str, *, passed: bool = False) -> AuditedTable:
    return AuditedTable(name, 0, 100, passed)


def test_tables_are_counted_across_loads_and_the_same_table_once(tmp_path: Path) -> None:
    log = AuditLog()
    log.add(table("a"))
    log.save(tmp_path)
    AuditLog.load(tmp_path).add(table("b", passed=True))
    again = AuditLog.load(tmp_path)
    again.add(table("b", passed=True))
    assert again.counts() == AuditLog.load(tmp_path).counts() == {"audited": 2, "passed": 1}


def test_another_generator_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    first = AuditLog()
    first.add(table("a"))
    first.save(tmp_path)
    AuditLog().save(tmp_path)
    assert AuditLog.load(tmp_path).counts() == {"audited": 0, "passed": 0}


def test_a_folder_without_a_log_has_no_audits(tmp_path: Path) -> None:
    assert AuditLog.load(tmp_path).counts() == {"audited": 0, "passed": 0}


WRONG_TYPE = b'{"sha256": 1, "seed": 0, "rows": 1, "passed": true}'


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"7", b'{"sha256": "a"}', WRONG_TYPE, b"\xff"])
def test_a_damaged_log_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        AuditLog.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_warned_of(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "gone")
    with pytest.warns(DataWarning, match="will not count"):
        log.add(table("a"))
    assert log.counts()["audited"] == 1
