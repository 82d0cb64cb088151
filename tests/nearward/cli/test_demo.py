"""The demo without what it needs; that it runs is tested on the installed command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nearward.tabular.errors import MissingPackage


def test_the_demo_without_lightgbm_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "nearward.cli.demo", raising=False)
    from nearward.cli.demo import run

    with pytest.raises(MissingPackage, match="LightGBM can't be imported here"):
        run(None, None, None, 0, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
