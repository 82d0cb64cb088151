from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.evaluation.privacy_attacks.edit_distance import edit_distance, row_texts

WORDS = st.lists(st.text("abcé|", max_size=9), min_size=1, max_size=6)


def slow(a: str, b: str) -> int:
    """The recursion, straight from its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))


@settings(max_examples=25, deadline=None)
@given(WORDS, st.randoms())
def test_is_the_recursion(words, random):
    words = [word[:5] for word in words]
    others = [word[:5] for word in random.sample(words, len(words))]
    rows = [row_texts(pl.DataFrame({"w": pl.Series(side, dtype=pl.String)})) for side in (words, others)]
    assert edit_distance(*rows).tolist() == [slow(a, b) for a, b in zip(words, others, strict=True)]


def test_rows_are_cells_in_order():
    frame = pl.DataFrame({"age": [61.0, None], "sex": ["f", "m"], "ph": [7.35123, 7.0]})
    rows = row_texts(frame)
    assert ["".join(chr(c) for c in row if c) for row in rows] == ["61|f|7.351", "|m|7"]
    assert edit_distance(rows, rows).tolist() == [0, 0]
    assert edit_distance(rows[:1], rows[1:]).tolist() == [7]  # 61 and .351 go, and f becomes m
