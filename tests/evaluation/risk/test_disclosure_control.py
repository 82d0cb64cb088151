"""Withholding: by hand, and that nothing small follows by subtraction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearward.evaluation.risk.disclosure_control import suppress_small_counts


def test_by_hand_which_are_withheld() -> None:
    rows, events = np.array([500, 300, 60, 200]), np.array([50, 30, 3, 40])
    rows_hidden, hidden = suppress_small_counts(rows, events)
    assert hidden.tolist() == [False, True, True, False]  # the third is small; the second is the next smallest by events
    assert not rows_hidden.any()  # 60 rows name nobody
    rows_hidden, hidden = suppress_small_counts(np.array([500, 300, 8]), np.array([50, 30, 2]))
    assert rows_hidden.tolist() == [False, True, True]
    assert hidden.tolist() == [False, True, True]
    assert not suppress_small_counts(np.array([100, 100]), np.array([10, 90]))[1].any()
    assert suppress_small_counts(np.array([100, 100]), np.array([95, 50]))[1].all()  # 5 rows without the event


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_nothing_small_follows_by_subtraction(counts) -> None:
    events, free = (np.array(column) for column in zip(*counts, strict=True))
    rows = events + free
    rows_hidden, hidden = suppress_small_counts(rows, events)
    assert (hidden | ~rows_hidden).all()
    assert (rows[~rows_hidden] >= 10).all()
    assert (events[~hidden] >= 10).all()
    assert (free[~hidden] >= 10).all()
    for concealed, sums in ((rows_hidden, [rows]), (hidden, [events, free])):
        if concealed.any() and not concealed.all():  # what the total less the shown leaves is several parts, and 10 or more
            assert concealed.sum() >= 2
            assert all(count[concealed].sum() >= 10 for count in sums)
