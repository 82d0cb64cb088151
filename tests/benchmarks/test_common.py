"""The benchmark's own arithmetic, against scikit-learn and cases worked by hand."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scoring():
    return importlib.import_module("benchmarks.common.paired_metrics")


def test_weighted_auprc_is_scikit_learns(scoring):
    draw = np.random.default_rng(0)
    for decimals in (1, 8):  # with ties and without
        outcome = (draw.random(300) < 0.1).astype(int)
        risk = np.round(draw.random(300), decimals)
        weight = draw.integers(0, 4, 300).astype(float)
        expected = average_precision_score(outcome, risk, sample_weight=weight)
        assert scoring.Ranking(outcome, risk).auprc(weight) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_by_hand(scoring):
    outcome, risk = np.array([0, 1, 1, 1]), np.array([0.05, 0.05, 0.95, 0.85])
    expected = (2 * abs(0.5 - 0.05) + abs(1 - 0.95) + abs(1 - 0.85)) / 4
    assert scoring.figures(outcome, risk)["ece"] == pytest.approx(expected)


def test_faultless_risks_show_the_error_that_chance_gives(scoring):
    draw = np.random.default_rng(1)
    risk = draw.random(2000) ** 3
    found = np.mean([scoring.figures((draw.random(2000) < risk).astype(int), risk)["ece"] for _ in range(50)])
    assert scoring.expected_error(risk) == pytest.approx(found, rel=0.1)


def test_paired_interval_of_a_model_with_itself_is_zero_and_of_a_better_one_positive(scoring):
    draw = np.random.default_rng(2)
    outcome = (draw.random(800) < 0.2).astype(int)
    good, bad = outcome + draw.normal(0, 0.7, 800), outcome + draw.normal(0, 3.0, 800)
    group = np.repeat(np.arange(400), 2)
    found = scoring.paired_intervals([outcome], [group], [good], {"itself": [good], "worse": [bad]})
    assert found["itself"] == (0.0, 0.0, 0.0)
    assert 0 < found["worse"][1] < found["worse"][0] < found["worse"][2]


def named_of_the_package(source: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of what a script takes from nearward, by import or as an attribute of an imported module."""
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
def test_what_benchmarks_take_from_the_package_is_there(path):
    for module, name in named_of_the_package(path.read_text(encoding="utf-8")):
        try:
            held = importlib.import_module(module)
        except ModuleNotFoundError:
            continue  # the attribute of a class or function, not of a module
        assert hasattr(held, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module}.{name}"
