"""Columns over the numbers of all codes, worked by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.events.aggregates import SortedValues
from nearward.tabular.events.all_measurements import columns, summarize

# label 0: code 0 has 10 at 30 h and 3 at 2 h, code 1 has 100 at 1 h; label 2: code 0 has its usual value at 50 h
VALUES = SortedValues(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 0]), np.array([30.0, 2.0, 1.0, 50.0]), np.array([10.0, 3.0, 100.0, 1.0]))
CENTRE, SPREAD = np.array([1.0, 0.0]), np.array([2.0, 8.0])


def test_worked_by_hand() -> None:
    """Distances: 4.5 and 1 of code 0, 12.5 of code 1, which counts as 5."""
    names = [column.name.removeprefix("All measurements: ") for column in columns(("6h", None))]
    table = dict(zip(names, summarize(VALUES, CENTRE, SPREAD, (6.0, np.inf), 3).T.tolist()[0], strict=True))
    assert table == pytest.approx(
        {
            "last from usual": (1 + 5) / 2,
            "codes with an unusual last number": 1,  # 1 is not above 1
            "farthest from usual": (4.5 + 5) / 2,
            "from usual, 6h": (1 + 5) / 2,
            "unusual share, 6h": 1 / 2,
            "from usual": ((4.5 + 1) / 2 + 5) / 2,
            "unusual share": 2 / 3,
        }
    )


def test_labels_without_numbers_have_none() -> None:
    table = summarize(VALUES, CENTRE, SPREAD, (6.0, np.inf), 3)
    assert np.isnan(table[:, 1]).all()
    assert table[:, 2].tolist()[:3] == [0.0, 0.0, 0.0]
    assert np.isnan(table[3:5, 2]).all()  # none within six hours
    assert np.isnan(summarize(VALUES.of_codes(np.array([False, False])), CENTRE, SPREAD, (6.0,), 3)).all()


def test_they_stand_where_codes_are_measured_again_and_again() -> None:
    moment = datetime(2020, 1, 2)
    who = [1, 1, 2, 2]
    events = pl.DataFrame(
        {"subject_id": who, "code": "All measurements", "numeric_value": [1.0, 2.0, 3.0, 9.0]}
        | {"time": [moment - timedelta(hours=hours) for hours in (1, 2, 1, 2)]}
    )
    labels = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [moment] * 2})
    features = nw.EventFeatures(spans=(None,), min_subjects=1)
    names = features.fit(events, labels).get_feature_names_out().tolist()
    assert names[0] == "All measurements: last from usual"
    assert "All measurements (All measurements): last" in names  # a code of that very name
    assert len(set(names)) == len(names)
    facts = events.unique("subject_id", keep="first").with_columns(code=pl.lit("Height"))
    assert features.fit(facts, labels).get_feature_names_out().tolist() == ["Height"]
