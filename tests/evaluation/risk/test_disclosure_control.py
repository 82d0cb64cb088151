"""Small-count suppression: by hand, and no small count follows by subtraction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearward.evaluation.risk.disclosure_control import suppress_small_counts


def test_suppression_by_hand() -> None:
    rows, events = np.array([500, 300, 60, 200]), np.array([50, 30, 3, 40])
    rows_suppressed, suppressed = suppress_small_counts(rows, events)
    assert suppressed.tolist() == [False, True, True, False]  # the third is small; the second is the next smallest by events
    assert not rows_suppressed.any()  # 60 rows identify no patient
    rows_suppressed, suppressed = suppress_small_counts(np.array([500, 300, 8]), np.array([50, 30, 2]))
    assert rows_suppressed.tolist() == [False, True, True]
    assert suppressed.tolist() == [False, True, True]
    assert not suppress_small_counts(np.array([100, 100]), np.array([10, 90]))[1].any()
    assert suppress_small_counts(np.array([100, 100]), np.array([95, 50]))[1].all()  # 5 rows without the event


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_nothing_small_follows_by_subtraction(counts) -> None:
    events, non_events = (np.array(column) for column in zip(*counts, strict=True))
    rows = events + non_events
    rows_suppressed, suppressed = suppress_small_counts(rows, events)
    assert (suppressed | ~rows_suppressed).all()
    assert (rows[~rows_suppressed] >= 10).all()
    assert (events[~suppressed] >= 10).all()
    assert (non_events[~suppressed] >= 10).all()
    for mask, sums in ((rows_suppressed, [rows]), (suppressed, [events, non_events])):
        if mask.any() and not mask.all():  # what the total less the shown leaves is several parts, and 10 or more
            assert mask.sum() >= 2
            assert all(count[mask].sum() >= 10 for count in sums)
