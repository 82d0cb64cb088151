from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from nearward.tabular.errors import InputError, MissingColumns, RuleError
from nearward.tabular.rules.rules import KINDS, Depends, Domain, Evidence, Implies, Linear, MissingTogether, Order, Range, Rules
from nearward.tabular.rules.yaml_io import from_yaml, read_rules, to_yaml, write_rules

FRAME = pl.DataFrame(
    {
        "age": [50, 130, None, 70],
        "dbp": [80.0, 90.0, 100.0, None],
        "sbp": [120.0, 80.0, None, None],
        "ward": ["ICU", "ICU", "medical", None],
        "unit": ["A", "C", "C", "B"],
        "total": [200.0, 170.0, 1.0, None],
    }
)
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
    )
)


@pytest.mark.parametrize(
    ("number", "broken"),
    [
        (0, [False, True, False, False]),  # 130 is out of range; a missing age is not
        (1, [False, False, True, False]),
        (2, [False, False, True, False]),  # both missing is together, too
        (3, [False, True, False, False]),
        (4, [False, True, False, False]),  # C belongs to medical
        (5, [False, True, False, False]),
        (6, [False, False, True, False]),
        (7, [False, False, False, False]),  # 80 + 120 and 90 + 80; the others lack a term
    ],
)
def test_each_kind_by_hand(number, broken):
    assert EVERY.violations(FRAME)[:, number].tolist() == broken


def test_linear_beyond_its_tolerance():
    off = FRAME.with_columns(pl.col("total") + 0.6)
    assert EVERY.violations(off)[:, 7].tolist() == [True, True, False, False]


def test_whole_numbers_and_booleans_are_levels_whatever_their_dtype():
    rule = Rules((Domain("flag", ("1",)),))
    for flags in ([1, 2], [1.0, 2.0], ["1", "2"]):
        assert rule.violations(pl.DataFrame({"flag": flags}))[:, 0].tolist() == [False, True]
    assert Rules((Domain("flag", ("true",)),)).violations(pl.DataFrame({"flag": [True, False]}))[:, 0].tolist() == [False, True]


def test_lazy_frames_are_read_and_missing_columns_named():
    assert EVERY.violations(FRAME.lazy()).shape == (4, 8)
    with pytest.raises(MissingColumns, match="did you mean 'sbp'"):
        Rules((Order("dbp", "sbpp"),)).violations(FRAME)
    with pytest.raises(InputError, match="'ward' must be a number"):
        Rules((Range("ward", 0, 1),)).violations(FRAME)


def test_the_users_rule_comes_first_and_none_is_said_twice():
    mined, user = Range("age", 0, 120, evidence=Evidence("mined")), Range("age", 0, 120)
    (only,) = Rules((mined,)) + Rules((user,))
    assert only.evidence.source == "user"


def test_file_and_back(tmp_path):
    path = tmp_path / "rules.yaml"
    write_rules(EVERY, path)
    again = read_rules(path)
    assert again == EVERY
    assert [rule.evidence for rule in again] == [rule.evidence for rule in EVERY]
    assert path.stat().st_mode & 0o077 == 0  # bounds and levels come from patients


@pytest.mark.parametrize("odd", ["=", "=1+1", "yes", "true", "1", "<script>", "a: b", "- x", "é", "", "null"])
def test_odd_levels_survive_the_file(odd):
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
        ("format: [", "is not YAML: look at line"),
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


def test_unquoted_whole_numbers_are_levels():
    (rule,) = from_yaml("format: nearward-rules/1\nrules: [{kind: domain, column: a, levels: [1, 2.0, x]}]")
    assert rule.levels == ("1", "2", "x")
