"""Text for readers and data for programs: standard output has one of them."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import polars as pl
import pytest

from nearward.cli.terminal.output import begin_output, check_files, refuse_overwriting, say, show, write_json, write_rows
from nearward.tabular.errors import InputError


def test_text_leaves_standard_output_where_data_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    begin_output(quiet=False, data=True)
    say("three rows")
    show(pl.DataFrame({"a": [1], "unit": [None]}), "title")
    write_json({"frame": pl.DataFrame({"a": [1.5, math.nan]}), "pair": (1, None), "path": Path("x")}, Path("-"))
    write_rows(pl.DataFrame({"risk": [0.25]}), Path("-"))
    out, err = capsys.readouterr()
    body, _, table = out.rpartition("risk\n")
    assert json.loads(body) == {"frame": [{"a": 1.5}, {"a": None}], "pair": [1, None], "path": "x"}
    assert table == "0.25\n"
    assert "three rows" in err
    assert "unit" not in err


def test_numbers_are_printed_with_three_digits_and_without_powers_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    begin_output(quiet=False, data=False)
    show(pl.DataFrame({"events": [1140.4, 35_749.6, 0.12345, 2.5e7]}))
    assert capsys.readouterr().out.split()[2:] == ["1140", "35750", "0.123", "2.5e+07"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    begin_output(quiet=True, data=False)
    say("three rows")
    show(pl.DataFrame({"a": [1]}), "title")
    begin_output(quiet=False, data=False)
    assert capsys.readouterr() == ("", "")


def test_files_that_cannot_be_written_are_refused_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("kept")
    check_files({"--report": tmp_path / "new.html", "--json": Path("-"), "--picture": None})
    for path, reason in (
        (tmp_path, "is a folder: name a file"),
        (tmp_path / "nowhere" / "report.html", "no such folder"),
        (tmp_path / "file" / "report.html", "no such folder"),
    ):
        with pytest.raises(InputError, match=rf"^--report {re.escape(str(path))} .*{reason}.* Nothing was computed$"):
            check_files({"--report": path})
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(InputError, match="no permission to write into the folder"):
        check_files({"--json": tmp_path / "results.json"})
    assert (tmp_path / "file").read_text() == "kept"


def test_json_goes_to_a_file(tmp_path: Path) -> None:
    write_json({"rows": 3}, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == {"rows": 3}
    write_json({"rows": 3}, None)


def test_a_file_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    cohort, other = tmp_path / "cohort.csv", tmp_path / "link.csv"
    cohort.write_text("age")
    other.symlink_to(cohort)
    for name in ("out", "report", "json", "picture"):
        with pytest.raises(InputError, match=rf"--{name} .* is a file that this command reads, and would be overwritten"):
            refuse_overwriting({"tables": [cohort], name: other})
    refuse_overwriting({"model": tmp_path, "out": tmp_path, "cohort": cohort, "json": tmp_path / "new.json", "group": "patient"})
