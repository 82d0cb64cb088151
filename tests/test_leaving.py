from __future__ import annotations

import sys
from types import SimpleNamespace

import polars as pl
import pytest

from nearward import cli, leaving
from nearward.audit import AuditRows
from nearward.synth.stamp import read_stamp
from nearward.tabular.rules import Rules

REASON = "reviewed by the data board"


@pytest.fixture
def nearward(monkeypatch, ward):
    """The command line, with a generator in the folder's place that gives train away."""
    rows = AuditRows(ward(600, 1), ward(600, 2), "died", 1)
    model = SimpleNamespace(audit_rows=rows, rules=Rules(), seed=0, outcome="died", positive=1, groups=None)
    model.sample = lambda n, where=None, seed=None: rows.train[:n]
    monkeypatch.setattr(leaving, "_load", lambda folder: model)

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["nearward", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call


def test_a_copy_is_refused_with_exit_code_3_unless_somebody_answers_for_it(nearward, tmp_path, capsys):
    out = tmp_path / "synth.parquet"
    assert nearward("synth", "export", tmp_path, "-n", 600, "--out", out, "--report", tmp_path / "card.html") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["card.html"]
    told = capsys.readouterr()
    assert "FAITH-style card" in told.out
    assert "Inference resistance failed" in told.err
    assert "export refused" in told.err
    assert nearward("synth", "export", tmp_path, "-n", 600, "--out", out, "--accept-risk", REASON) == 0
    assert read_stamp(out)["accepted_risk"]["reason"] == REASON
    capsys.readouterr()
    assert nearward("synth", "check", out) == 0
    told = capsys.readouterr().out
    assert REASON in told
    assert "did NOT pass" in told
    pl.read_parquet(out)[:-1].write_parquet(out, metadata={"nearward": pl.read_parquet_metadata(out)["nearward"]})
    assert nearward("synth", "check", out) == 3
    pl.read_parquet(out).write_parquet(out)
    assert nearward("synth", "check", out) == 3


def test_what_the_user_can_mend_is_exit_code_2(nearward, tmp_path):
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.xlsx") == 2
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.csv", "--accept-risk", "ok") == 2
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.csv", "--train", tmp_path / "t.csv") == 2
