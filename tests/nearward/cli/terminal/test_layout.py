"""Tables on narrow terminals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.cli.terminal.layout import fit_to_width

NAMES = ["column", "role", "kind", "unit", "block", "values"]
ROWS = [
    ["creatinine_phosphokinase", "feature", "number", "", "", "47 to 4540"],
    ["admission_type_id", "feature", "category", "", "", "8 categories: 1, 2, 3"],
]


@pytest.mark.parametrize("width", [20, 30, 40, 80, 200])
def test_a_table_fits_any_width_and_breaks_no_word(width: int) -> None:
    text = fit_to_width(NAMES, ROWS, [False] * 6, width)
    assert all(len(line) <= max(width, 2 + len("creatinine_phosphokinase")) for line in text.splitlines())
    words = text.split()
    assert {"creatinine_phosphokinase", "admission_type_id", "categories:"} <= {*words}
    assert "unit" not in words
    assert "block" not in words


def test_wide_tables_become_blocks() -> None:
    assert fit_to_width(["a", "n"], [["one two", "1"], ["three", "2"]], [False, True], 8) == "a      n\n-----  -\none    1\ntwo\nthree  2"
    assert fit_to_width(["name", "n"], [["one", "1"], ["three", "2"]], [False, True], 7) == "name\n  one\nn  1\n\nname\n  three\nn  2"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text("ab ", max_size=12), min_size=3, max_size=3), max_size=4), st.integers(1, 60))
def test_no_word_is_lost(rows: list[list[str]], width: int) -> None:
    text = fit_to_width(["x", "y", "z"], rows, [False, False, True], width)
    assert sorted(word for row in rows for cell in row for word in cell.split()) == sorted(
        word for word in text.split() if set(word) <= {"a", "b"}
    )
