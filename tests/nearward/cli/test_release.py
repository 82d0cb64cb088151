from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest

from nearward.cli import main as cli
from nearward.cli import release
from nearward.release.audit import AuditRows
from nearward.synth.provenance import read_stamp
from nearward.tabular.errors import InputError
from nearward.tabular.rules.rules import Rules

REASON = "reviewed by the data board"


@pytest.fixture
def nearward(monkeypatch, ward):
    """The command line, with a generator whose samples are its training rows."""
    rows = AuditRows(ward(600, 1), ward(600, 2), "died", 1)
    model = SimpleNamespace(audit_rows=rows, rules=Rules(), seed=0, outcome="died", positive=1, groups=None)
    model.sample = lambda n, where=None, seed=None: rows.train[:n]
    monkeypatch.setattr("nearward.synth.synthesizer.Synthesizer.load", lambda folder: model)
    monkeypatch.setattr("nearward.tabular.persistence.artifact.model_hash", lambda folder: "0" * 64)

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["nearward", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call


def test_a_copy_is_refused_with_exit_code_3_without_accept_risk(nearward, tmp_path, capsys):
    out = tmp_path / "synth.parquet"
    card = ("--report", tmp_path / "card.html", "--json", tmp_path / "card.json")
    assert nearward("synth", "export", tmp_path, "-n", 600, "--out", out, *card) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"card.html", "card.json"}
    assert json.loads((tmp_path / "card.json").read_text())["passed"] is False
    captured = capsys.readouterr()
    assert "FAITH-style card" in captured.out
    assert "Inference resistance failed" in captured.err
    assert "export refused" in captured.err
    assert nearward("synth", "export", tmp_path, "-n", 600, "--out", out, "--accept-risk", REASON) == 0
    assert read_stamp(out)["accepted_risk"]["reason"] == REASON
    capsys.readouterr()
    assert nearward("synth", "check", out) == 0
    output = capsys.readouterr().out
    assert REASON in output
    assert "did NOT pass" in output
    stamp = read_stamp(out)
    assert f"the event: {stamp['audit']['outcome']} is {stamp['audit']['event']}" in output
    pl.read_parquet(out)[:-1].write_parquet(out, metadata={"nearward": pl.read_parquet_metadata(out)["nearward"]})
    assert nearward("synth", "check", out) == 3
    pl.read_parquet(out).write_parquet(out)
    assert nearward("synth", "check", out) == 3


def test_user_errors_have_exit_code_2(nearward, tmp_path):
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.xlsx") == 2
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.csv", "--accept-risk", "ok") == 2
    assert nearward("synth", "export", tmp_path, "--out", tmp_path / "a.csv", "--train", tmp_path / "t.csv") == 2


def audit_rows(folder, model, train=None, holdout=None):
    """The rows of an export's audit, for tables written to files."""
    paths = []
    for name, frame in (("train", train), ("holdout", holdout)):
        path = None if frame is None else folder / f"{name}.parquet"
        if path is not None:
            frame.write_parquet(path)
        paths.append(path)
    return release._audit_rows(model, *paths)


def test_a_holdout_alone_keeps_the_generators_training_rows(tmp_path, ward):
    own = AuditRows(ward(60, 1), ward(60, 2), "died", 1, steered=ward(60, 3))
    model = SimpleNamespace(audit_rows=own, outcome="died", positive=1, groups=None)
    rows = audit_rows(tmp_path, model, holdout=ward(80, 4))
    assert rows.train.equals(own.train)
    assert rows.steered.equals(own.steered)
    assert rows.holdout.equals(ward(80, 4))
    assert audit_rows(tmp_path, model) is None
    for more in ({}, {"holdout": ward(80, 4)}):
        with pytest.raises(InputError, match="--train: the generator's folder already holds the rows"):
            audit_rows(tmp_path, model, train=ward(80, 5), **more)


def test_a_folder_without_rows_needs_both(tmp_path, ward):
    model = SimpleNamespace(audit_rows=None, outcome="died", positive=1, groups=None)
    rows = audit_rows(tmp_path, model, ward(80, 5), ward(80, 4))
    assert rows.train.equals(ward(80, 5))
    assert rows.steered is None
    for alone in ({"train": ward(80, 5)}, {"holdout": ward(80, 4)}):
        with pytest.raises(InputError, match="needed together"):
            audit_rows(tmp_path, model, **alone)
