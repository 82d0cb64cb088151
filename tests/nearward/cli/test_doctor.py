"""What a bug report needs, without a path of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nearward
from nearward.cli.main import app
from nearward.tabular.backbones import weights
from nearward.tabular.errors import InputError


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights as they are on a machine with TabPFN's file; without importing the packages."""

    def absent(_: object) -> Path:
        raise InputError("not installed")

    monkeypatch.setattr(weights, "find_tabpfn", lambda _: Path("/home/somebody/tabpfn.ckpt"))
    monkeypatch.setattr(weights, "find_tabicl", absent)


def test_it_says_what_is_installed_and_names_no_folder() -> None:
    done = CliRunner().invoke(app, ["doctor", "--no-test", "--json", "-"])
    facts = json.loads(done.stdout)
    assert facts["machine"]["nearward"] == nearward.__version__
    assert "of which nearward uses" in facts["machine"]["cores"]
    assert facts["packages"]["polars"][0].isdigit()
    assert "searches on" in facts["gpu"]["FAISS"]
    assert facts["gpu"]["exact search, encoder training"].startswith("on the ")
    assert facts["weights"]["embedded"].startswith("shipped, ")
    assert facts["weights"]["TabPFN"] == "found: tabpfn.ckpt"
    assert facts["weights"]["TabICL"] == "package not installed"
    assert "somebody" not in done.output


def test_its_self_test_fails_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    from nearward.risk_model.classifier import RiskClassifier

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(RiskClassifier, "fit", broken)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 3
    assert "FAILED: RuntimeError: no such instruction" in " ".join(done.output.split())
