"""The documentation site, as far as it can be tested without Sphinx: `make docs` builds it, with warnings as errors."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import nearward as nw

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
_spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
assert _spec is not None
assert _spec.loader is not None
conf = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(conf)


def test_every_page_is_in_the_contents() -> None:
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    listed = set(re.findall(r"^\w+/[\w-]+$", conf.contents(), re.MULTILINE))
    assert pages - listed == {"index"}


def test_every_public_name_is_in_the_api() -> None:
    assert {name for name in nw.__all__ if name != "__version__"} == set(re.findall(r"^   nearward\.(\w+)$", conf.api(), re.MULTILINE))


def test_links_that_leave_the_site_become_text() -> None:
    page = DOCS / "guide" / "judge-a-risk.md"
    text = (
        "[code](../../evaluation/risk/metrics.py), [words](../reference/glossary.md#risk), [web](https://a.org), ![p](../pictures/rare.svg)"
    )
    assert conf.plain_links(text, page) == text.replace("[code](../../evaluation/risk/metrics.py)", "code")


def test_there_are_eight_examples() -> None:
    assert [path.name[0] for path in EXAMPLES] == list("12345678")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_and_uses_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title, underline = (ast.get_docstring(tree) or "").splitlines()[:2]
    assert underline == "=" * len(title)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nw"}
    assert used
    assert used <= {*nw.__all__, "datasets"}
    assert "plt.show()" in path.read_text(encoding="utf-8"), "an example has a picture"


def test_what_the_examples_import_is_installed_with_the_documentation() -> None:
    """Rebalancing needs imbalanced-learn: without it `make docs` fails in a new environment."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rebalanced = any('sampler="under"' in path.read_text(encoding="utf-8") for path in EXAMPLES)
    assert rebalanced == ("nearward[imbalanced]" in project["optional-dependencies"]["docs"])
