"""What the documentation shows, runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
PACKAGES = ["nearward", "nearward.tabular", "nearward.retrieval", "nearward.synth", "nearward.evaluation"]
# one package at a time: in an editable install nearward's own path does not lead to the other four
MODULES = sorted(
    {*PACKAGES}
    | {module.name for package in PACKAGES for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")}
)
BLOCK = re.compile(r"^```python *(?P<info>.*)\n(?P<code>(?s:.*?))^```$", re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the README's Python blocks in order, as one program; ``python no-run`` marks those that only show."""
    text = README.read_text()
    blocks = [block for block in BLOCK.finditer(text) if block["info"] != "no-run"]
    assert blocks, "README.md has no ```python block to run"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        above = "\n" * text.count("\n", 0, block.start("code"))  # tracebacks show the README's own lines
        exec(compile(above + block["code"], str(README), "exec"), names)


def test_tests_that_the_documentation_names_are_there() -> None:
    named = re.findall(r"`(?:(test_\w+\.py): )?(test_\w+)`", (README.parent / "docs" / "reference" / "synthesizer.md").read_text())
    assert len(named) >= 8
    for file, name in named:
        assert f"def {name}(" in (README.parent / "tests" / file).read_text(), (file, name)
