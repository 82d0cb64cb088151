"""What the documentation shows, runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's Python blocks in order, as one program; ``python no-run`` marks those that only show."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for block in BLOCK.finditer(text) if block["info"] != "no-run"]
    if not blocks and page.parent.name != "guide":
        pytest.skip("no Python example on this page")
    assert blocks, "a page of the guide begins with an example that runs"
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        above = "\n" * text.count("\n", 0, block.start("code"))  # tracebacks show the page's own lines
        exec(compile(above + block["code"], str(page), "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_are_wrapped(page: Path) -> None:
    prose = [line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith(("|", "!", "<!--", "    "))]
    assert not [line for line in prose if len(line) > 120 and " " in line.strip()]


def test_tests_that_the_documentation_names_are_there() -> None:
    named = re.findall(r"`(?:(test_\w+\.py): )?(test_\w+)`", (ROOT / "docs" / "reference" / "synthesizer.md").read_text())
    assert len(named) >= 8
    for file, name in named:
        assert any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob(file)), (file, name)
