"""Small files that are too large: refused before they are read, wherever they are read."""

from __future__ import annotations

import os

import polars as pl
import pytest

from nearward.batch.summary import SUMMARY, read_summary
from nearward.synth.provenance import read_stamp
from nearward.tabular.data.limited_reading import TooLarge, read_at_most
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError, NoStamp, RuleError
from nearward.tabular.rules.yaml_io import from_yaml, read_rules


def test_a_file_is_read_up_to_its_limit(tmp_path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_at_most(path, 5) == b"12345"
    with pytest.raises(TooLarge, match="larger than 4 bytes"):
        read_at_most(path, 4)


def test_a_file_without_a_size_is_read_no_further_than_its_limit() -> None:
    with pytest.raises(TooLarge):
        read_at_most(__import__("pathlib").Path("/dev/zero"), 100)


def test_huge_sparse_files_are_refused(tmp_path) -> None:
    pl.DataFrame({"x": [1]}).write_csv(tmp_path / "s.csv")
    for name in ("r.yaml", "s.csv.json", "schema.json", SUMMARY):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 40_000_000_000)
    with pytest.raises(RuleError, match="cannot be read: TooLarge"):
        read_rules(tmp_path / "r.yaml")
    with pytest.raises(NoStamp):
        read_stamp(tmp_path / "s.csv")
    with pytest.raises(InputError, match="cannot be read as a schema: TooLarge"):
        Schema.read(tmp_path / "schema.json")
    with pytest.raises(InputError, match="not a job's summary: TooLarge"):
        read_summary(tmp_path)


def test_rules_with_aliases_are_refused_before_they_are_expanded() -> None:
    """Merge keys of merge keys: nine lines, a hundred million pairs."""
    lines = ["format: nearward-rules/1", "a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9)]
    with pytest.raises(RuleError, match="alias"):
        from_yaml("\n".join(lines))
