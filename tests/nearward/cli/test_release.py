from __future__ import annotations

import sys
from types import SimpleNamespace

import polars as pl
import pytest

from nearward.cli import main as cli
from nearward.cli import release as leaving
from nearward.release.audit import AuditRows
from nearward.synth.provenance import read_stamp
from nearward.tabular.errors import InputError
from nearward.tabular.rules.rules import Rules

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


def given(folder, model, train=None, holdout=None):
    """What the export would judge by, of tables written to files."""
    paths = []
    for name, frame in (("train", train), ("holdout", holdout)):
        path = None if frame is None else folder / f"{name}.parquet"
        if path is not None:
            frame.write_parquet(path)
        paths.append(path)
    return leaving._rows(model, *paths)


def test_a_holdout_alone_leaves_the_generators_own_members_in(tmp_path, ward):
    held = AuditRows(ward(60, 1), ward(60, 2), "died", 1, steered=ward(60, 3))
    model = SimpleNamespace(audit_rows=held, outcome="died", positive=1, groups=None)
    rows = given(tmp_path, model, holdout=ward(80, 4))
    assert rows.train.equals(held.train)
    assert rows.steered.equals(held.steered)
    assert rows.holdout.equals(ward(80, 4))
    assert given(tmp_path, model) is None
    for more in ({}, {"holdout": ward(80, 4)}):
        with pytest.raises(InputError, match="--train: the generator's folder holds the rows"):
            given(tmp_path, model, train=ward(80, 5), **more)


def test_a_folder_without_rows_needs_both(tmp_path, ward):
    model = SimpleNamespace(audit_rows=None, outcome="died", positive=1, groups=None)
    rows = given(tmp_path, model, ward(80, 5), ward(80, 4))
    assert rows.train.equals(ward(80, 5))
    assert rows.steered is None
    for alone in ({"train": ward(80, 5)}, {"holdout": ward(80, 4)}):
        with pytest.raises(InputError, match="come together"):
            given(tmp_path, model, **alone)
