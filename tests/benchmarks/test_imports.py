"""Every name of nearward that a benchmark uses exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def names_from_the_package(source: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each name that a script uses of nearward, by import or as an attribute of an imported module."""
    tree, alias = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nearward":
            for one in node.names:
                yield node.module, one.name
                alias[one.asname or one.name] = f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            alias |= {one.asname: one.name for one in node.names if one.asname and one.name.split(".")[0] == "nearward"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in alias:
            yield alias[node.value.id], node.attr


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.relative_to(BENCHMARKS).as_posix())
def test_names_that_benchmarks_use_exist(path: Path) -> None:
    for module, name in names_from_the_package(path.read_text(encoding="utf-8")):
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError:
            continue  # the attribute of a class or function, not of a module
        assert hasattr(loaded, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module}.{name}"
