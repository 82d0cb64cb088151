"""Rules as YAML: a round trip, and files that cannot be rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearward.tabular.errors import RuleError
from nearward.tabular.rules.kinds import (
    KINDS,
    Depends,
    Domain,
    ExactlyOne,
    Implies,
    Linear,
    MissingTogether,
    MissingWhere,
    Order,
    Product,
    Range,
    RangeWhere,
)
from nearward.tabular.rules.rule import Evidence
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import from_yaml, read_rules, to_yaml, write_rules

EVERY = Rules(
    (
        Range("age", 0, 120, evidence=Evidence("mined", 500, 1, 0.0094)),
        Domain("ward", ("ICU", "surgical")),
        MissingTogether(("dbp", "sbp")),
        Order("dbp", "sbp"),
        Depends("ward", "unit", (("A", "ICU"), ("B", "ICU"), ("C", "medical"))),
        Implies("ward", "ICU", "unit", "A"),
        Implies("ward", "medical", "unit", "C", never=True),
        Linear("total", (("dbp", 1.0), ("sbp", 1.0)), tolerance=0.5),
        Product("bmi", (("kg", 1.0), ("cm", -2.0)), 10_000.0, 0.05),
        ExactlyOne(("home", "ward", "other")),
        RangeWhere("pregnant", "yes", "age", 12.0, 50.0),
        MissingWhere("died", "0", "died_on"),
    )
)


def test_file_and_back(tmp_path):
    path = tmp_path / "rules.yaml"
    write_rules(EVERY, path)
    again = read_rules(path)
    assert again == EVERY
    assert [rule.evidence for rule in again] == [rule.evidence for rule in EVERY]
    assert path.stat().st_mode & 0o077 == 0  # bounds and categories come from patients


@pytest.mark.parametrize("odd", ["=", "=1+1", "yes", "true", "1", "<script>", "a: b", "- x", "é", "", "null"])
def test_odd_names_survive_the_file(odd):
    rules = Rules((Domain(odd, (odd, "other")), Depends("x", "y", ((odd, odd),))))
    assert from_yaml(to_yaml(rules)) == rules


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("rules: []", "its first key must be 'format"),
        ("- 1", "is not a rules file"),
        ("format: nearward-rules/1\nrulez: []", r"unknown keys \['rulez'\]"),
        ("format: nearward-rules/1\nrules: 3", "must be a list"),
        ("format: nearward-rules/1\nrules: [{kind: odd}]", "rule 1: needs a 'kind'"),
        ("format: nearward-rules/1\nrules: [{kind: order, lesser: a, greater: b, tolerance: 1}]", r"unknown keys \['tolerance'\]"),
        ("format: nearward-rules/1\nrules: [{kind: order, lesser: a}]", r"rule 1: lacks \['greater'\]"),
        ("format: nearward-rules/1\nrules: [{kind: range, column: a, low: .nan, high: 1}]", "'low' must be a number"),
        ("format: nearward-rules/1\nrules: [{kind: range, column: a, low: true, high: 1}]", "'low' must be a number"),
        ("format: nearward-rules/1\nrules: [{kind: domain, column: a, levels: [yes, no]}]", "put quotes around yes"),
        ("format: nearward-rules/1\nrules: [{kind: domain, column: a, levels: f}]", "'levels' must be a list"),
        ("format: nearward-rules/1\nrules: [{kind: linear, column: a, terms: [b]}]", "'terms' must be a mapping"),
        ("format: nearward-rules/1\nrules: [{kind: order, lesser: a, greater: b, source: guess}]", "'source' must be mined or user"),
        ("format: nearward-rules/1\nrules: [{kind: order, lesser: a, greater: b, rows: 1.5}]", "'rows' must be a whole number"),
        ("format: [", "is not YAML: see line"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_files_that_cannot_be_rules(body, message):
    with pytest.raises(RuleError, match=message):
        from_yaml(body)


def test_the_file_that_the_documentation_shows_is_one():
    text = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "faith-card.md").read_text(encoding="utf-8")
    rules = from_yaml(text.split("```yaml\n")[1].split("```")[0])
    assert {rule.kind for rule in rules} == set(KINDS)


def test_no_such_file(tmp_path):
    with pytest.raises(RuleError, match="cannot be read: FileNotFoundError"):
        read_rules(tmp_path / "none.yaml")


def test_unquoted_whole_numbers_are_categories():
    (rule,) = from_yaml("format: nearward-rules/1\nrules: [{kind: domain, column: a, levels: [1, 2.0, x]}]")
    assert rule.levels == ("1", "2", "x")


def test_bounds_may_be_dates():
    (rule,) = from_yaml("format: nearward-rules/1\nrules: [{kind: range, column: a, low: 1970-01-02, high: 1970-01-03 12:00:00}]")
    assert (rule.low, rule.high) == (1.0, 2.5)
